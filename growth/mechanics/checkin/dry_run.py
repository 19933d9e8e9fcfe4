"""What a check-in would get, and why: decisions without I/O."""

from datetime import date, datetime
from typing import Literal

from msgspec import Struct

from growth.kit.campaign.audience import not_admitted
from growth.mechanics.checkin.model import CheckinMilestone, CheckinProgram
from growth.mechanics.checkin.streak.model import (
    NextCheckinMilestone,
    OpenDays,
    Streak,
    closed_today,
    count,
    next_milestone,
    reached,
    terms_of,
)
from growth.vocabulary.audience import AudienceType
from growth.vocabulary.refusals import Refusal
from growth.vocabulary.rewards import Reward

MAX_MISSED_DAYS = 400
"""A shopper who was away for longer is told of a later one."""


class CheckinDryRun(Struct, frozen=True, kw_only=True):
    """What a check-in would get, without doing it."""

    would: Literal["check_in", "repeat", "refuse"]
    """`repeat`: the day's first answer again."""
    code: str | None
    because: str
    at: datetime
    day: date
    streak: int
    """Days in a row, with this one."""
    position: int
    """In the table of rewards."""
    total_days: int
    reward: list[Reward]
    """Of the day; what is used up by then is not known."""
    milestones: list[CheckinMilestone]
    """Those it would reach."""
    next_milestone: NextCheckinMilestone | None


def tried(
    standing: Streak,
    program: CheckinProgram,
    history: OpenDays,
    at: datetime,
    day: date,
    missed: AudienceType | None = None,
) -> CheckinDryRun:
    """Say what a check-in of `day` would get, after `standing`, of who does not meet `missed` of the audience."""
    refusal = closed_today(program, day) or (None if missed is None else not_admitted(missed))
    is_repeat = standing.last_counted == day
    if is_repeat or refusal is not None or standing.last_day == day:
        after = standing
        reward, marks = [], []
    else:
        after = count(standing, day, terms_of(program), history)
        reward, marks = terms_of(program).reward(after.position), reached(standing, after, program)
    return CheckinDryRun(
        would="repeat" if is_repeat else "refuse" if refusal is not None else "check_in",
        code=None if is_repeat or refusal is None else refusal.kind.code,
        because=_because(standing, after, history, day, refusal, is_repeat=is_repeat),
        at=at,
        day=day,
        streak=after.streak,
        position=after.position,
        total_days=after.total,
        reward=reward,
        milestones=marks,
        next_milestone=next_milestone(after, program, is_alive=True),
    )


def _because(
    before: Streak,
    after: Streak,
    history: OpenDays,
    day: date,
    refusal: Refusal | None,
    *,
    is_repeat: bool,
) -> str:
    if is_repeat:
        return "The day is checked in: its first answer is told again."
    if refusal is not None:
        condition = refusal.members.get("condition")
        return refusal.kind.title + ("" if condition is None else f" The shopper does not meet {condition}.")
    if before.last_day is None:
        return "The shopper's first day."
    missed = history.missed(before.last_day, day, MAX_MISSED_DAYS)
    if missed:
        return f"{missed[-1]} was missed: the streak of {before.streak} is broken, and the table starts again."
    if before.program_id != after.program_id:
        return f"The streak goes on from {before.last_day}; the table starts again with a new program."
    return f"The streak goes on from {before.last_day}: day {after.streak} in a row, row {after.position} of the table."
