"""What the shop's orders make of claims: bound, sold, given back, refunded, or owed back to the shopper, once."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from growth.mechanics.flash_sale.claim import store as claims_store
from growth.mechanics.flash_sale.claim.aftermath import after_release, follow
from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.claim.settlement import model, store
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Tx
from growth.vocabulary.alike import alike
from growth.vocabulary.events.flash_sale import (
    FlashSaleClaimPaid,
    FlashSaleClaimRefunded,
    FlashSaleRefundRequired,
    FlashSaleSoldOut,
)
from growth.vocabulary.ids import UUID_PATTERN
from growth.vocabulary.orders import LineOutcome, Order, OrderLine, Outcome

CLAIM = "flash_sale.claim"
"""The kind of use of a line that pays for a claim."""

_is_uuid = re.compile(UUID_PATTERN).match


class ClaimSettlement:
    """Takes part in orders: brings claims to what the facts of an order say, in whatever order those arrived.

    The facts are read in one order: placed, closed unless paid, paid, refunded. So `closed` after `paid` changes
    nothing, and a refund heard before its payment waits for it.
    """

    kinds = frozenset({CLAIM})

    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    def may_concern(self, order: Order) -> bool:  # noqa: ARG002 - asked of every participant
        """Say no: a claim is paid by the lines that name it."""
        return False

    async def settle(self, tx: Tx, orders: Sequence[Order], now: datetime) -> Mapping[str, Sequence[LineOutcome]]:
        """Settle the lines that pay for claims."""
        named = {claim_id for order in orders for claim_id in _lines_by_claim(order) if _is_uuid(claim_id)}
        claims = await claims_store.lock_claims(tx, sorted(named))
        if len(claims) > 1:
            # Line by line this would lock stock, lapses, and stock again: a ring with whoever locks in order.
            await claims_store.lock_stock(tx, list(claims.values()))
        told: dict[str, Sequence[LineOutcome]] = {}
        settled = set[str]()
        for order in orders:
            by_claim = _lines_by_claim(order)
            if again := settled & claims.keys() & by_claim.keys():
                # The order before may have changed them.
                claims |= await claims_store.lock_claims(tx, sorted(again))
            settled |= by_claim.keys()
            outcomes: dict[str, LineOutcome] = {}
            for claim_id, mine in by_claim.items():
                for one in await self._claim(tx, order, mine, claims.get(claim_id), now):
                    outcomes[one.line_id] = one
            told[order.order_id] = [outcomes[line.line_id] for line in order.lines if line.line_id in outcomes]
        return told

    async def _claim(
        self, tx: Tx, order: Order, lines: Sequence[OrderLine], claim: Claim | None, now: datetime
    ) -> list[LineOutcome]:
        """Settle the lines of one order that name one claim: those that together are the claim pay for it."""
        if claim is None:
            return [LineOutcome(line.line_id, Outcome.REJECTED, "flash_sale.claim_not_found") for line in lines]
        paying, wrong = model.split(order, lines, claim)
        if order.paid_at is None:
            told = [LineOutcome(line.line_id, Outcome.REJECTED, why) for line, why in wrong]
            return told + await self._unpaid(tx, order, paying, claim, now)
        told = [await self._owe(tx, order, line, claim, why, now) for line, why in wrong]
        return told + await self._paid(tx, order, paying, claim, now)

    async def _unpaid(
        self, tx: Tx, order: Order, lines: Sequence[OrderLine], claim: Claim, now: datetime
    ) -> list[LineOutcome]:
        if not lines:
            return []
        code, detail = "", ""
        is_mine = claim.order_id == order.order_id or await store.bind(tx, claim.claim_id, order.order_id)
        if order.closed_at is not None:
            # Where the claim is another order's, one that was split off or is paid, it stays that one's.
            if is_mine:
                released = await claims_store.release(tx, [claim.claim_id], "order_closed", now)
                await after_release(tx, self._stock, released, "order_closed", now)
        elif not is_mine or claim.state != "held":
            is_others = not is_mine and claim.order_id is not None
            code = "flash_sale.claim_of_other_order" if is_others else "flash_sale.claim_not_held"
            detail = f"The claim is {claim.state}."
        outcome = Outcome.REJECTED if code else Outcome.APPLIED
        return [LineOutcome(line.line_id, outcome, code, detail) for line in lines]

    async def _paid(
        self, tx: Tx, order: Order, lines: Sequence[OrderLine], claim: Claim, now: datetime
    ) -> list[LineOutcome]:
        if not lines:
            return []
        mine = claim.order_id == order.order_id and claim.state in {"paid", "refunded"}
        if not mine:
            line_ids = [line.line_id for line in lines]
            known = await store.refund_reasons(tx, order.order_id, line_ids)
            why = next((one for one in known if one not in model.OF_WHAT_IS_SAID), None)
            why = why or await self._sell(tx, order, claim, now)
            if why is not None:
                return [await self._owe(tx, order, line, claim, why, now) for line in lines]
            if known:
                await store.owe_no_more(tx, order.order_id, line_ids)
        units_back = sum(line.units_back for line in lines)
        if units_back > claim.refunded_units:
            await self._refund(tx, order, units_back, claim, now)
        return [LineOutcome(line.line_id, Outcome.APPLIED) for line in lines]

    async def _sell(self, tx: Tx, order: Order, claim: Claim, now: datetime) -> str | None:
        """Sell the claim to the order; return why not, if not."""
        late = False
        if claim.state in {"paid", "refunded"}:
            return "flash_sale.claim_of_other_order"
        if claim.state == "released":
            sale = await sales_store.find_sale(tx, claim.sale_id)
            assert sale is not None, "claims are never without their sale"
            if sale.late_payment == "refund" and not model.is_in_time(claim, order):
                return "flash_sale.paid_late"
            retaken = await store.retake(tx, claim, order.order_id, now)
            if retaken.why_not is not None:
                return retaken.why_not
            late = not model.is_in_time(claim, order)
            if retaken.sold_out_now:
                await emit(tx, FlashSaleSoldOut(at=now, sale_id=claim.sale_id))
            follow(tx, self._stock, claim.sale_id, [msgspec.structs.replace(claim, state="paid")])
        else:
            paid = await store.pay(tx, claim.claim_id, order.order_id, now)
            assert paid, "the claim is locked, so it is still held"
        if await claims_store.forgive(tx, claim.user_id):
            await self._let_in_again(tx, claim.user_id, now)
        await emit(
            tx,
            alike(FlashSaleClaimPaid, claim, at=now, order_id=order.order_id, late=late),
        )
        return None

    async def _let_in_again(self, tx: Tx, user_id: str, now: datetime) -> None:
        """After the commit, end the shopper's wait in every sale that has one."""
        sales = [sale for sale in await sales_store.visible_sales(tx, now) if sale.protection.cool_down_seconds]

        async def forgive() -> None:
            for sale in sales:
                await self._stock.forgive(sale.sale_id, user_id)

        tx.after_commit(forgive)

    async def _refund(self, tx: Tx, order: Order, units_back: int, claim: Claim, now: datetime) -> None:
        sale = await sales_store.find_sale(tx, claim.sale_id)
        assert sale is not None, "claims are never without their sale"
        returns = sale.refund_returns_units
        await store.refund(tx, claim, units_back, returns=returns, now=now)
        if returns:
            follow(
                tx,
                self._stock,
                claim.sale_id,
                [msgspec.structs.replace(claim, state="paid", returned_units=units_back)],
            )
        if units_back == claim.units:
            await emit(tx, alike(FlashSaleClaimRefunded, claim, at=now, order_id=order.order_id))

    async def _owe(self, tx: Tx, order: Order, line: OrderLine, claim: Claim, why: str, now: datetime) -> LineOutcome:
        """Say that the line must be paid back, for as long as it was not; tell of each reason once."""
        is_new = await store.require_refund(tx, claim.claim_id, order.order_id, line.line_id, why, now)
        if line.is_refunded:
            # The reason is kept all the same: units that come back later are not taken for money that went back.
            return LineOutcome(line.line_id, Outcome.APPLIED, why)
        if is_new:
            await emit(
                tx,
                alike(
                    FlashSaleRefundRequired,
                    line,
                    at=now,
                    sale_id=claim.sale_id,
                    claim_id=claim.claim_id,
                    user_id=order.user_id or claim.user_id,
                    order_id=order.order_id,
                    reason=why,
                ),
            )
        return LineOutcome(line.line_id, Outcome.REFUND_REQUIRED, why)


def _lines_by_claim(order: Order) -> Mapping[str, Sequence[OrderLine]]:
    found = defaultdict[str, list[OrderLine]](list)
    for line in order.lines:
        claim_id = line.used(CLAIM)
        if claim_id is not None:
            found[claim_id].append(line)
    return found
