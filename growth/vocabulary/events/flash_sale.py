"""Events of flash sales."""

from datetime import datetime

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Facts, FunnelStage


class FlashSaleEvent(Event, frozen=True, kw_only=True):
    """Base of what happens around one flash sale."""

    sale_id: str

    @property
    def subject(self) -> str:
        """The sale."""
        return self.sale_id


class FlashSalePublished(FlashSaleEvent, frozen=True, kw_only=True, tag="flash_sale.published"):
    """A sale became visible to shoppers."""

    sku: str
    opens_at: datetime
    closes_at: datetime


class FlashSalePaused(FlashSaleEvent, frozen=True, kw_only=True, tag="flash_sale.paused"):
    """An operator stopped claims for now."""


class FlashSaleResumed(FlashSaleEvent, frozen=True, kw_only=True, tag="flash_sale.resumed"):
    """An operator let claims go on."""


class FlashSaleEnded(FlashSaleEvent, frozen=True, kw_only=True, tag="flash_sale.ended"):
    """The window closed, or an operator ended the sale early."""

    units_total: int
    units_taken: int


class FlashSaleSoldOut(FlashSaleEvent, frozen=True, kw_only=True, tag="flash_sale.sold_out"):
    """The last unit was taken for the first time."""


class FlashSaleReminderDue(FlashSaleEvent, frozen=True, kw_only=True, tag="flash_sale.reminder_due"):
    """A shopper asked to be told before opening, and it is time. Once for each."""

    facts = Facts()

    user_id: str
    opens_at: datetime


class FlashSaleClaimEvent(FlashSaleEvent, frozen=True, kw_only=True):
    """Base of what happens to one claim."""

    facts = Facts()

    claim_id: str
    user_id: str
    units: int


class FlashSaleClaimHeld(FlashSaleClaimEvent, frozen=True, kw_only=True, tag="flash_sale.claim_held"):
    """Units are held for a shopper until `held_until`."""

    facts = Facts(visit="flash_sale", step=FunnelStage.CLAIMED)

    held_until: datetime


class FlashSaleClaimPaid(FlashSaleClaimEvent, frozen=True, kw_only=True, tag="flash_sale.claim_paid"):
    """An order paid for the claim; the units are sold."""

    facts = Facts(visit="flash_sale", step=FunnelStage.PAID, undone_by="flash_sale.claim_refunded", key="claim_id")

    order_id: str
    late: bool
    """The hold had lapsed and the units were taken again."""


class FlashSaleClaimReleased(FlashSaleClaimEvent, frozen=True, kw_only=True, tag="flash_sale.claim_released"):
    """A hold ended without payment; the units are for sale again."""

    facts = Facts(visit="flash_sale", only="shopper")

    reason: str
    """`shopper`, `lapsed`, `order_closed` or `operator`."""


class FlashSaleClaimRefunded(FlashSaleClaimEvent, frozen=True, kw_only=True, tag="flash_sale.claim_refunded"):
    """All units of a paid claim were refunded."""

    order_id: str


class FlashSaleRefundRequired(FlashSaleClaimEvent, frozen=True, kw_only=True, tag="flash_sale.refund_required"):
    """Deprecated: listen to `shop.refund_required`, which tells what is owed of a line once, for all reasons together.

    Money came in for units that cannot be given: the shop must pay this order line back. Once for each line. Ends with
    the next release.
    """

    order_id: str
    line_id: str
    reason: str


class FlashSaleDrawn(FlashSaleEvent, frozen=True, kw_only=True, tag="flash_sale.drawn"):
    """The draw is done: its winners hold claims, the rest of the units are open to all."""

    entries: int
    winners: int
    seed: str
    """Winners are the first of all entries by SHA-256 of `seed:user_id`; anyone can check."""
