"""What the shop's facts say about an order, and how whoever takes part in it answers. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Struct

from growth.plumbing.postgres import Tx
from growth.shop.hooks import LineTold, PaidData, PlacedData, RefundedData
from growth.vocabulary.activities import ActivityHeard, ActivityTold
from growth.vocabulary.events.shop import (
    ShopOrderEvent,
    ShopOrderLine,
    ShopOrderPaid,
    ShopOrderPlaced,
    ShopOrderReceived,
    ShopOrderRefunded,
    ShopRefundLine,
)
from growth.vocabulary.orders import LineOutcome, Order, Outcome


class OrderParticipant(Protocol):
    """A room that has a stake in orders: claims, seats, coupons."""

    async def settle(self, tx: Tx, order: Order, now: datetime) -> Sequence[LineOutcome]:
        """Bring this room's objects to the state that the facts of `order` imply; say what became of its lines.

        Level-triggered: called in the transaction of every event of the order, again and again, in any order of
        arrival, under the lock of that order. So it acts on what `order` *is*, never on what has just changed; it does
        nothing the second time, and it says `refund_required` for as long as a line must still be paid back. Lines
        that are none of its business are left out. An expected no is an outcome; what it raises undoes the whole event,
        and the shop delivers it again. Rows are locked in the order of their ids, after the order: two orders that
        share rows must not wait for each other.
        """
        ...


class ActivityListener(Protocol):
    """Whoever hears what shoppers did outside of orders."""

    async def hear(self, told: Sequence[ActivityTold], now: datetime) -> Sequence[ActivityHeard]:
        """Take all of them, each once however often it is told; say in the same order what became of each.

        What it cannot read is an outcome too. Raises `Unavailable`: then all are told again.
        """
        ...


class PointsDesk(Protocol):
    """Whoever keeps shoppers' points."""

    async def spend(self, tx: Tx, spend_id: str, user_id: str, points: int, now: datetime) -> str:
        """Take points, once for each id. A code says why not; empty if they are taken."""
        ...

    async def owner_of(self, tx: Tx, spend_id: str) -> str | None:
        """Return who spent; None for an id that was never heard of."""
        ...

    async def give_back(self, tx: Tx, spend_id: str, return_id: str, points: int, now: datetime) -> str:
        """Give points of a spending back, once for each id. A code says why not; empty if they are back."""
        ...


class Answer(Struct, frozen=True):
    """What an event is answered, the first time and ever after."""

    outcome: Outcome
    code: str = ""
    detail: str = ""
    lines: tuple[LineOutcome, ...] = ()


class Known(Struct, frozen=True, kw_only=True):
    """Which facts of an order are known, before another is merged; contents as told by `hooks.content`."""

    user_id: str | None = None
    placed_content: bytes | None = None
    paid_content: bytes | None = None
    is_closed: bool = False
    is_received: bool = False


def in_todays_form(known: Known, form: Callable[[bytes | None], bytes | None]) -> Known:
    """Return what is known with its contents in the form in which they are told today."""
    return msgspec.structs.replace(
        known, placed_content=form(known.placed_content), paid_content=form(known.paid_content)
    )


class Refund(Struct, frozen=True):
    """One refund as it was told, which may be of more than the order turned out to have."""

    refund_id: str
    refunded_at: datetime
    lines: list[tuple[str, int, int]]
    """`line_id`, units, fen."""


class Registration(Struct, frozen=True):
    """What the shop told of one shopper's registration."""

    registered_at: datetime
    source: str | None
    device_id: str | None
    address: str | None


APPLIED = Answer(Outcome.APPLIED)
NO_LISTENER = ActivityHeard(Outcome.IGNORED, "shop.no_listener", "Nobody here listens to events of this type.")
ALREADY_KNOWN = Answer(Outcome.IGNORED, "shop.already_known", "This was told before, by another event.")
OTHER_CONTENT = Answer(Outcome.REJECTED, "shop.other_content", "Another event was told under this source and id.")


def contradicts(what: str) -> Answer:
    """Return the answer to what cannot be true beside what is known."""
    return Answer(Outcome.REJECTED, "shop.contradicts", what)


def judge_told_again(said: bytes, known: bytes | None) -> Answer:
    """Judge one fact (an order placed or paid, a refund) beside the content that it was told with before."""
    if known is None:
        return APPLIED
    if known == said:
        return ALREADY_KNOWN
    return contradicts("This was told before, by another event, with other content.")


def judge_order(said: bytes, known: bytes | None, user_id: str, known_user_id: str | None) -> Answer:
    """Judge an order placed or paid beside what is known of it."""
    if known_user_id not in {None, user_id}:
        return contradicts("The order is known as another user's.")
    return judge_told_again(said, known)


def refund_that_exceeds(refund: RefundedData, order: Order) -> Answer:
    """Return the answer to a refund of more than is left of a line of a paid order. Names the first such line."""
    lines = {line.line_id: line for line in order.lines}
    for told in refund.lines:
        line = lines.get(told.line_id)
        if line is None:
            return Answer(Outcome.REJECTED, "shop.no_such_line", f"The order has no line {told.line_id}.")
        units, amount_fen = line.units - line.refunded_units, line.amount_fen - line.refunded_fen
        if told.units > units or told.amount_fen > amount_fen:
            left = f"Of line {told.line_id}, {units} units and {amount_fen} fen are left to refund."
            return Answer(Outcome.REJECTED, "shop.refund_exceeds_line", left)
    raise AssertionError


