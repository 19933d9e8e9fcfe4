"""Points as a means of payment: the shop says what was spent and what came back."""

from datetime import datetime

from growth.plumbing.postgres.database import Tx
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency, Transfer
from growth.rewards.ledger.spending import store
from growth.rewards.ledger.spending.model import coming_back
from growth.vocabulary.ids import HOUSE, derived_id, is_alias, new_id
from growth.vocabulary.refusals import Refusal

SHOP = HOUSE + "shop"

INSUFFICIENT = "points.insufficient"
OTHER_CONTENT = "points.other_content"
NOT_SPENT = "points.not_spent"
MORE_THAN_SPENT = "points.more_than_spent"
ERASED = "shop.erased"


class Spending:
    """What the shop's hooks about points do."""

    async def spend(self, tx: Tx, spend_id: str, user_id: str, points: int, now: datetime) -> str:
        """Take points for `spend_id`, once; return a code if that cannot be: then nothing of it is in `tx`."""
        try:
            async with tx.savepoint():
                return await self._spend(tx, spend_id, user_id, points, now)
        except Refusal:
            return INSUFFICIENT

    async def _spend(self, tx: Tx, spend_id: str, user_id: str, points: int, now: datetime) -> str:
        transfer_id = new_id(now)
        if not await store.add(tx, spend_id, user_id, points, transfer_id, now):
            known = await store.find(tx, spend_id)
            assert known is not None
            return "" if (known["user_id"], known["points"]) == (user_id, points) else OTHER_CONTENT
        await ledger.transfer(
            tx,
            [
                Transfer(
                    transfer_id=transfer_id,
                    debit=user_id,
                    credit=SHOP,
                    currency=Currency.POINTS,
                    amount=points,
                    reason="points.spent",
                    subject=spend_id,
                )
            ],
            now,
        )
        return ""

    async def owner_of(self, tx: Tx, spend_id: str) -> str | None:
        """Return who spent; None for an id that was never heard of."""
        known = await store.find(tx, spend_id)
        return None if known is None else known["user_id"]

    async def give_back(self, tx: Tx, spend_id: str, return_id: str, points: int, now: datetime) -> str:
        """Give points of a spending back, once for each `return_id`; return a code if that cannot be."""
        known = await store.find(tx, spend_id)
        if known is None:
            return NOT_SPENT
        if is_alias(known["user_id"]):
            return ERASED
        before = await store.returned(tx, spend_id, return_id)
        if before is not None:
            return "" if before == points else OTHER_CONTENT
        if not await store.add_return(tx, spend_id, return_id, points, now):
            return MORE_THAN_SPENT
        taken = await store.taken(tx, known["transfer_id"])
        parts = coming_back(taken, known["returned"], points, known["spent_at"], now)
        transfer_id = derived_id(known["transfer_id"], "returned", return_id)
        moved = await ledger.transfer(
            tx,
            [
                Transfer(
                    transfer_id=transfer_id,
                    debit=SHOP,
                    credit=known["user_id"],
                    currency=Currency.POINTS,
                    amount=points,
                    reason="points.returned",
                    subject=spend_id,
                    expires_at=parts[0].expires_at,
                )
            ],
            now,
        )
        if moved:
            await store.part(tx, transfer_id, parts)
        return ""
