"""What the pack is, and who gets it: decisions without I/O."""

from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

from growth.plumbing.field_errors import FieldError
from growth.rewards.granting.model import Budget, Grant
from growth.vocabulary.clock import MAX_AHEAD
from growth.vocabulary.refusals import Kind
from growth.vocabulary.rewards import CouponReward, Reward

MAX_REWARDS = 20
MAX_REGISTERED_WITHIN_DAYS = 365

BUDGET_ID = "00000000-0000-8000-8000-00000000face"
"""There is one pack, so its budget has a name of its own."""
REASON = "pack.new_shopper"

VERSION_MISMATCH = Kind("pack.version_mismatch", "Somebody else changed the pack.", 412)


class PackDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about the pack."""

    enabled: bool
    rewards: Annotated[list[Reward], Meta(max_length=MAX_REWARDS)]
    registered_within_days: Annotated[int, Meta(ge=1, le=MAX_REGISTERED_WITHIN_DAYS)] = 7
    """Who registered longer ago when the shop tells of it gets nothing: old shoppers that are told late are not new."""
    budget: Budget | None = None
    """Counted in rewards, not in packs; without bound, if left out."""


class Pack(PackDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pack as Postgres knows it."""

    version: int
    changed_at: datetime | None


class PackPage(Struct, frozen=True, kw_only=True):
    """The pack as operators see it."""

    pack: Pack
    shoppers: int
    """Who had one."""
    rewards_given: int
    rewards_missed: int
    """Not given because the budget was spent or a coupon was gone."""


class Recipient(Struct, frozen=True, kw_only=True):
    """Who had the pack."""

    user_id: str
    at: datetime
    outcome: str
    """`given`; `merged` for an id that became another's before it had one."""
    rewards: int
    given: int


def is_new(pack: PackDraft, registered_at: datetime, now: datetime) -> bool:
    """Say whether who registered then is new enough."""
    return now - timedelta(days=pack.registered_within_days) <= registered_at <= now + MAX_AHEAD


def grants_of(pack: PackDraft, user_id: str, name: str) -> list[Grant]:
    """Return what one shopper is given. `name` makes the keys: nobody's id, which could change hands."""
    budget_id = BUDGET_ID if pack.budget is not None else None
    return [
        Grant(
            user_id=user_id,
            reward=reward,
            reason=REASON,
            key=f"new_shopper_pack:{name}:{place}",
            subject=BUDGET_ID,
            budget_id=budget_id,
        )
        for place, reward in enumerate(pack.rewards)
    ]


def coupons_in(draft: PackDraft) -> list[str]:
    """Return the coupon templates in the pack."""
    return sorted({one.template_id for one in draft.rewards if isinstance(one, CouponReward)})


def faults(draft: PackDraft, missing_templates: frozenset[str]) -> list[FieldError]:
    """Return what is wrong with a draft, by field."""
    found = [
        FieldError(f"rewards[{place}].template_id", "There is no such coupon template, or it has ended")
        for place, one in enumerate(draft.rewards)
        if isinstance(one, CouponReward) and one.template_id in missing_templates
    ]
    if draft.enabled and not draft.rewards:
        found.append(FieldError("rewards", "An enabled pack has something in it"))
    return found
