"""Takes part in orders: brings coupons to what the facts of an order say, in whatever order those arrived."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Crossed, Tx
from growth.rewards.coupon.model import Coupon
from growth.rewards.coupon.payment import store
from growth.rewards.coupon.payment.model import NOT_FOUND, CouponDecision, CouponInOrder, decide
from growth.vocabulary.alike import alike
from growth.vocabulary.events.coupon import CouponRefundRequired, CouponReturned, CouponUsed
from growth.vocabulary.ids import UUID_PATTERN
from growth.vocabulary.orders import LineOutcome, Order, OrderLine, Outcome

MAX_LOOKS = 5
"""Each look but the last found that another order was quicker; then the shop delivers again."""

COUPON = "coupon.coupon"
"""The kind of use of a line that was bought with a coupon."""

_is_uuid = re.compile(UUID_PATTERN).match


class CouponSettlement:
    """The coupons' part in orders."""

    kinds = frozenset({COUPON})

    def may_concern(self, order: Order) -> bool:
        """Say whether it may have been placed with a coupon, and then paid without: that is given back."""
        return order.is_paid and order.placed_at is not None

    async def settle(self, tx: Tx, orders: Sequence[Order], now: datetime) -> Mapping[str, Sequence[LineOutcome]]:
        """Settle the lines that were bought with coupons, one coupon after the other in the order of their ids."""
        told: dict[str, list[LineOutcome]] = {}
        found: list[tuple[str, Order, Sequence[OrderLine], CouponInOrder | None, Mapping[str, str]]] = []
        for order in orders:
            lines: dict[str, list[OrderLine]] = {}
            for line in order.lines:
                coupon_id = line.used(COUPON)
                if coupon_id is not None:
                    lines.setdefault(coupon_id, []).append(line)
            coupon_ids = [coupon_id for coupon_id in lines if _is_uuid(coupon_id)]
            known = await store.find_for_order(tx, coupon_ids, order.order_id)
            owed = await store.refunds_of_order(tx, order.order_id) if order.is_paid and lines else {}
            found += [(one, order, lines.get(one, []), known.get(one), owed) for one in {*lines, *known}]
        settled = set[str]()
        for coupon_id, order, mine, known_then, reasons in sorted(found, key=lambda one: one[0]):
            before = known_then
            if coupon_id in settled:
                # The order before may have changed it.
                before = (await store.find_for_order(tx, [coupon_id], order.order_id)).get(coupon_id)
            settled.add(coupon_id)
            verdict, standing = await self._bring(tx, order, mine, coupon_id, before, reasons, now)
            if verdict.step == "use" and reasons:
                await store.owe_no_more(tx, order.order_id, coupon_id)
            said = [await self._told(tx, order, line, standing, verdict, now) for line in mine]
            told.setdefault(order.order_id, []).extend(said)
        return told

    async def _bring(
        self,
        tx: Tx,
        order: Order,
        lines: Sequence[OrderLine],
        coupon_id: str,
        standing: CouponInOrder | None,
        owed: Mapping[str, str],
        now: datetime,
    ) -> tuple[CouponDecision, CouponInOrder | None]:
        """Take the step that the order asks for; look again where another order was quicker."""
        for _ in range(MAX_LOOKS):
            verdict = decide(order, lines, standing, owed, now)
            if standing is None or verdict.step == "nothing":
                return verdict, standing
            if await self._step(tx, order, lines, standing.coupon, verdict, now):
                return verdict, standing
            standing = (await store.find_for_order(tx, [coupon_id], order.order_id)).get(coupon_id)
        raise Crossed("the coupon keeps changing hands")

    async def _step(
        self, tx: Tx, order: Order, lines: Sequence[OrderLine], coupon: Coupon, verdict: CouponDecision, now: datetime
    ) -> bool:
        assert order.user_id is not None, "an order with lines has a shopper"
        if verdict.step == "lock":
            assert order.placed_at is not None
            return await store.lock(tx, coupon.coupon_id, order.order_id, order.user_id, order.placed_at, now)
        if verdict.step == "use":
            paid_fen = sum(line.paid_fen for line in lines)
            if not await store.use(tx, coupon.coupon_id, order.order_id, order.user_id, paid_fen, now):
                return False
            await emit(tx, alike(CouponUsed, coupon, at=now, order_id=order.order_id, paid_fen=paid_fen))
            return True
        state = await store.give_back(tx, coupon.coupon_id, order.order_id, now)
        if state is None:
            return False
        await emit(tx, alike(CouponReturned, coupon, at=now, order_id=order.order_id, state=state))
        return True

    async def _told(
        self,
        tx: Tx,
        order: Order,
        line: OrderLine,
        standing: CouponInOrder | None,
        verdict: CouponDecision,
        now: datetime,
    ) -> LineOutcome:
        if not verdict.code:
            return LineOutcome(line.line_id, Outcome.APPLIED)
        if not order.is_paid or standing is None:
            detail = "There is no such coupon." if verdict.code == NOT_FOUND else ""
            return LineOutcome(line.line_id, Outcome.REJECTED, verdict.code, detail)
        if line.is_refunded:
            return LineOutcome(line.line_id, Outcome.APPLIED, verdict.code)
        await self._owe(tx, order, line, standing.coupon, verdict.code, now)
        return LineOutcome(line.line_id, Outcome.REFUND_REQUIRED, verdict.code)

    async def _owe(self, tx: Tx, order: Order, line: OrderLine, coupon: Coupon, why: str, now: datetime) -> None:
        """Tell, of each reason once, that the line must be paid back."""
        amount_fen = line.left_fen
        if not await store.require_refund(tx, order.order_id, line.line_id, coupon.coupon_id, why, amount_fen, now):
            return
        assert order.user_id is not None
        told = {"order_id": order.order_id, "buyer_id": order.user_id, "reason": why, "amount_fen": amount_fen}
        await emit(tx, alike(CouponRefundRequired, coupon, line, at=now, **told))
