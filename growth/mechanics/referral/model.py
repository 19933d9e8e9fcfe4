"""What a program promises, and what is wrong with one: decisions without I/O."""

from datetime import datetime
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import CampaignKind, Recipe, State
from growth.plumbing.field_errors import FieldError
from growth.plumbing.strict_json import Instant
from growth.rewards.compliance import Offer, check
from growth.rewards.granting.model import Budget
from growth.vocabulary.audience import Audience
from growth.vocabulary.events.referral import (
    ReferralProgramEnded,
    ReferralProgramPaused,
    ReferralProgramPublished,
    ReferralProgramResumed,
)
from growth.vocabulary.facts import Deed
from growth.vocabulary.ids import Sku, Uuid
from growth.vocabulary.money import MAX_FEN, Fen
from growth.vocabulary.refusals import Kind
from growth.vocabulary.rewards import CommissionReward, PointsReward, Reward
from growth.vocabulary.text import Description, Title

MAX_BASIS_POINTS = 5_000
"""Of both levels together: half of what was paid."""
MAX_SKUS = 200
MAX_REWARDS = 5
MAX_MILESTONES = 10
MAX_MILESTONE_INVITEES = 10_000
MAX_DAYS = 3_660
MAX_CAP = 1_000_000

NOT_FOUND = Kind("referral.not_found", "There is no such referral program.", 404)
WRONG_STATE = Kind("referral.wrong_state", "The program's state does not allow this.")
VERSION_MISMATCH = Kind("referral.version_mismatch", "Somebody else changed the program.", 412)
NOT_COMPLIANT = Kind("referral.not_compliant", "The program cannot be published like this.")
OTHER_IS_LIVE = Kind("referral.other_program_live", "Another program is live; end it first.")

PositiveFen = Annotated[int, Meta(ge=1, le=MAX_FEN, description="Whole fen (1/100 yuan), not 0.")]


class FixedRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="fixed"):
    """So much for an invitee's first order, once."""

    IS_MONEY: ClassVar[bool] = True
    amount_fen: PositiveFen


class PercentRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="percent"):
    """A share of what was paid for the lines in scope, of every order while the relation lasts."""

    IS_MONEY: ClassVar[bool] = True
    basis_points: Annotated[int, Meta(ge=1, le=MAX_BASIS_POINTS, description="1/100 of a percent.")]


CommissionRule = FixedRule | PercentRule


class InviteMilestone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an inviter gets for so many valid invitees in this program."""

    invitees: Annotated[int, Meta(ge=1, le=MAX_MILESTONE_INVITEES)]
    rewards: Annotated[list[Reward], Meta(min_length=1, max_length=MAX_REWARDS)]


class Caps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that one inviter earns; None for no limit. What is beyond earns nothing; the invitee loses nothing.

    Caps count what stands: what was paid back, or taken back, leaves room for what comes, or is heard of, after it.
    """

    invitees_per_day: Annotated[int, Meta(ge=1, le=MAX_CAP)] | None = None
    """Invitees that `inviter_rewards` are given for, by the day their order was received."""
    invitees: Annotated[int, Meta(ge=1, le=MAX_CAP)] | None = None
    """The same, over the whole program."""
    commission_fen_per_day: PositiveFen | None = None
    """Commission of orders paid on one day, both levels together."""


class WithdrawalTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How commission becomes money: what inviters are shown of the rules of withdrawals."""

    min_fen: PositiveFen = 1_000
    """The least that is paid out at once."""
    fee_fen: Fen = 0
    """Kept of each withdrawal; less than `min_fen`."""


class ReferralDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about a referral program."""

    title: Title
    description: Description | None = None
    """The terms in words, as shoppers read them."""
    closes_at: Instant | None = None
    """Orders paid from then on earn nothing; never, if left out."""
    levels: Annotated[int, Meta(ge=1, le=2)] = 1
    """Inviters above each other who earn from one order. The second takes a warning to be accepted at publish."""
    level_1: CommissionRule | None = None
    """Money for the inviter."""
    level_2: CommissionRule | None = None
    """Money for the inviter's inviter; only with `levels` 2."""
    skus: Annotated[list[Sku], Meta(max_length=MAX_SKUS)] = []
    """Lines of these only; of everything, if empty."""
    min_order_fen: PositiveFen = 1
    """What must have been paid for lines in scope, and not paid back, for an order to count as the first."""
    invitee_rewards: Annotated[list[Reward], Meta(max_length=MAX_REWARDS)] = []
    """For the invitee, once the first order was received."""
    inviter_rewards: Annotated[list[Reward], Meta(max_length=MAX_REWARDS)] = []
    """For the inviter, at the same moment, besides money."""
    milestones: Annotated[list[InviteMilestone], Meta(max_length=MAX_MILESTONES)] = []
    caps: Caps = Caps()
    attribution_days: Annotated[int, Meta(ge=1, le=MAX_DAYS)] = 7
    """How long after the first visit a shopper can still be bound."""
    relation_days: Annotated[int, Meta(ge=1, le=MAX_DAYS)] | None = 365
    """How long a relation lasts; for ever, if null. A relation keeps what it was bound with."""
    available_after_days: Annotated[int, Meta(ge=0, le=MAX_DAYS)] = 7
    """From receipt to the day that commission can be withdrawn."""
    withdrawal: WithdrawalTerms = WithdrawalTerms()
    """Deprecated: it no longer counts. Minimum and fee are rules of withdrawals: `PUT /admin/v1/withdrawal-rules`."""
    budget: Budget | None = None
    """How much the program gives in rewards, money aside; what is beyond is not given."""
    audience: Audience = []
    """Who may invite: all of these must hold for the inviter when somebody is bound; everybody, if empty. Who is bound
    already stays so. Invitees are new shoppers in any case."""

    def covers(self, sku: str) -> bool:
        """Whether lines of this SKU earn."""
        return not self.skus or sku in self.skus


