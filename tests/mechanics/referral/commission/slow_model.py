"""What commissions should be, worked out slowly and plainly from the orders as they were told. No state, no ledger."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

DAYS = timedelta(days=7)


class Line(NamedTuple):
    line_id: str
    units: int
    amount_fen: int


class Refund(NamedTuple):
    line_id: str
    units: int
    amount_fen: int


class Told(NamedTuple):
    """One order, all that ever happened to it."""

    order_id: str
    user_id: str
    paid_at: datetime
    lines: Sequence[Line]
    refunds: Sequence[Sequence[Refund]]
    received_at: datetime | None


def kept(order: Told, line: Line) -> int:
    units = sum(one.units for refund in order.refunds for one in refund if one.line_id == line.line_id)
    fen = sum(one.amount_fen for refund in order.refunds for one in refund if one.line_id == line.line_id)
    return 0 if units == line.units else line.amount_fen - fen


def share(order: Told) -> tuple[int, int]:
    """What was kept of an order, and what was paid for it."""
    return sum(kept(order, line) for line in order.lines), sum(line.amount_fen for line in order.lines)


def is_kept(order: Told, min_order_fen: int) -> bool:
    return share(order)[0] >= max(1, min_order_fen)


def earned(order: Told, orders: Sequence[Told], *, basis_points: int, fixed_fen: int, min_order_fen: int = 0) -> int:
    """What one order earns the inviter of who paid it."""
    if basis_points:
        return sum(kept(order, line) * basis_points // 10_000 for line in order.lines)
    rivals = [one for one in orders if one.user_id == order.user_id and is_kept(one, min_order_fen)]
    first = min(rivals, key=lambda one: (one.paid_at, one.order_id), default=None)
    of, paid = share(order)
    return fixed_fen * of // paid if order == first else 0


def balances(
    orders: Sequence[Told],
    inviters: Mapping[str, Sequence[str]],
    rules: Sequence[tuple[int, int]],
    now: datetime,
    min_order_fen: int = 0,
) -> Mapping[str, tuple[int, int]]:
    """Pending and available of each inviter, the clock having struck at `now`. `rules`: basis points, sum; by level."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for order in orders:
        for inviter, (basis_points, fixed_fen) in zip(inviters.get(order.user_id, ()), rules, strict=False):
            fen = earned(order, orders, basis_points=basis_points, fixed_fen=fixed_fen, min_order_fen=min_order_fen)
            is_available = order.received_at is not None and order.received_at + DAYS <= now
            found[inviter][1 if is_available else 0] += fen
    return {inviter: (pending, available) for inviter, (pending, available) in found.items()}
