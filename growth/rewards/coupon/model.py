"""What a coupon is, and what is asked of the room by others: words and decisions without I/O."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.rewards.coupon.template.model import CouponTemplate, Discount
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import Uuid
from growth.vocabulary.refusals import Kind

COUPON_NOT_FOUND = Kind("coupon.not_found", "There is no such coupon.", 404)
NOT_VOIDABLE = Kind("coupon.not_voidable", "This coupon can no longer be voided.")

CouponState = Literal["issued", "locked", "used", "expired", "voided"]
STATES: tuple[CouponState, ...] = ("issued", "locked", "used", "expired", "voided")
Source = Literal["taken", "code", "granted"]
IssueOutcome = Literal["issued", "already", "gone"]


class Issue(Struct, frozen=True, kw_only=True):
    """One coupon to issue. The same `coupon_id` is issued once, however often it is asked for."""

    coupon_id: str
    """The caller's: `derived_id(…)`."""
    template_id: str
    user_id: str
    reason: str
    """A code: `checkin.day`."""


class Issued(Struct, frozen=True):
    """What became of one `Issue`."""

    coupon_id: str
    outcome: IssueOutcome
    """`gone`: the quota is spent, the template is not published (any more, or just now), or its coupons would be over
    the moment they are issued."""


class Voided(Struct, frozen=True):
    """What became of taking one coupon back."""

    coupon_id: str
    outcome: Literal["voided", "already", "locked", "used", "expired", "not_found"]
    """`already`: it was voided before. `locked` and `used`: an order has it; it is voided if that gives it back."""


class Coupon(Struct, frozen=True, kw_only=True):
    """A coupon as Postgres knows it."""

    coupon_id: Uuid
    template_id: Uuid
    user_id: str
    state: CouponState
    source: Source
    reason: str
    issued_at: datetime
    valid_from: datetime
    valid_until: datetime
    order_id: str | None = None
    """The order that has it."""
    locked_at: datetime | None = None
    used_at: datetime | None = None
    paid_fen: int | None = None
    """Paid for the lines that it was used on."""
    revoked_at: datetime | None = None
    """Taken back while an order had it, or voided."""
    ended_at: datetime | None = None
    """When it expired or was voided."""


class CouponFilter(Struct, frozen=True, kw_only=True):
    """Which coupons; None for all."""

    template_id: str | None = None
    user_id: str | None = None
    state: CouponState | None = None
    order_id: str | None = None
    """What this order has, locked or used."""

    @property
    def states(self) -> list[CouponState]:
        """Those that are asked for."""
        return list(STATES) if self.state is None else [self.state]


class CouponPage(Struct, frozen=True, kw_only=True):
    """A coupon as its shopper sees it."""

    coupon_id: Uuid
    template_id: Uuid
    title: str
    description: str | None
    discount: Discount
    threshold_fen: int
    skus: list[str]
    """All, if empty."""
    state: CouponState
    issued_at: datetime
    valid_from: datetime
    valid_until: datetime
    order_id: str | None
    used_at: datetime | None
    server_time: datetime


def state_at(coupon: Coupon, now: datetime) -> CouponState:
    """Say the state that a shopper sees: over when its end has passed, also before the clock's task came by."""
    return "expired" if coupon.state == "issued" and now >= coupon.valid_until else coupon.state


def show(coupon: Coupon, template: CouponTemplate, now: datetime) -> CouponPage:
    """Show a coupon to its shopper."""
    return alike(CouponPage, coupon, template, state=state_at(coupon, now), server_time=now)
