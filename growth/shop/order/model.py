"""What the shop's facts say about an order, and how whoever takes part in it answers. No I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, assert_never

from msgspec import Struct
from msgspec.structs import replace

from growth.plumbing.postgres.database import Tx
from growth.shop.order.hooks import (
    LineTold,
    OrderClosed,
    OrderHook,
    OrderPaid,
    OrderPlaced,
    OrderReceived,
    OrderRefunded,
    PaidData,
    PlacedData,
    line_of,
    use_fields,
)
from growth.vocabulary import clock
from growth.vocabulary.activities import ActivityHeard, ActivityTold
from growth.vocabulary.events.shop import (
    ShopOrderCorrected,
    ShopOrderLine,
    ShopOrderLinesAdded,
    ShopOrderPaid,
    ShopOrderPlaced,
    ShopOrderReceived,
)
from growth.vocabulary.orders import LineOutcome, Order, OrderLine, Outcome, spread


class OrderParticipant(Protocol):
    """A room that has a stake in orders: claims, seats, coupons, inviters."""

    kinds: frozenset[str]
    """What it settles of what lines use: it is asked for orders with such lines."""

    def may_concern(self, order: Order) -> bool:
        """Say whether it is to be asked for an order without such lines too."""
        ...

    async def settle(self, tx: Tx, orders: Sequence[Order], now: datetime) -> Mapping[str, Sequence[LineOutcome]]:
        """Bring this room's objects to the state that the facts of `orders` imply; say what became of their lines.

        Level-triggered: called in the transaction of every event of an order, again and again, in any order of
        arrival, under the lock of that order. So it acts on what an order *is*, never on what has just changed; it does
        nothing the second time, and it says `refund_required` for as long as a line must still be paid back; where only
        a part must, it says how much in `owed_fen`. What it said before and says no more is owed no longer. Returns
        outcomes by `order_id`, without lines that are none of its business. An expected no is an outcome; what it
        raises undoes every event of the transaction, and the shop delivers them again. Rows are locked in the order of
        their ids, after the orders: two transactions that share rows must not wait for each other.
        """
        ...


def is_concerned(participant: OrderParticipant, order: Order) -> bool:
    """Say whether a participant has a stake in an order: nobody else costs it a statement."""
    return not participant.kinds.isdisjoint(order.kinds) or participant.may_concern(order)


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
    """What is known of an order before another fact is merged; contents as told by `hooks.content`."""

    order: Order
    """Its facts, without its lines."""
    is_new: bool = False
    """Nothing was heard of it before."""
    placed_content: bytes | None = None
    paid_content: bytes | None = None


class Beside(Struct, frozen=True):
    """How a paid order stands among the others of its shopper."""

    other: tuple[datetime, str] | None = None
    """When, and by which other order, the shopper has bought first; None who has not."""
    later: Sequence[str] = ()
    """Orders that were paid after this one, up to `other`: all of them where there is no other."""


def in_todays_form(known: Known, form: Callable[[bytes | None], bytes | None]) -> Known:
    """Return what is known with its contents in the form in which they are told today."""
    return replace(known, placed_content=form(known.placed_content), paid_content=form(known.paid_content))


class Registration(Struct, frozen=True):
    """What the shop told of one shopper's registration."""

    registered_at: datetime
    source: str | None
    device_id: str | None
    address: str | None


BOUGHT = "bought"
"""What is remembered of an erased shopper who had bought."""

APPLIED = Answer(Outcome.APPLIED)
COMPLETED = Answer(Outcome.APPLIED, "shop.lines_added", "Lines that could not be read before are part of it now.")
RECEIVED_EARLIER = Answer(Outcome.APPLIED, "shop.corrected", "A later time was told before; the earliest counts.")
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


def judged(hook: OrderHook, said: bytes, known: Known) -> Answer:
    """Judge a fact beside what is known of its order. A refund is judged beside the others, once they are read."""
    match hook:
        case OrderPlaced(data=placed):
            return judge_order(said, known.placed_content, placed.user_id, known.order.user_id)
        case OrderPaid(data=paid):
            return judge_order(said, known.paid_content, paid.user_id, known.order.user_id)
        case OrderReceived(time=at) if known.order.received_at is not None:
            return RECEIVED_EARLIER if at < known.order.received_at else ALREADY_KNOWN
        case OrderClosed() if known.order.closed_at is not None:
            return ALREADY_KNOWN
        case _:
            return APPLIED


def with_told(known: Known, hook: OrderHook, said: bytes) -> Known:
    """Return what is known once a fact is added that was applied; of times that are told again, the earliest counts."""
    order = with_fact(known.order, hook)
    match hook:
        case OrderPlaced():
            return replace(known, order=order, placed_content=said)
        case OrderPaid():
            return replace(known, order=order, paid_content=said)
        case _:
            return replace(known, order=order)