def judge_first_answer(said: bytes, known: bytes | None, first: Answer) -> Answer:
    """Judge an event whose id was seen before: the shop that lost the answer learns it now."""
    if said != known:
        return OTHER_CONTENT
    detail = f"{first.code}: {first.detail}" if first.code else first.detail
    return Answer(Outcome.DUPLICATE, first.outcome, detail, first.lines)


def refund_notes(beyond: Mapping[str, bool]) -> tuple[LineOutcome, ...]:
    """Say at payment which refunds, told before it, do not fit the lines paid for."""
    clipped = (
        Outcome.APPLIED,
        "shop.refund_clipped",
        "More of it was refunded than it has; that counts as far as it goes.",
    )
    unknown = (Outcome.IGNORED, "shop.no_such_line", "A refund names it, but the order does not have it.")
    return tuple(LineOutcome(line_id, *(clipped if is_known else unknown)) for line_id, is_known in beyond.items())


def answer_of(own: Answer, lines: Sequence[LineOutcome]) -> Answer:
    """Put the shop's own word and those of the participants into one: the worst line decides."""
    assert all(line.outcome is not Outcome.DUPLICATE for line in lines)
    for worst in (Outcome.REFUND_REQUIRED, Outcome.REJECTED):
        for line in lines:
            if line.outcome is worst:
                return Answer(worst, line.code, line.detail, tuple(lines))
    return Answer(own.outcome, own.code, own.detail, tuple(lines))


def _event_lines(lines: Sequence[LineTold]) -> list[ShopOrderLine]:
    return [
        ShopOrderLine(
            line_id=line.line_id,
            sku=line.sku,
            units=line.units,
            amount_fen=line.amount_fen,
            claim_id=line.claim_id,
            seat_id=line.seat_id,
            coupon_id=line.coupon_id,
        )
        for line in lines
    ]


def placed_event(placed: PlacedData, now: datetime) -> ShopOrderPlaced:
    """Return the event of an order placed."""
    return ShopOrderPlaced(
        at=now,
        order_id=placed.order_id,
        user_id=placed.user_id,
        placed_at=placed.placed_at,
        lines=_event_lines(placed.lines),
    )


def paid_events(
    paid: PaidData, refunds: Sequence[Refund], received_at: datetime | None, *, is_first_order: bool, now: datetime
) -> list[ShopOrderEvent]:
    """Return the event of an order paid, and those of what was told before its time: `refunds`, and the receipt."""
    lines = _event_lines(paid.lines)
    events: list[ShopOrderEvent] = [
        ShopOrderPaid(
            at=now,
            order_id=paid.order_id,
            user_id=paid.user_id,
            paid_at=paid.paid_at,
            paid_fen=paid.paid_fen,
            lines=lines,
            is_first_order=is_first_order,
        )
    ]
    left = {line.line_id: _Left(line.sku, line.units, line.amount_fen) for line in paid.lines}
    events.extend(
        event for refund in refunds if (event := _refund_event(paid.order_id, paid.user_id, refund, left, now))
    )
    if received_at is not None:
        events.append(received_event(paid.order_id, paid.user_id, received_at, now))
    return events


def refunded_event(order: Order, refund: Refund, now: datetime) -> ShopOrderRefunded | None:
    """Return the event of a refund, told after the payment and counted in `order`."""
    told = {line_id: (units, amount_fen) for line_id, units, amount_fen in refund.lines}
    left = {}
    for line in order.lines:
        units, amount_fen = told.get(line.line_id, (0, 0))
        left[line.line_id] = _Left(
            line.sku, line.units, line.amount_fen, line.refunded_units - units, line.refunded_fen - amount_fen
        )
    assert order.user_id is not None
    return _refund_event(order.order_id, order.user_id, refund, left, now)


def received_event(order_id: str, user_id: str, received_at: datetime, now: datetime) -> ShopOrderReceived:
    """Return the event of a paid order received."""
    return ShopOrderReceived(at=now, order_id=order_id, user_id=user_id, received_at=received_at)


class _Left(Struct):
    """A line of a paid order while its refunds are counted."""

    sku: str
    units: int
    amount_fen: int
    refunded_units: int = 0
    refunded_fen: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is left."""
        return self.refunded_units == self.units or 0 < self.amount_fen == self.refunded_fen


def _refund_event(
    order_id: str, user_id: str, refund: Refund, left: Mapping[str, _Left], now: datetime
) -> ShopOrderRefunded | None:
    """Count a refund as far as the lines go, and return its event; None if nothing of it counts."""
    was_whole = all(line.is_whole for line in left.values())
    lines: list[ShopRefundLine] = []
    for line_id, told_units, told_fen in refund.lines:
        line = left.get(line_id)
        if line is None:
            continue
        units = min(told_units, line.units - line.refunded_units)
        amount_fen = min(told_fen, line.amount_fen - line.refunded_fen)
        if units or amount_fen:
            line.refunded_units += units
            line.refunded_fen += amount_fen
            lines.append(ShopRefundLine(line_id=line_id, sku=line.sku, units=units, amount_fen=amount_fen))
    if not lines:
        return None
    return ShopOrderRefunded(
        at=now,
        order_id=order_id,
        user_id=user_id,
        refund_id=refund.refund_id,
        refunded_at=refund.refunded_at,
        lines=lines,
        is_whole=not was_whole and all(line.is_whole for line in left.values()),
    )
