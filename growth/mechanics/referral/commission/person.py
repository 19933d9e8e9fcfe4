"""What commissions know of one shopper: told, erased, merged."""

from collections import Counter
from datetime import date, datetime

from msgspec import Struct

from growth.mechanics.referral.commission.model import Commission
from growth.mechanics.referral.commission.service import void
from growth.mechanics.referral.commission.store import commissions as store
from growth.mechanics.referral.commission.store import person
from growth.mechanics.referral.review.model import Reason
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Reader, Tx
from growth.vocabulary.alike import alike
from growth.vocabulary.events.commission import CommissionUnderReview

MAX_TOLD = 100


class CommissionsKnown(Struct, frozen=True):
    """What a shopper earns, and what is earned by a shopper's orders."""

    commissions: list[Commission]
    """The newest 100, both ways."""


async def export(reader: Reader, user_id: str) -> CommissionsKnown:
    """Return what the shopper earns, and what others earn by the shopper's orders."""
    return CommissionsKnown(await person.newest(reader, user_id, MAX_TOLD))


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Put the alias in place: what was earned stays with the books, and what is taken back is taken back from it."""
    await person.rename(tx, user_id, alias)
    await person.move_days(tx, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make commissions of two ids one person's: nothing lost. The one first order is chosen again, see `settlement.py`.

    What the person would earn by an order of their own, and does not have yet, is taken back; what would be earned
    twice by one order waits for an operator. After the relations were merged, and before the ledger is.
    """
    await store.take_turn(tx, user_id)
    doubted = await person.rename(tx, old_user_id, user_id)
    await person.move_days(tx, old_user_id, user_id)
    money = Counter[tuple[str, date]]()
    for one in doubted:
        money[one.inviter_id, one.month] -= one.amount_fen
    await store.count_money(tx, money)
    own = {one.commission_id: one for one in await store.lock(tx, await person.own(tx, user_id))}
    await void(tx, list(own.values()), "self_dealing", now)
    await emit(
        tx,
        *[
            alike(CommissionUnderReview, one, at=now, reasons=[Reason.SAME_PERSON])
            for one in doubted
            if one.commission_id not in own
        ],
    )
