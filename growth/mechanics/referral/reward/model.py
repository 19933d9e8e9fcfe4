"""Which orders count, and which milestones are held: decisions without I/O."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from growth.mechanics.referral.model import InviteMilestone, ProgramTerms, ReferralDraft
from growth.mechanics.referral.relation.model import CLOCKS_APART
from growth.rewards.granting.model import Grant
from growth.vocabulary.orders import Order
from growth.vocabulary.rewards import GrowthReward, PointsReward, Reward

INVITER, INVITEE = "referral.inviter", "referral.invitee"
MILESTONE = "referral.milestone"
REFUNDED, MERGED = "referral.refunded", "referral.merged"
CORRECTED = "referral.corrected"
"""What is known by now says otherwise: another order was the first, or the invitee was no newcomer."""


class HeldRelation(Struct, frozen=True, kw_only=True):
    """A relation and its first order, locked."""

    relation_id: str
    inviter_id: str
    invitee_id: str
    is_by_code: bool
    """Whether the invitee asked for it; else an operator bound them."""
    is_new: bool
    bound_at: datetime
    ends_at: datetime | None
    first_order_id: str | None
    first_paid_at: datetime | None
    first_program_id: str | None
    first_version: int | None
    first_received_at: datetime | None
    rewarded_day: date | None
    first_times: int
    """How often a first order was found: each time, what is given for it has keys of its own."""

    @property
    def is_valid(self) -> bool:
        """Whether the first order was received."""
        return self.first_received_at is not None

    @property
    def is_rewarded(self) -> bool:
        """Whether it was within the inviter's caps."""
        return self.rewarded_day is not None

    def was_in_force(self, at: datetime) -> bool:
        """Whether the invitee had this inviter at `at`."""
        return self.bound_at <= at + CLOCKS_APART and (self.ends_at is None or at < self.ends_at)


class First(Struct, frozen=True, kw_only=True):
    """The order that is an invitee's first by what is known now, whose it is, and the terms it was paid under."""

    relation_id: str
    order: Order
    terms: ProgramTerms

    @property
    def order_id(self) -> str:
        """Its id."""
        return self.order.order_id

    @property
    def program_id(self) -> str:
        """The program whose terms they are."""
        return self.terms.program_id

    @property
    def paid_at(self) -> datetime:
        """When it was paid."""
        assert self.order.paid_at is not None
        return self.order.paid_at


class HeldMilestone(Struct, frozen=True, kw_only=True):
    """A milestone that an inviter holds."""

    milestone_id: str
    invitees: int
    times: int
    rewards: list[Reward]


def is_newcomer(
    relation: HeldRelation,
    *,
    bought_since: datetime | None,
    registered_at: datetime | None,
    attribution_days: int | None,
    is_remembered: bool,
) -> bool:
    """Say whether an invitee was new when bound, by what is known now: what is told later counts as if told before.

    Whoever an operator bound need only not have bought, by what is known to the second. `attribution_days`: of the
    terms that they were bound under, None where those are not known. `is_remembered`: they had an inviter, or bought,
    in a life that was erased.
    """
    apart = CLOCKS_APART if relation.is_by_code else timedelta()
    if is_remembered or (bought_since is not None and relation.bound_at > bought_since + apart):
        return False
    if not relation.is_by_code or registered_at is None or attribution_days is None:
        return True
    return relation.bound_at < registered_at + timedelta(days=attribution_days)


def why_lost(held: HeldRelation, first: First | None, *, is_new: bool) -> str:
    """Say why a first order is one no longer: nothing of it was kept, or another fact came to be known."""
    assert held.first_paid_at is not None
    assert held.first_order_id is not None
    is_beaten = first is not None and (first.paid_at, first.order_id) < (held.first_paid_at, held.first_order_id)
    return CORRECTED if is_beaten or not is_new else REFUNDED


def kept_and_paid_fen(draft: ReferralDraft, order: Order) -> tuple[int, int]:
    """Return what was kept of an order's lines in scope, and what was paid for them."""
    lines = [line for line in order.lines if draft.covers(line.sku)]
    return sum(line.kept_fen for line in lines), sum(line.paid_fen for line in lines)


def counts(draft: ReferralDraft, order: Order) -> bool:
    """Say whether a paid order can be an invitee's first: enough was paid for lines in scope, and kept of them."""
    return kept_and_paid_fen(draft, order)[0] >= max(1, draft.min_order_fen)


def share_of(reward: Reward, kept: int, paid: int) -> Reward | None:
    """Return the share of a reward that was kept of its order, rounded down; None for nothing.

    What cannot be parted, a coupon or a card, stays whole.
    """
    assert 0 < kept <= paid
    match reward:
        case PointsReward():
            return replace(reward, points=share) if (share := reward.points * kept // paid) else None
        case GrowthReward():
            return replace(reward, growth=share) if (share := reward.growth * kept // paid) else None
        case _:
            return reward


def rewards_of(
    draft: ReferralDraft, relation: HeldRelation, order_id: str, kept: int, paid: int, *, is_rewarded: bool
) -> Iterator[Grant]:
    """Return what both get for a valid invitee, of whose order so much was kept of what was paid.

    Keys name relation and order, and how often a first order was found: what was taken back can be given anew.
    """
    budget_id = relation.first_program_id if draft.budget is not None else None
    for reason, user_id, number, reward in _promised(draft, relation, is_rewarded=is_rewarded):
        share = share_of(reward, kept, paid)
        if share is not None:
            yield Grant(
                user_id=user_id,
                reward=share,
                reason=reason,
                key=_key(reason, relation, order_id, number),
                subject=relation.relation_id,
                budget_id=budget_id,
            )


def keys_of(draft: ReferralDraft, relation: HeldRelation, order_id: str, *, is_rewarded: bool) -> list[str]:
    """Return the keys of all that both may have been given for a valid invitee."""
    promised = _promised(draft, relation, is_rewarded=is_rewarded)
    return [_key(reason, relation, order_id, number) for reason, _, number, _ in promised]


def _promised(
    draft: ReferralDraft, relation: HeldRelation, *, is_rewarded: bool
) -> Iterator[tuple[str, str, int, Reward]]:
    sides = [(INVITEE, relation.invitee_id, draft.invitee_rewards)]
    if is_rewarded:
        sides.append((INVITER, relation.inviter_id, draft.inviter_rewards))
    for reason, user_id, rewards in sides:
        for number, reward in enumerate(rewards):
            yield reason, user_id, number, reward


def _key(reason: str, relation: HeldRelation, order_id: str, number: int) -> str:
    times = f":{relation.first_times}" if relation.first_times else ""
    return f"{reason}:{relation.relation_id}:{order_id}:{number}{times}"


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