def in_future(field: str) -> Answer:
    """Return the answer to a time that has not come yet."""
    return Answer(Outcome.REJECTED, "shop.in_future", f"{field}: {clock.AHEAD}")


def judge_first_answer(said: bytes, known: bytes | None, first: Answer) -> Answer:
    """Judge an event whose id was seen before: the shop that lost the answer learns it now."""
    if said != known:
        return OTHER_CONTENT
    detail = f"{first.code}: {first.detail}" if first.code else first.detail
    return Answer(Outcome.DUPLICATE, first.outcome, detail, first.lines)


def answer_of(own: Answer, lines: Sequence[LineOutcome]) -> Answer:
    """Put the shop's own word and those of the participants into one: the worst line decides."""
    assert all(line.outcome is not Outcome.DUPLICATE for line in lines)
    for worst in (Outcome.REFUND_REQUIRED, Outcome.REJECTED):
        for line in lines:
            if line.outcome is worst:
                return Answer(worst, line.code, line.detail, tuple(lines))
    return Answer(own.outcome, own.code, own.detail, tuple(lines))


def with_fact(order: Order, hook: OrderHook) -> Order:
    """Return an order to which a fact was added that was not known; what is refunded is counted later."""
    match hook:
        case OrderPlaced(data=placed):
            order = replace(order, user_id=placed.user_id, placed_at=placed.placed_at)
            # What was paid is stronger than what was placed.
            return order if order.is_paid else replace(order, lines=tuple(map(line_of, placed.lines)))
        case OrderPaid(data=paid):
            order = replace(order, user_id=paid.user_id, paid_at=paid.paid_at, paid_fen=paid.paid_fen)
            return replace(order, lines=tuple(map(line_of, paid.lines)))
        case OrderClosed():
            return replace(order, closed_at=min(order.closed_at or hook.time, hook.time))
        case OrderReceived():
            return replace(order, received_at=min(order.received_at or hook.time, hook.time))
        case OrderRefunded():
            return order
        case _:
            assert_never(hook)


def _event_lines(lines: Iterable[OrderLine]) -> list[ShopOrderLine]:
    return [
        ShopOrderLine(
            line_id=line.line_id, sku=line.sku, units=line.units, amount_fen=line.amount_fen, **use_fields(line)
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
        lines=_event_lines(map(line_of, placed.lines)),
    )


def with_what_was_paid(order: Order) -> Order:
    """Return the order with lines that were paid no more than was paid in all; what they cost more was not money."""
    amounts = [line.amount_fen for line in order.lines]
    if order.paid_fen is None or order.paid_fen >= sum(amounts):
        return order
    paid = spread(order.paid_fen, amounts)
    lines = tuple(replace(line, unpaid_fen=line.amount_fen - fen) for line, fen in zip(order.lines, paid, strict=True))
    return replace(order, lines=lines)


def completed_event(hook: OrderPlaced | OrderPaid, added: Sequence[LineTold], now: datetime) -> ShopOrderLinesAdded:
    """Return the event of lines that were told anew, mended."""
    return ShopOrderLinesAdded(
        at=now, order_id=hook.data.order_id, user_id=hook.data.user_id, lines=_event_lines(map(line_of, added))
    )


def paid_event(order: Order, paid: PaidData, *, is_first_order: bool, now: datetime) -> ShopOrderPaid:
    """Return the event of an order paid."""
    return ShopOrderPaid(
        at=now,
        order_id=paid.order_id,
        user_id=paid.user_id,
        paid_at=paid.paid_at,
        paid_fen=paid.paid_fen,
        lines=_event_lines(map(line_of, paid.lines)),
        is_first_order=is_first_order,
        is_purchase=order.is_purchase,
    )


def corrected_event(order: Order, *, is_first_order: bool, now: datetime) -> ShopOrderCorrected:
    """Return the event that says anew what a paid order is."""
    assert order.user_id is not None
    assert order.paid_at is not None
    assert order.paid_fen is not None
    return ShopOrderCorrected(
        at=now,
        order_id=order.order_id,
        user_id=order.user_id,
        paid_at=order.paid_at,
        paid_fen=order.paid_fen,
        lines=_event_lines(order.lines),
        is_first_order=is_first_order,
        is_purchase=order.is_purchase,
        received_at=order.received_at,
        has_refund=any(line.refunded_units or line.refunded_fen for line in order.lines),
        is_whole=order.is_refunded,
    )


def received_event(order: Order, received_at: datetime, now: datetime) -> ShopOrderReceived:
    """Return the event of a paid order received."""
    assert order.user_id is not None
    return ShopOrderReceived(
        at=now,
        order_id=order.order_id,
        user_id=order.user_id,
        received_at=received_at,
        is_purchase=order.is_purchase,
    )
