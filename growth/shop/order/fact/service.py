"""Adds facts to their orders, whichever comes first, and says what is news of them. In the turns of the orders."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from growth.plumbing.outbox import outbox
from growth.plumbing.postgres.database import Tx
from growth.shop.order import hooks, model
from growth.shop.order.hooks import (
    LineTold,
    OrderClosed,
    OrderHook,
    OrderPaid,
    OrderPlaced,
    OrderReceived,
    OrderRefunded,
)
from growth.shop.order.model import ALREADY_KNOWN, APPLIED, BOUGHT, COMPLETED, Answer, Beside, Known
from growth.shop.order.refund import model as refund
from growth.shop.order.refund import store as refund_store
from growth.shop.order.refund.model import Refund, RefundedLine
from growth.shop.order.store import orders as store
from growth.vocabulary.events.shop import ShopOrderClosed, ShopOrderCorrected, ShopOrderEvent
from growth.vocabulary.orders import LineOutcome, Order, Outcome


class Fact(Struct, kw_only=True, eq=False):
    """One fact of an order on its way: what was known before, what became of it, and the order as it is now."""

    hook: OrderHook
    said: bytes
    known: Known
    now: datetime
    request_id: str
    own: Answer = APPLIED
    order: Order
    """As far as it is known; whole once the fact is merged."""
    events: Sequence[ShopOrderEvent] = ()
    notes: Sequence[LineOutcome] = ()

    @property
    def owner(self) -> str | None:
        """Whose order it is, as far as that is known."""
        hook = self.hook
        return hook.data.user_id if isinstance(hook, OrderPlaced | OrderPaid) else self.known.order.user_id

    @property
    def is_new(self) -> bool:
        """Say whether nothing like it was known."""
        return self.own is APPLIED


async def merge(tx: Tx, facts: Sequence[Fact], now: datetime) -> None:
    """Add facts, each of another order, unless they are known or cannot be true: `own` says what became of them.

    Nothing is changed where it is rejected. Then `order` is all that is known of it.
    """
    written, lines, replaced = list[Known](), dict[str, Sequence[LineTold]](), list[str]()
    for fact in facts:
        hook, known = fact.hook, fact.known
        fact.own = model.judged(hook, fact.said, known)
        is_added = fact.is_new or not isinstance(hook, OrderPlaced | OrderPaid)
        after = model.with_told(known, hook, fact.said) if is_added else known
        fact.order = after.order
        if known.is_new or after != known:
            written.append(after)
        if fact.is_new and isinstance(hook, OrderPlaced | OrderPaid) and fact.order.lines:
            # What was paid is stronger than what was placed.
            lines[hook.data.order_id] = hook.data.lines
            if known.order.placed_at is not None:
                replaced.append(hook.data.order_id)
    if written:
        await store.write(tx, written, lines, replaced, now)
    for fact in facts:
        if isinstance(fact.hook, OrderRefunded):
            fact.own = await _refund(tx, fact.hook, fact.said)
        elif fact.own.outcome is Outcome.REJECTED and isinstance(fact.hook, OrderPlaced | OrderPaid):
            fact.own = await _complete(tx, fact.hook, fact.said, fact.known, fact.now) or fact.own
    without = [fact for fact in facts if fact.order.user_id is not None and not fact.order.lines]
    known_lines = await store.lines_of(tx, [fact.order.order_id for fact in without]) if without else {}
    for fact in facts:
        order = fact.order
        fact.order = model.with_what_was_paid(replace(order, lines=known_lines.get(order.order_id, order.lines)))


async def tell(tx: Tx, facts: Sequence[Fact]) -> None:
    """Count what is new of merged facts, and say what is news of them: their `order`, `events` and `notes`.

    What needs the payment waits until that is known.
    """
    paid = [fact for fact in facts if fact.is_new and isinstance(fact.hook, OrderPaid)]
    beside = await store.beside(tx, [fact.order for fact in paid if fact.order.is_purchase])
    had = await tx.people.had(tx, [fact.order.user_id for fact in paid if fact.order.user_id is not None], BOUGHT)
    refunds = await refund_store.refunds(tx, [fact.order.order_id for fact in paid if not fact.known.is_new])
    for fact in facts:
        order_id = fact.order.order_id
        if not fact.is_new:
            if fact.own is model.RECEIVED_EARLIER:
                fact.events = await _corrected(tx, fact.order, fact.now)
        elif isinstance(fact.hook, OrderPaid):
            await _paid(tx, fact, fact.hook, beside.get(order_id, Beside()), had, refunds.get(order_id, ()))
        else:
            await _news(tx, fact)
    await outbox.emit(
        tx,
        *[event for fact in facts for event in fact.events],
        request_ids=[fact.request_id for fact in facts for _ in fact.events],
    )


async def _news(tx: Tx, fact: Fact) -> None:
    order, now = fact.order, fact.now
    match fact.hook:
        case OrderPlaced(data=placed):
            fact.events = [model.placed_event(placed, now)]
        case OrderClosed(time=at):
            fact.events = [ShopOrderClosed(at=now, order_id=order.order_id, user_id=order.user_id, closed_at=at)]
        case OrderReceived(time=at) if order.is_paid:
            fact.events = [model.received_event(order, at, now)]
        case OrderRefunded(data=data, time=at) if order.is_paid:
            told = await refund_store.told_in_all(tx, order.order_id)
            counted = refund.counted(order, told)
            await refund_store.count(tx, counted)
            this = Refund(data.refund_id, at, [(one.line_id, one.units, one.amount_fen) for one in data.lines])
            event = refund.event_of(order, counted, this, now)
            fact.events = [*([event] if event else []), *await _changed_firsts(tx, order, counted, now)]
            fact.order, fact.notes = counted, refund.notes(counted, told, [one.line_id for one in data.lines])


async def _paid(
    tx: Tx, fact: Fact, hook: OrderPaid, beside: Beside, had: frozenset[str], refunds: Sequence[Refund]
) -> None:
    """Count what was refunded too early; tell of the payment, and then of what was told before its time."""
    order, now = fact.order, fact.now
    is_first = order.is_purchase and order.user_id not in had and _is_first(order, beside)
    events: list[ShopOrderEvent] = [model.paid_event(order, hook.data, is_first_order=is_first, now=now)]
    told: dict[str, RefundedLine] = {}
    if refunds:
        events += refund.replayed(order, refunds, now)
        for one in refunds:
            refund.add(told, one)
        order = refund.counted(order, told)
        await refund_store.count(tx, order)
    if order.received_at is not None:
        events.append(model.received_event(order, order.received_at, now))
    if is_first and order.is_bought:
        events += await _other_firsts(tx, order, beside, now)
    fact.order, fact.events, fact.notes = order, events, refund.notes(order, told, told)


def _is_first(order: Order, beside: Beside) -> bool:
    """Say whether nothing was bought before a purchase."""
    assert order.paid_at is not None
    return beside.other is None or beside.other > (order.paid_at, order.order_id)


async def _corrected(tx: Tx, order: Order, now: datetime) -> Sequence[ShopOrderCorrected]:
    """Return the event that says anew what an order is; none before it is paid, since nothing was told of it."""
    if not order.is_paid:
        return []
    assert order.user_id is not None
    is_first = (
        order.is_purchase
        and not await tx.people.had(tx, [order.user_id], BOUGHT)
        and _is_first(order, await _beside(tx, order))
    )
    return [model.corrected_event(order, is_first_order=is_first, now=now)]


async def corrected_firsts(
    tx: Tx, user_id: str, order_ids: Sequence[str], now: datetime, *, are_first: bool
) -> Sequence[ShopOrderCorrected]:
    """Return the events of those of a shopper's orders that are first orders now, or are so no more."""
    if not order_ids or await tx.people.had(tx, [user_id], BOUGHT):
        return []
    orders = [await store.read_order(tx, order_id) for order_id in order_ids]
    return [
        model.corrected_event(order, is_first_order=are_first, now=now)
        for order in orders
        if order is not None and order.is_purchase
    ]


