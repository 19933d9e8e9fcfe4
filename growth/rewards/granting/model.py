"""Words of granting. No I/O."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from growth.vocabulary.refusals import Kind
from growth.vocabulary.rewards import (
    CommissionReward,
    CouponReward,
    FreezeCardReward,
    GrowthReward,
    MakeUpCardReward,
    PointsReward,
    Reward,
)

MAX_BUDGET = 10**12

NOT_FOUND = Kind("grant.not_found", "There is no such grant.", 404)
NOT_GRANTED = Kind("grant.not_granted", "This grant gave nothing, so there is nothing to revoke.")
REVOKED = Kind("grant.revoked", "This grant was already revoked.")
GONE = Kind("grant.coupon_gone", "No coupon of this template is left, or it is not published.")


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """How much a campaign may give; what would go beyond is not given. What was taken back does not count."""

    max_grants: Annotated[int, Meta(ge=1, le=MAX_BUDGET)] | None = None
    """Rewards, whatever they are."""
    max_value: Annotated[int, Meta(ge=1, le=MAX_BUDGET)] | None = None
    """Points, fen, growth value and cards added up; a coupon counts as 1."""
    per: Literal["day", "all"] = "all"
    """Whether that is for each day (the merchant's), or for the whole campaign."""


class Spent(Struct, frozen=True):
    """What a campaign has given and not taken back, on the day asked for or in all."""

    grants: int
    value: int


class Grant(Struct, frozen=True, kw_only=True):
    """One reward for one shopper."""

    user_id: str
    reward: Reward
    reason: str
    """A code, `room.what`."""
    key: str
    """What it is for, 1 to 200 visible ASCII characters: given once, ever."""
    subject: str = ""
    """The id of what it is about."""
    budget_id: str | None = None
    """The campaign whose budget pays; None where there is no budget."""


class Granted(Struct, frozen=True):
    """What became of a grant."""

    key: str
    outcome: Literal["granted", "already", "budget_spent", "coupon_gone"]
    """`already`: this key was answered before, whatever the answer was."""
    coupon_id: str | None = None


class Revoked(Struct, frozen=True):
    """What became of taking a grant back."""

    key: str
    outcome: Literal["revoked", "already"]
    """`already`: taken back before, or never given."""
    in_use: bool = False
    """It was a coupon, and an order has it: it is voided if the order gives it back."""


class GrantRecord(Struct, frozen=True, kw_only=True):
    """A grant as operators see it."""

    grant_id: str
    key: str
    user_id: str
    reward: Reward
    reason: str
    subject: str
    outcome: Literal["granted", "budget_spent", "coupon_gone"]
    granted_at: datetime
    revoked_at: datetime | None
    revoked_for: str | None


def value_of(reward: Reward) -> int:
    """Return what a reward takes from a budget's value."""
    match reward:
        case PointsReward(points=value) | GrowthReward(growth=value) | CommissionReward(amount_fen=value):
            return value
        case MakeUpCardReward(cards=value) | FreezeCardReward(cards=value):
            return value
        case CouponReward():
            return 1
