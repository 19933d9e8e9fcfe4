"""Orders of the shop, as rooms that take part in them see them: the one place that says what a fact of an order means.

*Refunded*, of a line: all its units came back, or all its money did ("all the money, keep the goods" has no units). Of
an order: every line that cost something is refunded. A gift of 0 fen that the shopper keeps does not keep the order
from being refunded; a line of 0 fen is refunded by its units alone. More money than a line cost (freight, goodwill)
counts as far as the line goes; once all refunds together reach what the whole order cost, every line that cost
something is refunded, however the money was spread over lines (`shop/refund` counts so).

*A purchase* is a paid order for whose lines money was paid. *Bought* has who made a purchase that is not refunded;
whoever has not is a *newcomer*. A *first order* of a shopper is a purchase before which, by `paid_at` and then by
`order_id`, they have bought by none: once an earlier one is paid back whole, or turns up, another is the first. Whoever
was erased after they had bought, and is back, has none for as long as that is remembered.
An order for which nothing was paid (0 in all, or freight alone) is none of these and earns nobody anything; what it
holds (a claim of price 0) it pays for all the same.

*What was paid* for lines never exceeds what was paid in all: where lines cost more than `paid_fen` (the rest came from
a balance, points, a gift card), `paid_fen` is spread over them in proportion. Whoever earns by amount earns by that.
What the shop must pay back is of what the line cost, and so is what counts as refunded.
"""

from collections.abc import Sequence
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
    owed_fen: int | None = None
    """What the shop must still pay back of the line, all reasons together; null where nothing.

    A room says it only where it is a part of the line: for its own reason.
    """


class Use(Struct, frozen=True):
    """What a line pays for, or is paid with, beside its goods: a thing that some room holds for the shopper."""

    kind: str
    """Room and noun: `flash_sale.claim`."""
    id: str


class OrderLine(Struct, frozen=True, kw_only=True):
    """One line of an order, and how much of it was paid back."""

    line_id: str
    sku: str
    units: int
    amount_fen: int
    """What the whole line cost, all its units together, however it was paid."""
    unpaid_fen: int = 0
    """What of it was not paid in money: 0 unless the lines of the order cost more than was paid in all."""
    uses: tuple[Use, ...] = ()
    """By kind, one of a kind."""
    refunded_units: int = 0
    """0 … units; counted once the order is known to be paid, whenever the refund was heard of."""
    refunded_fen: int = 0
    """0 … amount_fen, as above."""

    def used(self, kind: str) -> str | None:
        """Return the id of what the line uses of a kind."""
        return next((use.id for use in self.uses if use.kind == kind), None)

    @property
    def is_refunded(self) -> bool:
        """Whether all units of the line came back, or all its money did."""
        return self.refunded_units == self.units or 0 < self.amount_fen == self.refunded_fen

    @property
    def units_back(self) -> int:
        """Units that the shopper no longer pays for: all, where all the money came back."""
        return self.units if self.is_refunded else self.refunded_units

    @property
    def paid_fen(self) -> int:
        """What was paid for the line in money."""
        return self.amount_fen - self.unpaid_fen

    @property
    def kept_fen(self) -> int:
        """What of that money the house keeps; refunds count against money first."""
        return 0 if self.is_refunded else max(0, self.paid_fen - self.refunded_fen)

    @property
    def left_fen(self) -> int:
        """What there is still to pay back of the line."""
        return 0 if self.is_refunded else self.amount_fen - self.refunded_fen


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
    def kinds(self) -> frozenset[str]:
        """What kinds of things its lines use."""
        return frozenset(use.kind for line in self.lines for use in line.uses)

    @property
    def is_paid(self) -> bool:
        """Whether the payment was heard of: then the user, the lines and what was refunded of them are final facts."""
        return self.paid_at is not None

    @property
    def is_purchase(self) -> bool:
        """Whether money was paid for the lines."""
        return self.is_paid and any(line.paid_fen > 0 for line in self.lines)

    @property
    def is_refunded(self) -> bool:
        """Whether every line that cost something is refunded; every line, where none did."""
        lines = [line for line in self.lines if line.amount_fen > 0] or self.lines
        return self.is_paid and all(line.is_refunded for line in lines)

    @property
    def is_bought(self) -> bool:
        """Whether its shopper has bought by it. `shop.store.buyers` says the same of all orders of a shopper."""
        return self.is_purchase and not self.is_refunded


def spread(fen: int, amounts_fen: Sequence[int]) -> list[int]:
    """Divide `fen` over amounts in proportion to them, in whole fen, by the largest remainder.

    `fen` must not exceed their sum. The shares sum up to it, and none exceeds its amount. Of equal remainders the
    earlier gets the fen.
    """
    total_fen = sum(amounts_fen)
    assert 0 <= fen <= total_fen
    if total_fen == 0:
        return [0 for _ in amounts_fen]
    shares = [fen * amount // total_fen for amount in amounts_fen]
    remainders = [fen * amount % total_fen for amount in amounts_fen]
    left = fen - sum(shares)
    for index in sorted(range(len(shares)), key=lambda index: (-remainders[index], index))[:left]:
        shares[index] += 1
    return shares
