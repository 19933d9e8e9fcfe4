"""How refunds count: decisions without I/O."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from growth.vocabulary.events.shop import ShopOrderRefunded, ShopRefundLine
from growth.vocabulary.orders import LineOutcome, Order, Outcome

CLIPPED = "shop.refund_clipped"
NO_SUCH_LINE = "shop.no_such_line"


class Refund(Struct, frozen=True):
    """One refund as it was told, which may be of more than the order turned out to have."""

    refund_id: str
    refunded_at: datetime
    lines: list[tuple[str, int, int]]
    """`line_id`, units, fen."""


class RefundedLine(Struct, frozen=True):
    """What all refunds told so far say of one line."""

    units: int = 0
    fen: int = 0


NOTHING = RefundedLine()


def add(told: dict[str, RefundedLine], refund: Refund) -> None:
    """Add one refund to what was told before it."""
    for line_id, units, fen in refund.lines:
        was = told.get(line_id, NOTHING)
        told[line_id] = RefundedLine(was.units + units, was.fen + fen)


def counted(order: Order, told: Mapping[str, RefundedLine]) -> Order:
    """Return a paid order with as much refunded as `told` says, each line as far as it goes.

    Once all money told, of whatever line, reaches what the order cost (its lines, or all that was paid where that is
    more), all money of the order is back, and so that of every line.
    """
    cost_fen = max(order.paid_fen or 0, sum(line.amount_fen for line in order.lines))
    is_all_back = 0 < cost_fen <= sum(one.fen for one in told.values())
    return replace(
        order,
        lines=tuple(
            replace(
                line,
                refunded_units=min(line.units, told.get(line.line_id, NOTHING).units),
                refunded_fen=line.amount_fen
                if is_all_back
                else min(line.amount_fen, told.get(line.line_id, NOTHING).fen),
            )
            for line in order.lines
        ),
    )


def notes(order: Order, told: Mapping[str, RefundedLine], line_ids: Iterable[str]) -> list[LineOutcome]:
    """Say which of the lines named are refunded beyond what they have, or are none of the order's."""
    lines = {line.line_id: line for line in order.lines}
    found = []
    for line_id in sorted(line_ids):
        line, all_told = lines.get(line_id), told[line_id]
        if line is None:
            detail = "A refund names it, but the order does not have it."
            found.append(LineOutcome(line_id, Outcome.IGNORED, NO_SUCH_LINE, detail))
        elif all_told.units > line.units or all_told.fen > line.amount_fen:
            detail = "More of it was refunded than it has; that counts as far as it goes."
            found.append(LineOutcome(line_id, Outcome.APPLIED, CLIPPED, detail))
    return found


def event_of(before: Order, after: Order, refund: Refund, now: datetime) -> ShopOrderRefunded | None:
    """Return the event of the refund that brought a paid order from `before` to `after`; None if nothing counts."""
    assert after.user_id is not None
    lines = [
        ShopRefundLine(
            line_id=line.line_id,
            sku=line.sku,
            units=line.refunded_units - was.refunded_units,
            amount_fen=line.refunded_fen - was.refunded_fen,
        )
        for was, line in zip(before.lines, after.lines, strict=True)
        if was != line
    ]
    if not lines:
        return None
    return ShopOrderRefunded(
        at=now,
        order_id=after.order_id,
        user_id=after.user_id,
        refund_id=refund.refund_id,
        refunded_at=refund.refunded_at,
        lines=lines,
        is_whole=after.is_refunded and not before.is_refunded,
    )


def replayed(order: Order, refunds: Sequence[Refund], now: datetime) -> list[ShopOrderRefunded]:
    """Return the events of refunds that were told before the payment, in their order; of `order` none counts yet."""
    events, before = list[ShopOrderRefunded](), order
    told: dict[str, RefundedLine] = {}
    for refund in refunds:
        add(told, refund)
        after = counted(order, told)
        if event := event_of(before, after, refund, now):
            events.append(event)
        before = after
    return events
