"""Gives what days and milestones earn, through the one door."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from growth.mechanics.checkin.model import CheckinMilestone, CheckinProgram, milestone_reached
from growth.mechanics.checkin.streak import store
from growth.mechanics.checkin.streak.model import CheckedIn, CheckinNotGranted, Day, Streak, next_milestone
from growth.plumbing.postgres.database import Tx
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Grant
from growth.vocabulary.events.checkin import CheckinReached
from growth.vocabulary.ids import new_id
from growth.vocabulary.rewards import Reward


class Earned(Struct, frozen=True, kw_only=True):
    """What one shopper earned in one program at once."""

    user_id: str
    former_id: str | None = None
    """An id that becomes this one in the same transaction: what it had before it was erased is had."""
    program: CheckinProgram
    occasion: str
    """What for, once each: a day, a repair."""
    reason: str
    rewards: list[Reward]
    milestones: list[CheckinMilestone]


class Given(Struct, frozen=True):
    """What became of it."""

    rewards: list[Reward]
    not_granted: list[CheckinNotGranted]
    milestones: list[CheckinMilestone]
    """Those that had not been reached before."""

    @property
    def reached(self) -> list[CheckinReached]:
        """The milestones, as they are told."""
        return [CheckinReached(milestone.days, milestone.of) for milestone in self.milestones]


def answer_of(standing: Streak, program: CheckinProgram, day: Day, given: Given) -> CheckedIn:
    """Return what a check-in is answered: the day as it is held, and where it leads."""
    return CheckedIn(
        day=day.day,
        streak=day.streak,
        longest_streak=standing.longest,
        total_days=standing.total,
        position=day.position,
        reward=given.rewards,
        not_granted=given.not_granted,
        milestones=given.reached,
        next_milestone=next_milestone(standing, program, is_alive=True),
    )


async def give(tx: Tx, earned: Sequence[Earned], now: datetime) -> list[Given]:
    """Give all of it, each occasion and each milestone once, ever; say what became of each, in order."""
    fresh = await _reach(tx, earned, now)
    given = [Given([], [], milestones) for milestones in fresh]
    grants: list[Grant] = []
    owners: list[Given] = []
    for one, its in zip(earned, given, strict=True):
        for grant in _grants(one, its.milestones, new_id(now)):
            grants.append(grant)
            owners.append(its)
    for grant, its, told in zip(grants, owners, await granting.grant(tx, grants, now), strict=True):
        match told.outcome:
            case "budget_spent" | "coupon_gone" as code:
                its.not_granted.append(CheckinNotGranted(grant.reward, code))
            case _:
                its.rewards.append(grant.reward)
    return given


async def _reach(tx: Tx, earned: Sequence[Earned], now: datetime) -> list[list[CheckinMilestone]]:
    """Return the milestones of each that had not been reached before."""
    rows = [(one.user_id, one.program.program_id, mark.of, mark.days) for one in earned for mark in one.milestones]
    fresh = await store.reach(tx, rows, now) if rows else set()
    # Noted all the same, so that it is behind: what an erased shopper had who is back is not given again.
    former = {one.user_id: one.former_id for one in earned if one.former_id is not None}
    asked = {
        (who, milestone_reached(program_id, of, days)): (user_id, program_id, of, days)
        for user_id, program_id, of, days in fresh
        for who in {user_id, former.get(user_id, user_id)}
    }
    fresh -= {asked[pair] for pair in await tx.people.units_had(tx, asked)}
    return [
        [mark for mark in one.milestones if (one.user_id, one.program.program_id, mark.of, mark.days) in fresh]
        for one in earned
    ]


def _grants(one: Earned, milestones: Sequence[CheckinMilestone], name: str) -> Iterator[Grant]:
    """Yield what is given. Days, repairs and milestones happen once by their rows; `name` names nobody in the keys."""
    program = one.program
    prefix = f"checkin:{program.program_id}:{name}"
    marked = [(f"{prefix}:{one.occasion}", one.reason, one.rewards)]
    marked += [(f"{prefix}:{mark.of}-{mark.days}", "checkin.milestone", mark.rewards) for mark in milestones]
    for key, reason, rewards in marked:
        for number, reward in enumerate(rewards):
            yield Grant(
                user_id=one.user_id,
                reward=reward,
                reason=reason,
                key=f"{key}:{number}",
                subject=program.program_id,
                budget_id=None if program.budget is None else program.program_id,
            )
