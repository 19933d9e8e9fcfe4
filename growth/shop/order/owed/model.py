"""What is owed back for a line: decisions without I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from growth.vocabulary.orders import LineOutcome, Order, OrderLine, Outcome

OwedState = Literal["open", "settled"]


class RefundFinding(Struct, frozen=True, kw_only=True):
    """One room's reason why a line of a paid order must be paid back, whole or in part."""

    order_id: str
    line_id: str
    reason: str
    """A code, `room.reason`."""
    part_fen: int | None = None
    """So much of what the line cost, whatever of it is back already; None for all."""


class Owed(Struct, frozen=True, kw_only=True):
    """What is owed back for one line."""

    order_id: str
    line_id: str
    reasons: dict[str, int]
    """Code → how much of what the line cost, in fen."""
    owed_fen: int
    """All reasons together, before anything was paid back; never more than the line cost."""
    found_at: datetime
    settled_at: datetime | None = None


class RefundRequired(Struct, frozen=True, kw_only=True):
    """What is owed back for one line, as operators see it."""

    order_id: str
    line_id: str
    user_id: str
    """Who paid."""
    sku: str
    amount_fen: int
    """What must still be paid back; 0 for a line that cost nothing, and once it is settled."""
    reasons: list[str]
    found_at: datetime
    settled_at: datetime | None
    """When it was paid back, or no longer owed."""


def reasons_found(line: OrderLine, outcomes: Sequence[LineOutcome]) -> dict[str, int]:
    """Return what participants say is owed of a line, by reason."""
    found = {}
    for one in outcomes:
        if one.line_id != line.line_id:
            continue
        if one.outcome is Outcome.REFUND_REQUIRED:
            found[one.code] = line.amount_fen
        elif one.owed_fen:
            found[one.code] = one.owed_fen + line.refunded_fen
    return found


def still_owed_fen(owed: Owed, line: OrderLine) -> int:
    """Return what must still be paid back: what came back already counts."""
    return 0 if line.is_refunded else max(0, owed.owed_fen - line.refunded_fen)


def judged(known: Owed, line: OrderLine, reasons: Mapping[str, int], now: datetime) -> Owed:
    """Return what is owed of a line for `reasons`, all there are, beside what was `known` of it."""
    if line.is_refunded:
        return replace(known, settled_at=known.settled_at or now)
    after = replace(known, reasons=dict(sorted(reasons.items())), owed_fen=min(line.amount_fen, sum(reasons.values())))
    # Of a line that cost nothing the units are owed back.
    is_open = bool(reasons) and (still_owed_fen(after, line) > 0 or line.amount_fen == 0)
    return replace(after, settled_at=None if is_open else known.settled_at or now)


def is_news(known: Owed, after: Owed) -> bool:
    """Say whether the shop must be told: more is owed than it was told."""
    return after.settled_at is None and (after.owed_fen > known.owed_fen or not known.reasons)


def with_owed(order: Order, rows: Mapping[str, Owed], outcomes: Sequence[LineOutcome]) -> list[LineOutcome]:
    """Return what participants said, each with what its line must still be paid back in all."""
    lines = {line.line_id: line for line in order.lines}
    return [
        replace(one, owed_fen=still_owed_fen(rows[one.line_id], lines[one.line_id]))
        if one.line_id in rows and (one.outcome is Outcome.REFUND_REQUIRED or one.owed_fen)
        else replace(one, owed_fen=None)
        for one in outcomes
    ]
