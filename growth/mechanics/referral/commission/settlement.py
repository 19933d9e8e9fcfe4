"""What the shop's orders make of commissions: each brought to what the facts say, and the ledger with it."""

from collections.abc import Collection, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from growth.mechanics.referral.commission import model
from growth.mechanics.referral.commission.model import Commission
from growth.mechanics.referral.commission.service import Change, book
from growth.mechanics.referral.commission.store import caps
from growth.mechanics.referral.commission.store import commissions as store
from growth.mechanics.referral.relation.model import CLOCKS_APART
from growth.mechanics.referral.relation.store import relations_in_force
from growth.mechanics.referral.service import terms_of
from growth.plumbing.postgres.database import Tx
from growth.shop.order.service import kept_orders
from growth.vocabulary.ids import is_alias
from growth.vocabulary.orders import Order

Changes = tuple[Sequence[Change], Sequence[Change]]
"""Of commissions that were begun, and of those that were known."""


class CommissionSettlement:
    """Pays inviters for lines that were paid, and takes back what was paid back.

    Acts on paid orders alone; a refund or a receipt told before the payment counts when that is told.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone

    async def settle_orders(self, tx: Tx, orders: Sequence[Order], now: datetime) -> None:
        """Bring the commissions of paid orders of different payers to their facts."""
        settled = [await self._order(tx, order, now) for order in orders]
        # At once: the ledger takes its accounts in one order.
        await _book(tx, settled, now)

    async def _order(self, tx: Tx, order: Order, now: datetime) -> Changes:
        assert order.user_id is not None
        known = await store.find_of_order(tx, order.order_id)
        begun = [] if known else await self._begun(tx, order, now)
        rivals: list[Commission] = []
        # An order that earns nothing may say that the invitee was no newcomer when bound.
        if any(one.kind == "fixed" for one in begun) or await store.has_fixed(tx, order.user_id):
            # Before any row is locked: orders of one payer look at each other's.
            await store.take_turn(tx, order.user_id)
            rivals = await store.lock(tx, await store.find_rivals(tx, order.user_id, order.order_id))
        if known:
            known = await store.lock(tx, [one.commission_id for one in known])
        beside_facts = [model.with_facts(one, order, await self._min_order_fen(tx, one)) for one in [*begun, *known]]
        return await self._changes(tx, begun, [*known, *rivals], [*beside_facts, *rivals])

    async def settle_invitee(self, tx: Tx, invitee_id: str, now: datetime) -> None:
        """Choose an invitee's first order once more: who was a newcomer, or which orders there are, changed."""
        if await store.has_fixed(tx, invitee_id):
            await store.take_turn(tx, invitee_id)
            firsts = await store.lock(tx, await store.find_rivals(tx, invitee_id, ""))
            await _book(tx, [await self._changes(tx, [], firsts, firsts)], now)

    async def settle_united(self, tx: Tx, invitee_id: str, now: datetime) -> None:
        """Let orders earn that are an invitee's since two ids were merged, and choose the first order once more."""
        since = await store.first_bound_at(tx, invitee_id)
        if since is not None:
            async for order in kept_orders(tx, invitee_id, since - CLOCKS_APART):
                if not await store.find_of_order(tx, order.order_id):
                    await self.settle_orders(tx, [order], now)
        await self.settle_invitee(tx, invitee_id, now)

    async def _changes(
        self,
        tx: Tx,
        begun: Sequence[Commission],
        known: Sequence[Commission],
        beside_facts: Sequence[Commission],
    ) -> Changes:
        """Return what facts make of commissions: of those just begun, and then of those known and locked."""
        if not beside_facts:
            return [], []
        fixed = {one.relation_id for one in beside_facts if one.kind == "fixed"}
        old = await store.old_among(tx, fixed) if fixed else frozenset[str]()
        after = model.priced(await self._granted(tx, beside_facts, old), old)
        changed = zip(known, after[len(begun) :], strict=True)
        return (
            list(zip(begun, after[: len(begun)], strict=True)),
            [(one, other) for one, other in changed if one != other],
        )

    async def _begun(self, tx: Tx, order: Order, now: datetime) -> list[Commission]:
        assert order.user_id is not None
        assert order.paid_at is not None
        if is_alias(order.user_id):
            # Nothing is given for what an erased shopper pays.
            return []
        relation = (await relations_in_force(tx, [order.user_id], order.paid_at)).get(order.user_id)
        if relation is None:
            return []
        return model.begun(order, relation, self._zone, now)

    async def _min_order_fen(self, tx: Tx, commission: Commission) -> int:
        """Return what the terms in force at the payment ask of an order that earns a fixed sum."""
        if commission.kind != "fixed":
            return 0
        return (await terms_of(tx, commission.program_id, commission.terms_version)).draft.min_order_fen

    async def _granted(self, tx: Tx, commissions: Sequence[Commission], old: Collection[str]) -> list[Commission]:
        """Return all; those under a cap with what the day leaves to them, now that they are worth more or less.

        The day counts what stands: what one no longer is worth is room for others, and for those that had too little
        and of whose order something is heard later.
        """
        wanted = {one.commission_id: fen for one, fen in zip(commissions, model.wanted(commissions, old), strict=True)}
        capped = [
            (one.inviter_id, one.paid_at.astimezone(self._zone).date(), wanted[one.commission_id], one)
            for one in commissions
            if one.cap_fen is not None and wanted[one.commission_id] != (one.granted_fen or 0)
        ]
        granted: dict[str, int] = {}
        # What gives room first, within one day.
        for inviter_id, day, fen, one in sorted(
            capped, key=lambda each: (*each[:2], each[2] - (each[3].granted_fen or 0))
        ):
            assert one.cap_fen is not None
            granted[one.commission_id] = await caps.take_room(
                tx, inviter_id, day, fen, one.cap_fen, counted_fen=one.granted_fen, stands_fen=one.amount_fen
            )
        return [
            replace(one, granted_fen=granted[one.commission_id]) if one.commission_id in granted else one
            for one in commissions
        ]


async def _book(tx: Tx, settled: Sequence[Changes], now: datetime) -> None:
    added = [change for begun, _ in settled for change in begun]
    changed = [change for _, known in settled for change in known]
    if added or changed:
        await book(tx, added, changed, now)
