"""Events of the merchant's order system, as its signed hooks told them: each fact once, whoever told it how often.

`at` is when this service learned of it; the time of the fact itself stands beside it. Of one order they come in the
order in which its facts became known, and nothing that needs the payment comes before it: a refund, or a receipt, that
the shop told too early follows its order's `shop.order_paid`. Where something that is told later makes what they said
of a paid order untrue, `shop.order_corrected` says all of it anew: whoever decided on the old facts decides again.
"""

from datetime import datetime

from msgspec import Struct

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Deed, Facts, FunnelStage


class ShopOrderLine(Struct, frozen=True, kw_only=True):
    """One line of an order, as it was placed or paid."""

    line_id: str
    sku: str
    units: int
    amount_fen: int
    """For all units together."""
    claim_id: str | None = None
    """The flash-sale claim that the line pays for."""
    seat_id: str | None = None
    """The group-buy seat that the line pays for."""
    coupon_id: str | None = None


class ShopRefundLine(Struct, frozen=True, kw_only=True):
    """How much more of one line is paid back by a refund: units, money, or both. All refunds never exceed a line."""

    line_id: str
    sku: str
    units: int
    amount_fen: int


class ShopOrderEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one order."""

    order_id: str

    @property
    def subject(self) -> str:
        """The order."""
        return self.order_id


class ShopOrderPlaced(ShopOrderEvent, frozen=True, kw_only=True, tag="shop.order_placed"):
    """An order was placed. May come after `shop.order_paid`, if the shop told them so."""

    facts = Facts(visit="order", occurred_at="placed_at")

    user_id: str
    placed_at: datetime
    lines: list[ShopOrderLine]


class ShopOrderPaid(ShopOrderEvent, frozen=True, kw_only=True, tag="shop.order_paid"):
    """An order was paid."""

    facts = Facts(
        visit="order",
        step=FunnelStage.BOUGHT,
        step_if="is_purchase",
        does=Deed.PURCHASE,
        occurred_at="paid_at",
        undone_by="shop.order_refunded",
        key="order_id",
    )

    user_id: str
    paid_at: datetime
    paid_fen: int
    """What the shopper paid in all: with freight, after every deduction. Not the sum of the lines."""
    lines: list[ShopOrderLine]
    is_first_order: bool
    """It is a purchase, and of those made before it none is known by then that was not paid back whole."""
    is_purchase: bool = True
    """Money was paid for its lines. An order for which nothing was paid makes nobody a buyer, and earns nothing."""


class ShopOrderLinesAdded(ShopOrderEvent, frozen=True, kw_only=True, tag="shop.order_lines_added"):
    """Lines of a paid order that were left out, since they could not be read, were told again and are part of it."""

    facts = Facts()

    user_id: str
    lines: list[ShopOrderLine]


class ShopOrderReceived(ShopOrderEvent, frozen=True, kw_only=True, tag="shop.order_received"):
    """The shopper has the goods of a paid order."""

    # It is often the carrier that confirms a receipt: no visit.
    facts = Facts(does=Deed.PURCHASE, occurred_at="received_at", undone_by="shop.order_refunded", key="order_id")

    user_id: str
    received_at: datetime
    is_purchase: bool = True
    """Money was paid for its lines."""


class ShopOrderRefunded(ShopOrderEvent, frozen=True, kw_only=True, tag="shop.order_refunded"):
    """Part of a paid order, or all of it, was paid back. Once for each refund of which something counts."""

    facts = Facts()

    user_id: str
    refund_id: str
    """Unique within its order."""
    refunded_at: datetime
    lines: list[ShopRefundLine]
    """As far as lines go: what exceeds a line is left out. Once all that the order cost is back, all lines are."""
    is_whole: bool
    """With this refund every line that cost something is paid back: all units or all money."""


class ShopOrderCorrected(ShopOrderEvent, frozen=True, kw_only=True, tag="shop.order_corrected"):
    """What was told of a paid order is otherwise by now; here is all that counts of it, as it is.

    Lines were mended; it turned out to be received earlier; or it is a first order, or is none any more, since another
    order of the shopper was paid, or paid back, or became theirs.
    """

    facts = Facts(counts_for=None, visit="order", step=FunnelStage.BOUGHT, step_if="is_purchase", occurred_at="paid_at")

    user_id: str
    paid_at: datetime
    paid_fen: int
    """What the shopper paid in all: with freight, after every deduction. Not the sum of the lines."""
    lines: list[ShopOrderLine]
    is_first_order: bool
    """It is a purchase, and of those made before it none is known that was not paid back whole."""
    is_purchase: bool
    """Money was paid for its lines."""
    received_at: datetime | None
    """When the shopper had the goods, UTC; null where that was not told."""
    has_refund: bool
    """Something of it is paid back."""
    is_whole: bool
    """Every line that cost something is paid back: all units or all money."""


class ShopRefundRequired(ShopOrderEvent, frozen=True, kw_only=True, tag="shop.refund_required"):
    """The shop must pay back a line of an order, whole or in part, for whatever reasons.

    Once for each line; again only where more is owed than was told before, with all that is owed then.
    """

    facts = Facts()

    line_id: str
    user_id: str
    """Who paid."""
    amount_fen: int
    """What must still be paid back of the line, all reasons together; 0 where it cost nothing and must not be sent."""
    reasons: list[str]
    """Codes, such as `flash_sale.sold_out`, `group_buy.team_failed`, `coupon.of_other_order`."""


class ShopOrderClosed(ShopOrderEvent, frozen=True, kw_only=True, tag="shop.order_closed"):
    """An order was given up without payment, as far as the shop knew: it may have been paid all the same."""

    facts = Facts()

    user_id: str | None
    """None for an order that was not heard of before."""
    closed_at: datetime


class ShopShopperRegistered(Event, frozen=True, kw_only=True, tag="shop.shopper_registered"):
    """Somebody became a shopper. Once for each: what is told of it later is a `shop.registration_corrected`.

    From which device and address stays with the shop's room: `shop.service.registration` tells those who must know.
    """

    facts = Facts(visit="registration", does=Deed.REGISTER, occurred_at="registered_at")

    user_id: str
    registered_at: datetime
    source: str | None
    """Where the shopper came from, in the shop's own words."""

    @property
    def subject(self) -> str:
        """The shopper."""
        return self.user_id


class ShopRegistrationCorrected(Event, frozen=True, kw_only=True, tag="shop.registration_corrected"):
    """A known shopper registered earlier, or from elsewhere, than was told before. The earliest telling counts."""

    facts = Facts(counts_for=None, visit="registration", occurred_at="registered_at")

    user_id: str
    registered_at: datetime
    source: str | None
    """Where the shopper came from, in the shop's own words."""
    was_registered_at: datetime
    """When the shopper was thought to have registered before, UTC."""

    @property
    def subject(self) -> str:
        """The shopper."""
        return self.user_id
