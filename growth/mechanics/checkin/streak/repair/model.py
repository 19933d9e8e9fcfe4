"""Which missed days a make-up card repairs, and where days lead in each program. No I/O."""

from collections.abc import Mapping, Sequence
from datetime import date

from msgspec import Struct

from growth.mechanics.checkin.model import CheckinProgram
from growth.mechanics.checkin.streak.model import (
    CheckinNotGranted,
    CheckinTerms,
    Day,
    DayKind,
    NextCheckinMilestone,
    OpenDays,
    Streak,
    folded,
)
from growth.vocabulary.events.checkin import CheckinReached
from growth.vocabulary.refusals import Kind
from growth.vocabulary.rewards import Reward

NO_CARD = Kind("checkin.no_card", "The shopper has no make-up card.")
TOO_OLD = Kind("checkin.too_old", "The day is too long ago to be made up.")
ALREADY_CHECKED_IN = Kind("checkin.already_checked_in", "The day is already checked in.")
MONTH_LIMIT = Kind("checkin.month_limit", "The program allows no more made-up days this month.")
BEFORE_PROGRAM = Kind("checkin.before_program", "The day is before the program's first.")
FUTURE_DAY = Kind("checkin.future_day", "The day is not over: only missed days can be made up.")
PAUSED_DAY = Kind("checkin.paused_day", "Nobody could check in on that day; it broke nothing.")
FROZEN_DAY = Kind("checkin.frozen_day", "A freeze card kept the streak on that day; there is nothing to repair.")


class MadeUp(Struct, frozen=True, kw_only=True):
    """A day that was made up."""

    day: date
    streak: int
    """Days in a row up to the newest one."""
    longest_streak: int
    total_days: int
    """Days within the program."""
    reward: list[Reward]
    """What was given: for the day, for days after it that rose in the table, for milestones."""
    not_granted: list[CheckinNotGranted]
    """What would have been given, but is used up."""
    milestones: list[CheckinReached]
    """Those reached with it."""
    next_milestone: NextCheckinMilestone | None
    make_ups_left: int
    """This month."""


def refusal_of(program: CheckinProgram, held: Day | None, day: date, today: date) -> Kind | None:
    """Say why a day cannot be made up today, cards and the month's limit aside; None if it can."""
    if day >= today:
        return FUTURE_DAY
    if day < program.from_day:
        return BEFORE_PROGRAM
    if held is not None:
        return FROZEN_DAY if held.kind == DayKind.FROZEN else ALREADY_CHECKED_IN
    if (today - day).days > program.make_up_within_days:
        return TOO_OLD
    return None if program.pause_on(day) is None else PAUSED_DAY


def by_program(days: Sequence[Day], terms: Mapping[int, CheckinTerms], history: OpenDays) -> dict[str, Streak]:
    """Return where all days of a shopper, oldest first, lead within each program that they are in."""
    return {
        standing.program_id: standing for _, standing in folded(days, terms, history) if standing.program_id is not None
    }
