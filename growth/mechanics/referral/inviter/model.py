"""What an inviter is shown."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.mechanics.referral.model import Caps, CommissionRule, InviteMilestone, ProgramTerms, WithdrawalTerms
from growth.mechanics.referral.relation.model import MyInviter, RelationState
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import Uuid
from growth.vocabulary.rewards import Reward

By = Literal["people", "money"]

MAX_RANK = 10_000
"""Further down nobody is told a place: counting would cost more than it is worth."""


class ReferralTerms(Struct, frozen=True, kw_only=True):
    """What is promised to inviters and invitees now."""

    program_id: Uuid
    title: str
    description: str | None
    closes_at: datetime | None
    levels: int
    level_1: CommissionRule | None
    level_2: CommissionRule | None
    skus: list[str]
    min_order_fen: int
    invitee_rewards: list[Reward]
    inviter_rewards: list[Reward]
    milestones: list[InviteMilestone]
    caps: Caps
    attribution_days: int
    relation_days: int | None
    available_after_days: int
    withdrawal: WithdrawalTerms
    is_open: bool
    """Shoppers can be bound; otherwise the program is paused."""
    is_admitted: bool
    """Whether this shopper may invite: the shopper is among those whom the program is for."""


class ReferralTotals(Struct, frozen=True, kw_only=True):
    """Invitees by state, ever; a state counts those of the states after it no more."""

    bound: int = 0
    """Bound, without a first order."""
    bought: int = 0
    """With a first order that is paid and not received."""
    valid: int = 0
    """With a first order that was received."""


class InviteMilestoneStanding(Struct, frozen=True, kw_only=True):
    """One milestone, and how far it is."""

    invitees: int
    rewards: list[Reward]
    is_reached: bool
    missing: int
    """Valid invitees it still takes."""


class ReferralPage(Struct, frozen=True, kw_only=True):
    """A shopper's page."""

    code: str
    scene: str
    """For a mini-program's code: `scene` of getwxacodeunlimit."""
    program: ReferralTerms | None
    """None while no program is live."""
    totals: ReferralTotals
    valid_in_program: int
    """What milestones are counted by."""
    milestones: list[InviteMilestoneStanding]
    next_milestone: InviteMilestoneStanding | None
    inviter: MyInviter | None
    server_time: datetime


class InviteeCard(Struct, frozen=True, kw_only=True):
    """An invitee as the inviter sees them."""

    relation_id: Uuid
    nickname: str
    """Masked."""
    state: RelationState
    bound_at: datetime
    ends_at: datetime | None


class Leader(Struct, frozen=True, kw_only=True):
    """One place of a leaderboard."""

    rank: int
    """Who has as much shares the place."""
    inviter: str
    """Masked."""
    people: int
    money_fen: int
    is_me: bool


class MyRank(Struct, frozen=True, kw_only=True):
    """The shopper's own place."""

    rank: int | None
    """None beyond 10,000, and for who has nothing."""
    people: int
    money_fen: int


class Leaderboard(Struct, frozen=True, kw_only=True):
    """The first of one month."""

    month: str
    by: By
    items: list[Leader]
    me: MyRank
    server_time: datetime


def show_terms(
    terms: ProgramTerms, withdrawal: WithdrawalTerms, *, is_open: bool, is_admitted: bool = True
) -> ReferralTerms:
    """Show what is promised, all of it, with what holds for withdrawals now."""
    return alike(ReferralTerms, terms, terms.draft, withdrawal=withdrawal, is_open=is_open, is_admitted=is_admitted)


def show_milestones(
    milestones: list[InviteMilestone], valid: int, held: frozenset[int]
) -> list[InviteMilestoneStanding]:
    """Show how far each milestone is."""
    return [
        alike(InviteMilestoneStanding, one, is_reached=one.invitees in held, missing=max(0, one.invitees - valid))
        for one in milestones
    ]
