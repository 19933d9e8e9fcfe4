"""What a shopper can be given: one tagged union, the same in every campaign, entry and event."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from growth.vocabulary.ids import Uuid
from growth.vocabulary.money import MAX_FEN

MAX_POINTS = 1_000_000
"""Of one grant."""
MAX_CARDS = 31
"""Of one grant."""
MAX_VALID_DAYS = 3_660


class _Reward(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of all rewards."""


class PointsReward(_Reward, frozen=True, tag="points"):
    """Points to spend in the shop."""

    points: Annotated[int, Meta(ge=1, le=MAX_POINTS, description="Whole points.")]
    valid_days: Annotated[int, Meta(ge=1, le=MAX_VALID_DAYS)] | None = None
    """Days until these points expire; never, if left out."""


class CouponReward(_Reward, frozen=True, tag="coupon"):
    """A coupon of a published template."""

    template_id: Uuid


class GrowthReward(_Reward, frozen=True, tag="growth"):
    """Growth value: what membership levels count."""

    growth: Annotated[int, Meta(ge=1, le=MAX_POINTS, description="Whole units of growth value.")]


class CommissionReward(_Reward, frozen=True, tag="commission"):
    """Money to withdraw."""

    IS_MONEY: ClassVar[bool] = True

    amount_fen: Annotated[int, Meta(ge=1, le=MAX_FEN, description="Whole fen (1/100 yuan).")]


class MakeUpCardReward(_Reward, frozen=True, tag="make_up_card"):
    """Cards that repair a day without a check-in."""

    cards: Annotated[int, Meta(ge=1, le=MAX_CARDS)] = 1


class FreezeCardReward(_Reward, frozen=True, tag="freeze_card"):
    """Cards that are used up by themselves on a day without a check-in, and keep the streak."""

    cards: Annotated[int, Meta(ge=1, le=MAX_CARDS)] = 1


Reward = PointsReward | CouponReward | GrowthReward | CommissionReward | MakeUpCardReward | FreezeCardReward


def gives_money(value: Any) -> bool:
    """Say whether a campaign has money among what it gives, wherever that stands in it: what says so of its kind."""
    if isinstance(value, Struct):
        if getattr(value, "IS_MONEY", False):
            return True
        return any(gives_money(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, Mapping):
        return any(map(gives_money, value.values()))
    return isinstance(value, list | tuple) and any(map(gives_money, value))
