"""What the shop's facts say about an order, and how whoever takes part in it answers. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from growth.plumbing.postgres import Tx


class Outcome(StrEnum):
    """What became of an event, or of one line of its order."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """This event id was answered before; of events only, never of lines."""
    REFUND_REQUIRED = "refund_required"
    """Money came in for what cannot be given: the shop must pay this line back."""
    IGNORED = "ignored"
    REJECTED = "rejected"


class LineOutcome(Struct, frozen=True):
    """What became of one line of an order. The shop reads it in the answer to its hook."""

    line_id: str
    outcome: Outcome
    code: str = ""
    """Stable, `room.reason`; empty where the outcome says it all."""
    detail: str = ""


class OrderLine(Struct, frozen=True, kw_only=True):
    """One line of an order, and how much of it was paid back."""

    line_id: str
    sku: str
    units: int
    amount_fen: int
    """Paid for the whole line, all its units together."""
    claim_id: str | None = None
    """The flash-sale claim that this line pays for. Never beside a seat."""
    seat_id: str | None = None
    """The group-buy seat that this line pays for. Never beside a claim."""
    coupon_id: str | None = None
    refunded_units: int = 0
    """0 … units; counted once the order is known to be paid, whenever the refund was heard of."""
    refunded_fen: int = 0
    """0 … amount_fen, as above."""

    @property
    def is_refunded(self) -> bool:
        """Whether all units of the line were paid back."""
        return self.refunded_units == self.units


class Order(Struct, frozen=True, kw_only=True):
    """All facts heard so far about one order. A fact not heard is None; `closed` beside `paid` is possible."""

    order_id: str
    user_id: str | None = None
    """Known as soon as the order is placed or paid."""
    placed_at: datetime | None = None
    paid_at: datetime | None = None
    paid_fen: int | None = None
    closed_at: datetime | None = None
    received_at: datetime | None = None
    lines: tuple[OrderLine, ...] = ()
    """By line_id. The paid lines once `paid_at` is known, before that the placed ones; none when neither was heard."""


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
