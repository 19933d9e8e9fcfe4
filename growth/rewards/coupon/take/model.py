"""Who gets a coupon by hand, and who does not: decisions without I/O."""

from datetime import date, datetime

from msgspec import Struct

from growth.rewards.coupon.template import model as templates
from growth.rewards.coupon.template.model import CouponTemplate, PageState, Validity, page_state
from growth.vocabulary.audience import NOT_IN_AUDIENCE, AudienceType
from growth.vocabulary.ids import Uuid
from growth.vocabulary.refusals import Kind


class TakeAsk(Struct, frozen=True):
    """One shopper's wish for a coupon."""

    coupon_id: str
    template_id: str
    user_id: str


class TakenSoFar(Struct, frozen=True):
    """What one shopper took of one template."""

    taken: int = 0
    taken_today: int = 0
    missed: AudienceType | None = None
    """What of the template's audience the shopper does not meet."""


def taken_of(template_id: str) -> str:
    """Return how it is remembered of an erased shopper that a coupon was taken."""
    return f"coupon:{template_id}"


def taken_on(template_id: str, day: date) -> str:
    """Return how it is remembered that it was taken on a day."""
    return f"coupon:{template_id}:{day}"


class TemplatePage(Struct, frozen=True, kw_only=True):
    """Coupons that a shopper may take, as that shopper sees them."""

    template_id: Uuid
    title: str
    description: str | None
    discount: templates.Discount
    threshold_fen: int
    skus: list[str]
    """All, if empty."""
    validity: Validity
    units_total: int
    units_left: int
    units_left_today: int | None
    """Null where a day has no quota of its own."""
    max_per_shopper: int
    taken_by_me: int
    is_admitted: bool
    """Whether this shopper is among those whom it is for."""
    can_take: bool
    """Whether this shopper would get one now."""
    state: PageState
    opens_at: datetime | None
    closes_at: datetime | None
    server_time: datetime


def refused_by_template(template: CouponTemplate, now: datetime, *, by_code: bool = False) -> Kind | None:
    """Say why nobody gets a coupon of this template at `now`, the day's quota aside. Codes have their units kept."""
    state = page_state(template, now)
    no = {"ended": templates.ENDED, "paused": templates.PAUSED, "scheduled": templates.NOT_OPEN}.get(state)
    if no is not None or by_code:
        return no
    if not template.claimable:
        return templates.NOT_CLAIMABLE
    return templates.SOLD_OUT if state == "sold_out" else None


def refused_by_limit(template: CouponTemplate, standing: TakenSoFar) -> Kind | None:
    """Say whether the shopper is outside of the audience, or took as many as are allowed."""
    if standing.missed is not None:
        return NOT_IN_AUDIENCE
    if standing.taken >= template.max_per_shopper:
        return templates.LIMIT_REACHED
    per_day = template.max_per_shopper_per_day
    return templates.LIMIT_REACHED_TODAY if per_day is not None and standing.taken_today >= per_day else None


def refusal_of(template: CouponTemplate, standing: TakenSoFar, now: datetime, day: date) -> Kind | None:
    """Say what one wish is refused as, or None if it gets a coupon. `day` is that of `now` at the merchant's.

    The shopper's own limit comes before the quota: who has one wants to hear that, not that others were quicker.
    """
    no = refused_by_template(template, now)
    if no is not None and no is not templates.SOLD_OUT:
        return no
    limited = refused_by_limit(template, standing)
    if limited is not None or no is not None:
        return limited or no
    per_day = template.units_per_day
    return templates.SOLD_OUT_TODAY if per_day is not None and template.taken_on(day) >= per_day else None


def show_template(template: CouponTemplate, standing: TakenSoFar, now: datetime, day: date) -> TemplatePage:
    """Show a template to a shopper."""
    per_day = template.units_per_day
    return TemplatePage(
        template_id=template.template_id,
        title=template.title,
        description=template.description,
        discount=template.discount,
        threshold_fen=template.threshold_fen,
        skus=template.skus,
        validity=template.validity,
        units_total=template.units_total,
        units_left=max(0, template.units_left),
        units_left_today=None
        if per_day is None
        else max(0, min(per_day - template.taken_on(day), template.units_left)),
        max_per_shopper=template.max_per_shopper,
        taken_by_me=standing.taken,
        is_admitted=standing.missed is None,
        can_take=refusal_of(template, standing, now, day) is None,
        state=page_state(template, now),
        opens_at=template.opens_at,
        closes_at=template.closes_at,
        server_time=now,
    )
