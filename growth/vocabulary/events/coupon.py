"""Events of coupons."""

from datetime import datetime

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Facts


class CouponTemplateEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one template of coupons."""

    template_id: str

    @property
    def subject(self) -> str:
        """The template."""
        return self.template_id


class CouponTemplatePublished(CouponTemplateEvent, frozen=True, kw_only=True, tag="coupon.template_published"):
    """Coupons of a template can be given from now on; its promise is fixed."""

    title: str
    claimable: bool
    """Whether shoppers may take one themselves."""


class CouponTemplatePaused(CouponTemplateEvent, frozen=True, kw_only=True, tag="coupon.template_paused"):
    """An operator stopped new coupons for now. Those that shoppers have are as good as before."""


class CouponTemplateResumed(CouponTemplateEvent, frozen=True, kw_only=True, tag="coupon.template_resumed"):
    """An operator let coupons be given again."""


class CouponTemplateEnded(CouponTemplateEvent, frozen=True, kw_only=True, tag="coupon.template_ended"):
    """No more coupons of a template. Those that shoppers have are as good as before."""

    units_total: int
    issued: int


class CouponEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one coupon."""

    facts = Facts()

    coupon_id: str
    template_id: str
    user_id: str

    @property
    def subject(self) -> str:
        """The coupon."""
        return self.coupon_id


class CouponIssued(CouponEvent, frozen=True, kw_only=True, tag="coupon.issued"):
    """A shopper has a new coupon."""

    facts = Facts(visit="coupon", only="taken")

    source: str
    """`taken` by the shopper, by a printed `code`, or `granted` by a campaign or an operator."""
    reason: str
    """Why, as a code: `coupon.taken`, `coupon.code`, or the campaign's own, such as `checkin.day`."""
    valid_from: datetime
    valid_until: datetime


class CouponUsed(CouponEvent, frozen=True, kw_only=True, tag="coupon.used"):
    """An order with the coupon was paid."""

    facts = Facts(visit="coupon")

    order_id: str
    paid_fen: int
    """Paid for the lines that it was used on, after the discount."""


class CouponReturned(CouponEvent, frozen=True, kw_only=True, tag="coupon.returned"):
    """The order that had the coupon was closed unpaid, paid without it or paid back, or was unpaid for days."""

    order_id: str
    state: str
    """What it is now: `issued`, `expired` or `voided`."""
    valid_until: datetime


class CouponExpiring(CouponEvent, frozen=True, kw_only=True, tag="coupon.expiring"):
    """An unused coupon ends soon. Told once."""

    valid_until: datetime


class CouponExpired(CouponEvent, frozen=True, kw_only=True, tag="coupon.expired"):
    """The end of an unused coupon has passed."""

    valid_until: datetime


class CouponVoided(CouponEvent, frozen=True, kw_only=True, tag="coupon.voided"):
    """An unused coupon was taken back."""


class CouponRefundRequired(CouponEvent, frozen=True, kw_only=True, tag="coupon.refund_required"):
    """Deprecated: listen to `shop.refund_required`, which tells what is owed of a line once, for all reasons together.

    An order line was paid with a coupon that it could not have: the shop must pay the line back. Told once. Ends with
    the next release. `user_id` is whoever the coupon belongs to, `buyer_id` who paid.
    """

    order_id: str
    line_id: str
    buyer_id: str
    amount_fen: int
    reason: str
    """`coupon.of_other_order`, `coupon.of_other_shopper` or `coupon.voided`."""
