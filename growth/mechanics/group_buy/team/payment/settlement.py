"""What the shop's orders make of seats: bound, paid, given back, refunded, or owed back to the shopper, once."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from growth.mechanics.group_buy.store import campaigns as campaigns_store
from growth.mechanics.group_buy.team.ending import store as ending
from growth.mechanics.group_buy.team.ending.service import (
    OVERPAID,
    TEAM_FAILED,
    after_ending,
    after_leaving,
    refund_required,
)
from growth.mechanics.group_buy.team.ending.store import SeatOwed
from growth.mechanics.group_buy.team.model import Seat, Team
from growth.mechanics.group_buy.team.payment import store
from growth.mechanics.group_buy.team.payment.store import Payment
from growth.mechanics.group_buy.team.store import teams as teams_store
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Crossed, Tx
from growth.shop.order.owed.model import RefundFinding
from growth.shop.order.owed.service import owe
from growth.shop.order.service import bought_before
from growth.vocabulary.alike import alike
from growth.vocabulary.events.group_buy import (
    GroupBuySeatPaid,
    GroupBuySeatRefunded,
    GroupBuySeatReleased,
    GroupBuyTeamOpened,
)
from growth.vocabulary.ids import UUID_PATTERN, derived_id
from growth.vocabulary.orders import LineOutcome, Order, OrderLine, Outcome

SEAT = "group_buy.seat"
"""The kind of use of a line that pays for a seat."""
PAID_LATE = "group_buy.paid_late"
NEWCOMERS_ONLY = "group_buy.newcomers_only"
OF_OTHER_ORDER = "group_buy.seat_of_other_order"
NOT_HELD = "group_buy.seat_not_held"

PAID_FOR = frozenset({"paid", "confirmed", "refund_due", "refunded"})
"""States of a seat that an order has paid for."""

_is_uuid = re.compile(UUID_PATTERN).match


class SeatSettlement:
    """Takes part in orders: brings seats to what the facts of an order say, in whatever order those arrived.

    The facts are read in one order: placed, closed unless paid, paid, refunded; and only then is a team looked at
    whether it is full. So `closed` after `paid` changes nothing, a refund heard before its payment waits for it, and
    who is paid back in the same breath completes no team.

    Whether a shopper is a newcomer is a fact of their orders too, by time of payment: while a team forms that newcomers
    matter to, its paid seats are judged again whenever something is told of an order of their shopper. Who turns out to
    have bought before stays if there is room for such, and else is owed back. A team that has ended stays as it is.
    """

    kinds = frozenset({SEAT})

    def may_concern(self, order: Order) -> bool:
        """Say that whatever was paid may tell who is a newcomer."""
        return order.is_paid

    async def settle(self, tx: Tx, orders: Sequence[Order], now: datetime) -> Mapping[str, Sequence[LineOutcome]]:
        """Settle the lines that pay for seats."""
        buyers = {order.user_id for order in orders if order.is_paid and order.user_id is not None}
        others = await store.seats_to_judge(tx, sorted(buyers)) if buyers else {}
        seat_ids = {seat_id for order in orders for seat_id in _seats_named(order)}
        judged = {seat_id for theirs in others.values() for seat_id in theirs}
        teams: dict[str, Team] = {}
        if seat_ids or judged:
            teams = await teams_store.lock_teams_of_seats(tx, sorted(seat_ids | judged))
        told: dict[str, Sequence[LineOutcome]] = {}
        settled = set[str]()
        for order in orders:
            if again := settled & _seats_named(order):
                # The order before may have moved them to teams of their own.
                teams |= await teams_store.lock_teams_of_seats(tx, sorted(again))
            settled |= _seats_named(order)
            theirs = others.get(order.user_id, ()) if order.user_id is not None else ()
            told[order.order_id] = await self._order(tx, order, teams, theirs, now)
        return told

    async def _order(
        self, tx: Tx, order: Order, teams: Mapping[str, Team], others: Sequence[str], now: datetime
    ) -> list[LineOutcome]:
        """Settle the lines of one order, and the `others` of its shopper's seats. All their `teams` are locked."""
        outcomes: list[LineOutcome] = []
        seen = set[str]()
        for line in order.lines:
            seat_id = line.used(SEAT)
            if seat_id is None:
                continue
            # Read under the lock, and anew for each line: the one before may have ended this one's team.
            seat = (await teams_store.find_seats(tx, [seat_id])).get(seat_id) if _is_uuid(seat_id) else None
            if seat is not None and seat.team_id not in teams:
                if seat_id not in seen:
                    raise Crossed("the seat has just moved to another team")
                # To one of its own, by the line before.
                teams = {**teams, **await teams_store.lock_teams_of_seats(tx, [seat_id])}
            outcomes.append(await self._line(tx, order, line, seat, now, again=seat_id in seen))
            # A line that could not pay leaves the seat to the next one that names it.
            if seat is not None and _mismatch(order, line, seat) is None:
                seen.add(seat_id)
        for seat_id in others:
            await self._judge_again(tx, seat_id, now)
        if outcomes or others:
            await after_ending(tx, await ending.end_teams(tx, list(teams), "complete", "full", now), now)
        return outcomes

    async def _judge_again(self, tx: Tx, seat_id: str, now: datetime) -> None:
        """Look again whether the shopper of a paid seat is a newcomer, by what is known now."""
        seat = (await teams_store.find_seats(tx, [seat_id]))[seat_id]
        if seat.state != "paid" or seat.order_id is None or seat.line_id is None or seat.paid_fen is None:
            return
        is_newcomer = seat.order_id not in await bought_before(tx, seat.user_id, [seat.order_id])
        if is_newcomer == seat.is_newcomer or await store.change_newcomer(tx, seat, is_newcomer=is_newcomer):
            return
        released = await ending.release(tx, [seat.seat_id], "newcomers_only", now, state="paid")
        assert released, "its team is locked, so it is still paid"
        await emit(tx, alike(GroupBuySeatReleased, seat, at=now, reason="newcomers_only"))
        await after_leaving(tx, now, paid=[seat])
        owed = SeatOwed(seat.order_id, seat.line_id, seat.seat_id, NEWCOMERS_ONLY, seat.paid_fen)
        if await ending.require_refunds(tx, [owed], now):
            await emit(tx, refund_required(seat, owed, now))
        await owe(tx, [RefundFinding(order_id=seat.order_id, line_id=seat.line_id, reason=NEWCOMERS_ONLY)], now)

    async def _line(
        self, tx: Tx, order: Order, line: OrderLine, seat: Seat | None, now: datetime, *, again: bool
    ) -> LineOutcome:
        if seat is None:
            return LineOutcome(line.line_id, Outcome.REJECTED, "group_buy.seat_not_found")
        wrong = "group_buy.seat_of_other_line" if again else _mismatch(order, line, seat)
        if order.paid_at is None:
            if wrong:
                return LineOutcome(line.line_id, Outcome.REJECTED, wrong)
            return await self._unpaid(tx, order, line, seat, now)
        if wrong:
            return await self._owe(tx, order, line, seat, wrong, now)
        return await self._paid(tx, order, line, seat, now)

    async def _unpaid(self, tx: Tx, order: Order, line: OrderLine, seat: Seat, now: datetime) -> LineOutcome:
        is_mine = seat.order_id == order.order_id or await store.bind(tx, seat.seat_id, order.order_id)
        if order.closed_at is not None:
            # Where the seat is another order's, one that was split off or is paid, it stays that one's.
            if is_mine:
                released = await ending.release(tx, [seat.seat_id], "order_closed", now)
                await after_leaving(tx, now, held=released)
        elif not is_mine or seat.state != "held":
            code = OF_OTHER_ORDER if not is_mine and seat.order_id else NOT_HELD
            return LineOutcome(line.line_id, Outcome.REJECTED, code, f"The seat is {seat.state}.")
        return LineOutcome(line.line_id, Outcome.APPLIED)

    async def _paid(self, tx: Tx, order: Order, line: OrderLine, seat: Seat, now: datetime) -> LineOutcome:
        if not _is_paid_by(seat, order, line):
            known = await ending.refund_reason(tx, order.order_id, line.line_id)
            why = known[0] if known else await self._sell(tx, order, line, seat, now)
            if why is not None:
                return await self._owe(tx, order, line, seat, why, now)
            # It may have moved to a team of its own.
            seat = (await teams_store.find_seats(tx, [seat.seat_id]))[seat.seat_id]
        if line.is_refunded:
            await self._refund(tx, order, seat, now)
            return LineOutcome(line.line_id, Outcome.APPLIED)
        if seat.state == "refund_due":
            return LineOutcome(line.line_id, Outcome.REFUND_REQUIRED, TEAM_FAILED)
        owed = await ending.refund_reason(tx, order.order_id, line.line_id)
        if owed is not None and owed[1] > line.refunded_fen:
            # Applied, not refund_required: that word is for whole lines.
            told = f"Pay back {owed[1]} fen of it."
            return LineOutcome(line.line_id, Outcome.APPLIED, OVERPAID, told, owed[1] - line.refunded_fen)
        return LineOutcome(line.line_id, Outcome.APPLIED)

    async def _sell(self, tx: Tx, order: Order, line: OrderLine, seat: Seat, now: datetime) -> str | None:
        """Note that the order paid for the seat; return why not, if not."""
        if seat.state in PAID_FOR:
            return OF_OTHER_ORDER
        bought = await bought_before(tx, seat.user_id, [order.order_id])
        payment = Payment(order.order_id, line.line_id, line.amount_fen, order.order_id not in bought)
        if seat.state == "held":
            if not await store.pay(tx, seat, payment, now):
                released = await ending.release(tx, [seat.seat_id], "newcomers_only", now)
                await after_leaving(tx, now, held=released)
                return NEWCOMERS_ONLY
            late = False
        elif await store.take_again(tx, seat, payment, now) or await self._new_team(
            tx, order, line, seat, payment, now
        ):
            late = not _is_in_time(seat, order)
        else:
            return PAID_LATE
        team_id = (await teams_store.find_seats(tx, [seat.seat_id]))[seat.seat_id].team_id
        await emit(tx, alike(GroupBuySeatPaid, seat, at=now, team_id=team_id, order_id=order.order_id, late=late))
        return None

    async def _new_team(
        self, tx: Tx, order: Order, line: OrderLine, seat: Seat, payment: Payment, now: datetime
    ) -> bool:
        """Let who paid late lead a team, if the campaign says so and still lets teams be opened.

        So does who paid within the hold, whose team failed because the order that the shop split was closed first.
        """
        campaign = (await campaigns_store.find_campaigns(tx, [seat.group_buy_id]))[seat.group_buy_id]
        if line.is_refunded or now >= campaign.closes_at:
            return False
        if campaign.late_payment != "open_new_team" and not _is_in_time(seat, order):
            return False
        team_id = derived_id(seat.team_id, "late", seat.seat_id, payment.order_id)
        if not await store.take_in_new_team(tx, seat, campaign, team_id, payment, now):
            return False
        await emit(
            tx,
            alike(
                GroupBuyTeamOpened,
                seat,
                at=now,
                team_id=team_id,
                team_size=campaign.team_size,
                expires_at=campaign.expires_at(now),
            ),
        )
        return True

    async def _refund(self, tx: Tx, order: Order, seat: Seat, now: datetime) -> None:
        if not await store.refund(tx, seat, now):
            return
        await emit(tx, alike(GroupBuySeatRefunded, seat, at=now, order_id=order.order_id))
        if seat.state == "paid":
            await after_leaving(tx, now, paid=[seat])

    async def _owe(self, tx: Tx, order: Order, line: OrderLine, seat: Seat, why: str, now: datetime) -> LineOutcome:
        """Say that the line must be paid back, for as long as it was not; tell of it once."""
        owed = SeatOwed(order.order_id, line.line_id, seat.seat_id, why, line.left_fen)
        is_new = await ending.require_refunds(tx, [owed], now)
        if line.is_refunded:
            # The reason is kept all the same: a seat that comes free later is not taken for money that went back.
            return LineOutcome(line.line_id, Outcome.APPLIED, why)
        if is_new:
            await emit(tx, refund_required(seat, owed, now, order.user_id))
        return LineOutcome(line.line_id, Outcome.REFUND_REQUIRED, why)


def _seats_named(order: Order) -> set[str]:
    named = (line.used(SEAT) for line in order.lines)
    return {seat_id for seat_id in named if seat_id is not None and _is_uuid(seat_id)}


def _is_paid_by(seat: Seat, order: Order, line: OrderLine) -> bool:
    return seat.state in PAID_FOR and seat.order_id == order.order_id and seat.line_id == line.line_id


def _is_in_time(seat: Seat, order: Order) -> bool:
    return seat.release_reason == "order_closed" and order.paid_at is not None and order.paid_at < seat.held_until


def _mismatch(order: Order, line: OrderLine, seat: Seat) -> str | None:
    if order.user_id != seat.user_id:
        return "group_buy.seat_of_other_shopper"
    if line.sku != seat.sku:
        return "group_buy.other_sku"
    if line.units != 1:
        return "group_buy.other_units"
    return None
