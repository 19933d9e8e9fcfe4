"""Adds facts to their orders, whichever comes first, and says what is news of them. Under the order's lock."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from msgspec.structs import replace

from growth.plumbing.outbox import outbox
from growth.plumbing.postgres.database import Tx
from growth.shop.order import hooks, model
from growth.shop.order.hooks import (
    OrderClosed,
    OrderHook,
    OrderPaid,
    OrderPlaced,
    OrderReceived,
    OrderRefunded,
    PaidData,
)
from growth.shop.order.model import ALREADY_KNOWN, APPLIED, BOUGHT, COMPLETED, RECEIVED_EARLIER, Answer, Known
from growth.shop.order.refund import model as refund
from growth.shop.order.refund import store as refund_store
from growth.shop.order.refund.model import Refund, RefundedLine
from growth.shop.order.store import orders as store
from growth.vocabulary.events.shop import ShopOrderClosed, ShopOrderCorrected, ShopOrderEvent
from growth.vocabulary.orders import LineOutcome, Order


async def news(
    tx: Tx, hook: OrderHook, order: Order, now: datetime, *, is_new: bool
) -> tuple[Order, Sequence[ShopOrderEvent], list[LineOutcome]]:
    """Return `order` with a fact that is new to it counted, its events, and what is to be said of its lines.

    What needs the payment waits until that is known. `is_new`: nothing was heard of the order before.
    """
    match hook:
        case OrderPlaced(data=placed):
            return order, [model.placed_event(placed, now)], []
        case OrderPaid(data=paid):
            return await _paid(tx, paid, order, now, is_new=is_new)
        case OrderClosed():
            closed = ShopOrderClosed(at=now, order_id=order.order_id, user_id=order.user_id, closed_at=hook.time)
            return order, [closed], []
        case OrderReceived() if order.is_paid:
            return order, [model.received_event(order, hook.time, now)], []
        case OrderRefunded(data=data) if order.is_paid:
            told = await refund_store.told_in_all(tx, order.order_id)
            counted = refund.counted(order, told)
            await refund_store.count(tx, counted)
            this = Refund(data.refund_id, hook.time, [(one.line_id, one.units, one.amount_fen) for one in data.lines])
            event = refund.event_of(order, counted, this, now)
            notes = refund.notes(counted, told, [one.line_id for one in data.lines])
            return counted, [*([event] if event else []), *await _changed_firsts(tx, order, counted, now)], notes
        case _:
            return order, [], []


async def _paid(
    tx: Tx, paid: PaidData, order: Order, now: datetime, *, is_new: bool
) -> tuple[Order, Sequence[ShopOrderEvent], list[LineOutcome]]:
    """Count what was refunded too early; tell of the payment, and then of what was told before its time."""
    other = await _other_bought(tx, order) if order.is_purchase else None
    is_first = await is_first_order(tx, order, other)
    events: list[ShopOrderEvent] = [model.paid_event(order, paid, is_first_order=is_first, now=now)]
    told: dict[str, RefundedLine] = {}
    if refunds := [] if is_new else await refund_store.refunds(tx, order.order_id):
        events += refund.replayed(order, refunds, now)
        for one in refunds:
            refund.add(told, one)
        order = refund.counted(order, told)
        await refund_store.count(tx, order)
    if order.received_at is not None:
        events.append(model.received_event(order, order.received_at, now))
    if is_first and order.is_bought:
        events += await _other_firsts(tx, order, other, now)
    return order, events, refund.notes(order, told, told)


async def is_first_order(tx: Tx, order: Order, other: tuple[datetime, str] | None) -> bool:
    """Say whether a paid order is a first order of its shopper, whose turn the caller has.

    `other`: when, and by which other order, the shopper has bought first.
    """
    assert order.user_id is not None
    if not order.is_purchase or await tx.people.had(tx, [order.user_id], BOUGHT):
        return False
    return other is None or other > _when(order)


async def _other_bought(tx: Tx, order: Order) -> tuple[datetime, str] | None:
    assert order.user_id is not None
    return await store.first_bought(tx, order.user_id, order.order_id)


async def corrected(tx: Tx, order: Order, now: datetime) -> Sequence[ShopOrderCorrected]:
    """Return the event that says anew what an order is; none before it is paid, since nothing was told of it."""
    if not order.is_paid:
        return []
    is_first = await is_first_order(tx, order, await _other_bought(tx, order))
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
    return await _other_firsts(tx, order, await _other_bought(tx, order), now)


async def _other_firsts(
    tx: Tx, order: Order, other: tuple[datetime, str] | None, now: datetime
) -> Sequence[ShopOrderCorrected]:
    """Say so of an order that has just become bought, or is so no more.

    They are all that follow it, up to the next by which the shopper has bought; none, if one comes before it.
    """
    assert order.user_id is not None
    later = await store.paid_between(tx, order.user_id, _when(order), other)
    return await corrected_firsts(tx, order.user_id, later, now, are_first=not order.is_bought)


def _when(order: Order) -> tuple[datetime, str]:
    assert order.paid_at is not None
    return order.paid_at, order.order_id


async def merge(tx: Tx, hook: OrderHook, said: bytes, known: Known) -> Answer:
    """Add one fact to its order unless it is known or cannot be true. Nothing is changed where it is rejected."""
    match hook:
        case OrderPlaced(data=placed):
            answer = model.judge_order(said, known.placed_content, placed.user_id, known.order.user_id)
            if answer is APPLIED:
                await store.place(tx, placed, said)
        case OrderPaid(data=paid):
            answer = model.judge_order(said, known.paid_content, paid.user_id, known.order.user_id)
            if answer is APPLIED:
                await store.pay(tx, paid, said)
        case OrderClosed(data=data):
            answer = ALREADY_KNOWN if known.order.closed_at is not None else APPLIED
            await store.close(tx, data.order_id, hook.time)
        case OrderReceived(data=data):
            is_earliest = await store.receive(tx, data.order_id, hook.time)
            is_known = known.order.received_at is not None
            answer = APPLIED if not is_known else RECEIVED_EARLIER if is_earliest else ALREADY_KNOWN
        case OrderRefunded():
            answer = await _refund(tx, hook, said)
        case _:
            assert_never(hook)
    return answer


async def known_now(tx: Tx, hook: OrderHook, known: Known, answer: Answer) -> Order:
    """Return all that is known of an order once a fact was merged. What the hook says itself is not read again."""
    is_told = answer is APPLIED or not isinstance(hook, OrderPlaced | OrderPaid)
    order = model.with_fact(known.order, hook) if is_told else known.order
    if order.user_id is not None and not order.lines:
        order = replace(order, lines=await store.lines_of(tx, order.order_id))
    return model.with_what_was_paid(order)


async def complete(tx: Tx, hook: OrderPlaced | OrderPaid, said: bytes, known: Known, now: datetime) -> Answer | None:
    """Add lines that could not be read when the order was told, if nothing else differs; None if it does."""
    is_paid = isinstance(hook, OrderPaid)
    before = known.paid_content if is_paid else known.placed_content
    order = await store.read_order(tx, hook.data.order_id)
    if before is None or order is None or order.user_id != hook.data.user_id or (order.is_paid and not is_paid):
        return None
    added = hooks.added_lines(hook, before, {line.line_id for line in order.lines})
    if not added:
        return None
    await store.complete(tx, hook, added, said)
    if is_paid:
        mended = await store.read_order(tx, hook.data.order_id)
        assert mended is not None
        mended = refund.counted(mended, await refund_store.told_in_all(tx, order.order_id))
        await refund_store.count(tx, mended)
        events = await corrected(tx, mended, now), await _changed_firsts(tx, order, mended, now)
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
