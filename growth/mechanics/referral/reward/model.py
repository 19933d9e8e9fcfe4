"""Which orders count, and which milestones are held: decisions without I/O."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from growth.mechanics.referral.model import InviteMilestone, ReferralDraft
from growth.rewards.granting.model import Grant
from growth.vocabulary.orders import Order
from growth.vocabulary.rewards import Reward

INVITER, INVITEE = "referral.inviter", "referral.invitee"
MILESTONE = "referral.milestone"
REFUNDED, MERGED = "referral.refunded", "referral.merged"


class HeldRelation(Struct, frozen=True, kw_only=True):
    """A relation and its first order, locked."""

    relation_id: str
    inviter_id: str
    invitee_id: str
    is_new: bool
    bound_at: datetime
    ends_at: datetime | None
    first_order_id: str | None
    first_program_id: str | None
    first_version: int | None
    is_valid: bool
    is_rewarded: bool


class HeldMilestone(Struct, frozen=True, kw_only=True):
    """A milestone that an inviter holds."""

    milestone_id: str
    invitees: int
    times: int
    rewards: list[Reward]


def counts(draft: ReferralDraft, order: Order) -> bool:
    """Say whether a paid order can be an invitee's first: enough was paid for lines in scope, and some of it kept."""
    lines = [line for line in order.lines if draft.covers(line.sku)]
    is_kept = any(line.kept_fen > 0 for line in lines)
    return is_kept and sum(line.paid_fen for line in lines) >= draft.min_order_fen


def rewards_of(draft: ReferralDraft, relation: HeldRelation, order_id: str, *, is_rewarded: bool) -> Iterator[Grant]:
    """Return what both get for a valid invitee. Keys name relation and order: for another order it is given anew."""
    budget_id = relation.first_program_id if draft.budget is not None else None
    sides = [(INVITEE, relation.invitee_id, draft.invitee_rewards)]
    if is_rewarded:
        sides.append((INVITER, relation.inviter_id, draft.inviter_rewards))
    for reason, user_id, rewards in sides:
        for number, reward in enumerate(rewards):
            yield Grant(
                user_id=user_id,
                reward=reward,
                reason=reason,
                key=f"{reason}:{relation.relation_id}:{order_id}:{number}",
                subject=relation.relation_id,
                budget_id=budget_id,
            )


def milestone_keys(milestone_id: str, times: int, rewards: Sequence[object]) -> list[str]:
    """Return the keys of what is given for reaching a milestone for the `times`-th time."""
    return [f"{MILESTONE}:{milestone_id}:{times}:{number}" for number in range(len(rewards))]


def reached(milestones: Sequence[InviteMilestone], held: Sequence[HeldMilestone], valid: int) -> list[InviteMilestone]:
    """Return what an inviter with so many valid invitees should hold, and does not."""
    have = {one.invitees for one in held}
    return [one for one in milestones if one.invitees <= valid and one.invitees not in have]


def lost(held: Sequence[HeldMilestone], valid: int) -> list[HeldMilestone]:
    """Return what an inviter holds, and has too few valid invitees for."""
    return [one for one in held if one.invitees > valid]
