"""What a shopper who takes coupons asks for and sees."""

from datetime import date, datetime

from msgspec import Struct

from growth.rewards.coupon.template.model import (
    CouponTemplate,
    Discount,
    PageState,
    TakenSoFar,
    Validity,
    page_state,
    refusal_of,
)
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import Uuid


class TakeAsk(Struct, frozen=True):
    """One shopper's wish for a coupon."""

    coupon_id: str
    template_id: str
    user_id: str


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
    discount: Discount
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


def show_template(template: CouponTemplate, standing: TakenSoFar, now: datetime, day: date) -> TemplatePage:
    """Show a template to a shopper."""
    per_day = template.units_per_day
    units_left = max(0, template.units_left)
    return alike(
        TemplatePage,
        template,
        units_left=units_left,
        units_left_today=None if per_day is None else max(0, min(per_day - template.taken_on(day), units_left)),
        taken_by_me=standing.taken,
        is_admitted=standing.missed is None,
        can_take=refusal_of(template, standing, now, day) is None,
        state=page_state(template, now),
        server_time=now,
    )
