"""A sale as simple as can be said: who holds what, and what an order makes of it. The truth that others are held to."""

from msgspec import Struct

from growth.mechanics.flash_sale.model import Sale

LIMIT = 2
"""Units one shopper may hold."""
SHORT_HOLD, LONG_HOLD = 30, 3600
"""Seconds."""


class Claimed(Struct):
    """A claim, in the model."""

    user_id: str
    units: int
    hold_seconds: int
    state: str = "held"
    is_closed: bool = False
    """Released because its order was closed."""
    order: str | None = None
    refunded: int = 0
    returned: int = 0

    @property
    def occupied(self) -> int:
        return 0 if self.state == "released" else self.units - self.returned


class Ordered(Struct):
    """An order of one line, in the model: the facts that were told."""

    claim_id: str
    placed: bool = False
    paid: bool = False
    closed: bool = False
    owed: bool = False
    refunds: int = 0
    """How often one was told."""
    refunded: int = 0


class Model:
    """Who holds what."""

    def __init__(self, sale: Sale) -> None:
        self.sale = sale
        self.state = "published"
        self.total = sale.units_total
        self.hold_seconds = SHORT_HOLD
        self.claims: dict[str, Claimed] = {}
        self.orders: dict[str, Ordered] = {}

    def taken(self, user_id: str | None = None) -> int:
        return sum(claim.occupied for claim in self.claims.values() if user_id in {None, claim.user_id})

    def why_not(self, user_id: str, units: int) -> str | None:
        """Why a new claim is refused, if it is."""
        if self.state != "published":
            return f"flash_sale.{self.state}"
        return self.why_not_late(user_id, units)

    def why_not_late(self, user_id: str, units: int) -> str | None:
        if self.taken(user_id) + units > LIMIT:
            return "flash_sale.limit_reached"
        return "flash_sale.sold_out" if self.taken() + units > self.total else None

    def lapse(self, hold_seconds: int) -> int:
        lapsed = [c for c in self.claims.values() if c.state == "held" and c.hold_seconds <= hold_seconds]
        for claim in lapsed:
            claim.state = "released"
        return len(lapsed)

    def settle(self, order_id: str) -> str:
        """What the facts of an order make of its claim, and how its hook is answered."""
        order = self.orders[order_id]
        claim = self.claims[order.claim_id]
        if order.paid:
            return self._settle_paid(order_id, order, claim)
        if not order.placed:
            return "applied"
        if claim.order != order_id:
            if claim.state != "held" or claim.order is not None:
                if order.closed:
                    return "applied"
                return f"rejected flash_sale.claim_{'of_other_order' if claim.order else 'not_held'}"
            claim.order = order_id
        if order.closed:
            if claim.state == "held":
                claim.state, claim.is_closed = "released", True
        elif claim.state != "held":
            return "rejected flash_sale.claim_not_held"
        return "applied"

    def _settle_paid(self, order_id: str, order: Ordered, claim: Claimed) -> str:
        if not (claim.order == order_id and claim.state in {"paid", "refunded"}):
            why = "known" if order.owed else self._sell(order_id, claim)
            if why is not None:
                order.owed = True
                return "applied" if order.refunded == claim.units else "refund_required"
        if order.refunded > claim.refunded:
            claim.refunded = order.refunded
            claim.returned = order.refunded if self.sale.refund_returns_units else 0
            claim.state = "refunded" if claim.refunded == claim.units else "paid"
        return "applied"

    def _sell(self, order_id: str, claim: Claimed) -> str | None:
        why = None
        if claim.state in {"paid", "refunded"}:
            why = "other order's"
        elif claim.state == "released":
            # Paid within its hold, as all here are that were not let lapse: closing first makes no payment late.
            is_late = self.sale.late_payment == "refund" and not claim.is_closed
            why = "late" if is_late else self.why_not_late(claim.user_id, claim.units)
        if why is None:
            claim.state, claim.order = "paid", order_id
        return why
