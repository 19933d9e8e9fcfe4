"""What the room knows of one shopper: told, erased, merged."""

from datetime import datetime

from msgspec import Struct

from growth.plumbing.person.owned import rename
from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.ledger import service
from growth.rewards.ledger.model import Currency, LedgerEntry
from growth.rewards.ledger.spending import store as spendings
from growth.rewards.ledger.store import person as store
from growth.vocabulary.alike import alike

MAX_TOLD = 50
"""Entries of each currency."""


class AccountKnown(Struct, frozen=True, kw_only=True):
    """What a shopper has in one currency."""

    currency: Currency
    posted: int
    pending_in: int
    pending_out: int
    entries: list[LedgerEntry]
    """The newest 50."""


class LedgerKnown(Struct, frozen=True):
    """What a shopper has in the books."""

    accounts: list[AccountKnown]


async def export(reader: Reader, user_id: str) -> LedgerKnown:
    """Return what the shopper has and how it came."""
    return LedgerKnown(
        [
            alike(
                AccountKnown,
                balance,
                currency=currency,
                entries=await service.entries(reader, user_id, currency, None, MAX_TOLD),
            )
            for currency, balance in (await service.balances(reader, user_id)).items()
        ]
    )


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Put the alias into the books, amounts as they are: the sum stays zero, and what was owed stays told."""
    await merge_into(tx, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:  # noqa: ARG001 - asked of every room
    """Make the old id's books the new one's: balances add up, what one owed is paid by the other."""
    await merge_into(tx, old_user_id, user_id)


async def merge_into(tx: Tx, old_owner: str, owner: str) -> None:
    """Rename, and let lots fit the balance again."""
    await store.lock(tx, [old_owner, owner])
    await store.rename(tx, old_owner, owner)
    await rename(tx, spendings.OWNED, old_owner, owner)
    await store.settle_lots(tx, owner)