class ProgramTerms(Struct, frozen=True, kw_only=True):
    """One version of a live program's promises. Never changed once written; what was earned under it names it."""

    program_id: Uuid
    version: int
    from_at: datetime
    until_at: datetime | None
    """When the next version, or the end, came."""
    draft: ReferralDraft

    def are_in_force(self, at: datetime) -> bool:
        """Whether an order paid at `at` is under these terms."""
        ends = [end for end in (self.until_at, self.draft.closes_at) if end is not None]
        return self.from_at <= at and all(at < end for end in ends)


class ReferralProgram(ReferralDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program as Postgres knows it."""

    program_id: Uuid
    state: State
    version: int
    created_at: datetime
    published_at: datetime | None
    ended_at: datetime | None


def faults(draft: ReferralDraft) -> list[FieldError]:
    """Return what does not fit together in a draft, by field."""
    found = []
    if draft.level_2 is not None and draft.levels == 1:
        found.append(FieldError("level_2", "Only with levels 2"))
    if draft.levels > 1 and (draft.level_1 is None or draft.level_2 is None):
        found.append(FieldError("level_2", "Two levels need level_1 and level_2"))
    points = [rule.basis_points for rule in (draft.level_1, draft.level_2) if isinstance(rule, PercentRule)]
    if sum(points) > MAX_BASIS_POINTS:
        found.append(FieldError("level_2", f"Both levels together are at most {MAX_BASIS_POINTS} basis points"))
    if draft.withdrawal.fee_fen >= draft.withdrawal.min_fen:
        found.append(FieldError("withdrawal.fee_fen", "Must be less than min_fen"))
    if len(set(draft.skus)) != len(draft.skus):
        found.append(FieldError("skus", "Has the same SKU twice"))
    if not (draft.level_1 or draft.inviter_rewards or draft.milestones or draft.invitee_rewards):
        found.append(FieldError("level_1", "Nobody would earn anything; give a rule, rewards or milestones"))
    for index, (one, after) in enumerate(zip(draft.milestones, draft.milestones[1:], strict=False), start=1):
        if after.invitees <= one.invitees:
            found.append(FieldError(f"milestones[{index}].invitees", "Milestones must rise"))
    return found + _faults_of_rewards(draft)


def _faults_of_rewards(draft: ReferralDraft) -> list[FieldError]:
    """Money has one way, `level_1` and `level_2`: it waits, and goes back by the share of a refund."""
    lists = {
        "invitee_rewards": draft.invitee_rewards,
        "inviter_rewards": draft.inviter_rewards,
        **{f"milestones[{index}].rewards": one.rewards for index, one in enumerate(draft.milestones)},
    }
    return [
        FieldError(f"{name}[{index}]", "No money here; level_1 and level_2 pay it")
        for name, rewards in lists.items()
        for index, reward in enumerate(rewards)
        if isinstance(reward, CommissionReward)
    ]


def findings(draft: ReferralDraft) -> list[Finding]:
    """Return what rules of platforms and law say about a program."""
    return check(
        Offer(
            deed=Deed.PURCHASE,
            by_invitee=True,
            invitee_is_rewarded=bool(draft.invitee_rewards),
            levels=draft.levels,
            texts=(draft.title, draft.description or ""),
        )
    )


def recipes(_now: datetime, _zone: ZoneInfo) -> list[Recipe[ReferralDraft]]:
    """Return ready drafts."""

    def program(title: str, description: str, **more: Any) -> ReferralDraft:
        return ReferralDraft(title=title, description=description, **more)

    points = [PointsReward(points=200)]
    milestones = [InviteMilestone(invitees=n, rewards=[PointsReward(points=n * 100)]) for n in (3, 10)]
    told = "好友首单签收后到账，退款时收回。"  # noqa: RUF001 - as Chinese is written
    return [
        Recipe(
            "ten_percent",
            "Ten percent of a friend's orders",
            "推荐返佣 10%",
            program("推荐好友返佣 10%", told, level_1=PercentRule(basis_points=1000)),
        ),
        Recipe(
            "points",
            "Points for a friend's first order",
            "邀请有礼送积分",
            program("邀请好友首单得积分", told, inviter_rewards=points, milestones=milestones),
        ),
    ]


PROGRAMS = CampaignKind(
    noun="referral program",
    nouns="referral programs",
    path="referral-programs",
    audited_as="referral",
    table="referral.programs",
    id_field="program_id",
    draft=ReferralDraft,
    campaign=ReferralProgram,
    document="draft",
    copied=("levels", "closes_at"),
    faults=faults,
    findings=findings,
    told={
        "publish": ReferralProgramPublished,
        "pause": ReferralProgramPaused,
        "resume": ReferralProgramResumed,
        "end": ReferralProgramEnded,
    },
    not_found=NOT_FOUND,
    wrong_state=WRONG_STATE,
    version_mismatch=VERSION_MISMATCH,
    not_compliant=NOT_COMPLIANT,
    recipes=recipes,
)
