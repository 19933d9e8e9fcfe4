"""What the clock does to commissions: looked at by risk, and available when their time has come."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from growth.mechanics.referral.commission.model import pending_id
from growth.mechanics.referral.commission.store import caps
from growth.mechanics.referral.commission.store import commissions as store
from growth.mechanics.referral.commission.store.commissions import DueCommission
from growth.mechanics.referral.review.model import Pair
from growth.mechanics.referral.review.service import judge
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Tx
from growth.plumbing.work.periodic import Turn
from growth.rewards.ledger import service as ledger
from growth.vocabulary.alike import alike
from growth.vocabulary.events.commission import CommissionAvailable, CommissionUnderReview

DUE_BATCH = 1_000
"""Commissions made available in one transaction."""
JUDGE_BATCH = 500
"""Commissions judged in one transaction."""
PRUNE_BATCH = 1_000
DAYS_KEPT = timedelta(days=60)
"""So late can the shop tell of a payment, and the cap of its day still holds."""


class CommissionKeeper:
    """Keeps commissions in step with the clock. Each go is one transaction: who dies in it leaves nothing half done."""

    async def judge(self, turn: Turn) -> int:
        """Look at commissions soon after their payment, so that whoever reviews them has time."""
        async with turn.transaction(everyone=True) as tx:
            found = await store.lock_unjudged(tx, JUDGE_BATCH)
            suspicious = await _review(tx, found, turn)
            await store.mark_judged(
                tx, [one.commission_id for one in found if one.commission_id not in suspicious], turn.now
            )
        return len(found)

    async def settle_due(self, turn: Turn) -> int:
        """Make commissions available whose time has come; look at each once more before that.

        A refund at the same moment locks the commission too: it comes before, and less becomes available, or after, and
        takes back what became available.
        """
        async with turn.transaction(everyone=True) as tx:
            due = await store.lock_due(tx, turn.now, DUE_BATCH)
            suspicious = await _review(tx, due, turn)
            clear = [one for one in due if one.commission_id not in suspicious]
            if clear:
                made = await store.make_available(tx, [one.commission_id for one in clear], turn.now)
                assert made == len(clear), "locked, so nobody else changed them"
                worth = [one for one in clear if one.amount_fen]
                holds = {pending_id(one.commission_id, one.revision): None for one in worth}
                posted = await ledger.post(tx, holds, turn.now)
                assert len(posted) == len(holds), "what is pending here is pending there"
                await emit(tx, *[alike(CommissionAvailable, one, at=turn.now) for one in worth])
        return len(due)

    async def forget_days(self, turn: Turn) -> int:
        """Forget what inviters were granted on days long past."""
        async with turn.transaction() as tx:
            return await caps.prune_days(tx, (turn.now - DAYS_KEPT).date(), PRUNE_BATCH)


async def _review(tx: Tx, found: Sequence[DueCommission], turn: Turn) -> Mapping[str, Sequence[str]]:
    """Put what is suspicious to review; return it, with the reasons."""
    pairs = [alike(Pair, one) for one in found if one.amount_fen and not one.is_cleared]
    suspicious = await judge(tx, pairs)
    if not suspicious:
        return {}
    await store.put_to_review(tx, suspicious, turn.now)
    put = [one for one in found if one.commission_id in suspicious]
    money = Counter[tuple[str, date]]()
    for one in put:
        money[one.inviter_id, one.month] -= one.amount_fen
    await store.count_money(tx, money)
    await emit(
        tx,
        *[alike(CommissionUnderReview, one, at=turn.now, reasons=list(suspicious[one.commission_id])) for one in put],
    )
    return suspicious