async def _changed_firsts(tx: Tx, before: Order, order: Order, now: datetime) -> Sequence[ShopOrderCorrected]:
    """Say which other orders of the shopper are first, or are so no more, now that one is bought no more, or again."""
    if order.is_bought == before.is_bought:
        return []
    return await _other_firsts(tx, order, await _beside(tx, order), now)


async def _other_firsts(tx: Tx, order: Order, beside: Beside, now: datetime) -> Sequence[ShopOrderCorrected]:
    """Say so of an order that has just become bought, or is so no more.

    They are all that follow it, up to the next by which the shopper has bought; none, if one comes before it.
    """
    assert order.user_id is not None
    return await corrected_firsts(tx, order.user_id, beside.later, now, are_first=not order.is_bought)


async def _beside(tx: Tx, order: Order) -> Beside:
    return (await store.beside(tx, [order]))[order.order_id]


async def _complete(tx: Tx, hook: OrderPlaced | OrderPaid, said: bytes, known: Known, now: datetime) -> Answer | None:
    """Add lines that could not be read when the order was told, if nothing else differs; None if it does."""
    is_paid = isinstance(hook, OrderPaid)
    before = known.paid_content if is_paid else known.placed_content
    order = await store.read_order(tx, hook.data.order_id)
    if before is None or order is None or order.user_id != hook.data.user_id or (order.is_paid and not is_paid):
        return None
    added = hooks.added_lines(hook, before, {line.line_id for line in order.lines})
    if not added:
        return None
    content = {"paid_content" if is_paid else "placed_content": said}
    await store.write(tx, [replace(known, **content)], {hook.data.order_id: added}, [], now)
    if is_paid:
        mended = await store.read_order(tx, hook.data.order_id)
        assert mended is not None
        mended = refund.counted(mended, await refund_store.told_in_all(tx, order.order_id))
        await refund_store.count(tx, mended)
        events = await _corrected(tx, mended, now), await _changed_firsts(tx, order, mended, now)
        await outbox.emit(tx, model.completed_event(hook, added, now), *events[0], *events[1])
    return COMPLETED


async def _refund(tx: Tx, hook: OrderRefunded, said: bytes) -> Answer:
    data = hook.data
    answer = model.judge_told_again(said, await refund_store.content(tx, data.order_id, data.refund_id))
    if answer is ALREADY_KNOWN:
        await refund_store.redate(tx, data, hook.time)
    elif answer is APPLIED:
        # As it was told, whatever the order has: how much counts is said once its lines are known.
        await refund_store.keep(tx, data, hook.time, said)
    return answer
