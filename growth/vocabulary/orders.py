"""Orders of the shop, as rooms that take part in them see them."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


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

    @property
    def is_paid(self) -> bool:
        """Whether the payment was heard of: then the user, the lines and what was refunded of them are final facts."""
        return self.paid_at is not None
