"""Relations as operators see them."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.mechanics.referral.relation.model import EndReason, RelationState
from growth.mechanics.referral.reward.model import HeldMilestone
from growth.vocabulary.ids import UserId, Uuid

MAX_TOLD = 100
"""Relations of each kind that are told of one shopper."""


class ReferralRelation(Struct, frozen=True, kw_only=True):
    """A relation as operators see it."""

    relation_id: Uuid
    inviter_id: UserId
    invitee_id: UserId
    state: RelationState
    is_current: bool
    program_id: Uuid
    source: Literal["shopper", "operator"]
    is_new: bool
    bound_at: datetime
    ends_at: datetime | None
    end_reason: EndReason | None
    first_order_id: str | None
    first_paid_at: datetime | None
    first_received_at: datetime | None
    is_rewarded: bool
    signs: list[str]


class RelationFilter(Struct, frozen=True, kw_only=True):
    """Which relations; None for all."""

    inviter_id: str | None = None
    invitee_id: str | None = None
    program_id: str | None = None
    state: str | None = None
    is_suspected: bool | None = None


class MergedMilestone(HeldMilestone, frozen=True, kw_only=True):
    """A milestone of one of two ids, held or not."""

    program_id: str
    inviter_id: str
    is_held: bool
