"""Streaks are pure functions over days: which are held, by which terms, and on which nobody could have broken one.

`count` and `freeze` fold one more day into what is known of a shopper. Checking in folds today; a repair folds all days
anew (`replay`). Both give the same, and that is what the room's tests are about.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from growth.mechanics.checkin.model import CheckinMilestone, CheckinProgram, Cycle, shut_days
from growth.vocabulary.events.checkin import CheckinReached
from growth.vocabulary.refusals import Kind, Refusal
from growth.vocabulary.rewards import (
    MAX_CARDS,
    MAX_POINTS,
    CommissionReward,
    FreezeCardReward,
    GrowthReward,
    MakeUpCardReward,
    PointsReward,
    Reward,
)

ONE_DAY = timedelta(days=1)
MAX_DAYS_REMEMBERED = 1_024
"""Days of the calendar, which are the same for all shoppers."""
FEWEST_DAYS = 2
"""In a row: one day alone is no streak that could be at risk, frozen or broken."""
LIVE = frozenset({"published", "paused"})

NO_PROGRAM = Kind("checkin.no_program", "There is nothing to check in to today.")
PAUSED = Kind("checkin.paused", "Check-ins are paused; no streak breaks meanwhile.")


class DayKind(IntEnum):
    """Why a day is held. Days that are not held have no row."""

    CHECKED_IN = 1
    MADE_UP = 2
    FROZEN = 3
    """Keeps a streak, and does not count."""


class CheckinTerms(Struct, frozen=True):
    """What a version of a program promises; never changed, so that days can go on naming it."""

    terms_id: int
    program_id: str
    cycle: Cycle
    rewards: list[list[Reward]]

    def reward(self, position: int) -> list[Reward]:
        """Return what the day at this position (from 1) earns."""
        return self.rewards[min(position, len(self.rewards)) - 1]


class Day(Struct, frozen=True):
    """A day that a shopper holds."""

    day: date
    kind: DayKind
    terms_id: int
    streak: int
    """Days in a row, with this one."""
    position: int
    """In the table; 0 for a frozen day."""
    paid: int
    """The position it was paid for when it was written; 0 for one that was not: repairs are paid by themselves."""


class Streak(Struct, frozen=True, kw_only=True):
    """What is known of a shopper's days after the newest of them."""

    last_day: date | None = None
    """The newest that is held."""
    last_counted: date | None = None
    """The newest that counts."""
    program_id: str | None = None
    """Of that day."""
    judged: int | None = None
    """The terms by which all milestones up to here were looked at: under these, only those crossed later are left."""
    streak: int = 0
    """Days in a row up to `last_day`."""
    run: int = 0
    """Those of them in the program."""
    position: int = 0
    """In the program's table."""
    longest: int = 0
    """The longest streak ever."""
    best: int = 0
    """The longest run in the program."""
    total: int = 0
    """Days in the program."""


class NextCheckinMilestone(Struct, frozen=True):
    """The milestone that the fewest more days reach."""

    days: int
    of: Literal["total", "streak"]
    in_days: int
    """Check-ins it still takes, if none is missed."""
    rewards: list[Reward]


class CheckinNotGranted(Struct, frozen=True):
    """A reward that would have been given."""

    reward: Reward
    code: Literal["budget_spent", "coupon_gone"]


class CheckedIn(Struct, frozen=True, kw_only=True):
    """A day that is checked in: the first answer, and every further one of that day."""

    day: date
    streak: int
    """Days in a row, with this one."""
    longest_streak: int
    total_days: int
    """Days within the program, with this one."""
    position: int
    """In the table of rewards, from 1."""
    reward: list[Reward]
    """What was given, milestones included."""
    not_granted: list[CheckinNotGranted]
    """What would have been given, but is used up."""
    milestones: list[CheckinReached]
    """Those reached with it."""
    next_milestone: NextCheckinMilestone | None


class Zone:
    """Days of the merchant's zone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._info = ZoneInfo(name)
        self.has = lru_cache(MAX_DAYS_REMEMBERED)(self._has)
        """Whether the zone's calendar has a day: crossing the date line leaves one out."""

    def day(self, instant: datetime) -> date:
        """Return the day that `instant` is in."""
        return instant.astimezone(self._info).date()

    def begins_at(self, day: date) -> datetime:
        """Return the first instant of `day`; of a midnight that the clocks jump over, the one they jump at."""
        return datetime.combine(day, time(), self._info).astimezone(UTC)

    def _has(self, day: date) -> bool:
        return self.day(self.begins_at(day)) == day


class _Spell(Struct, frozen=True):
    """A program's days, as far as breaking goes."""

    from_day: date
    last_day: date
    shut_from: list[date]
    shut_until: list[date]


class OpenDays:
    """On which days a streak could break: those on which a program was open from the first moment to the last."""

    def __init__(self, zone: Zone, programs: Iterable[CheckinProgram]) -> None:
        self._zone = zone
        self._spells = []
        for program in sorted(programs, key=lambda program: program.from_day, reverse=True):
            shut = shut_days(program)
            self._spells.append(
                _Spell(
                    program.from_day,
                    program.last_day,
                    [spell.from_day for spell in shut],
                    [spell.until_day for spell in shut],
                )
            )

    def edge(self, before: date) -> date | None:
        """Return the newest day before `before` that breaks streaks that do not have it."""
        for spell in self._spells:
            day = min(before - ONE_DAY, spell.last_day)
            while day >= spell.from_day:
                number = bisect_right(spell.shut_from, day) - 1
                if number >= 0 and day <= spell.shut_until[number]:
                    day = spell.shut_from[number] - ONE_DAY
                elif self._zone.has(day):
                    return day
                else:
                    day -= ONE_DAY
        return None

    def breaks(self, last_day: date, day: date) -> bool:
        """Say whether a streak that has `last_day` and none of the days up to `day` (neither included) is broken."""
        edge = self.edge(day)
        return edge is not None and edge > last_day

    def missed(self, last_day: date, day: date, limit: int) -> list[date]:
        """Return the days between (neither included) that break streaks, newest first, at most `limit`."""
        found: list[date] = []
        edge = self.edge(day)
        while edge is not None and edge > last_day and len(found) < limit:
            found.append(edge)
            edge = self.edge(edge)
        return found


class Almanac:
    """All programs that are or were live, as one transaction sees them, and what follows for days."""

    def __init__(self, zone: Zone, programs: Sequence[CheckinProgram], revision: int) -> None:
        self.zone = zone
        self.revision = revision
        self.history = OpenDays(zone, programs)
        self.programs = programs
        self.program_on = lru_cache(MAX_DAYS_REMEMBERED)(self._program_on)
        """The program that a day is one of, live or over; None if there is none."""

    def _program_on(self, day: date) -> CheckinProgram | None:
        return next((program for program in self.programs if program.has(day)), None)

    def open_on(self, day: date) -> CheckinProgram:
        """Return the program to check in to on `day`. Raises `Refusal` if there is none, or it is paused."""
        program = next((one for one in self.programs if one.has(day) and one.state in LIVE), None)
        if program is None:
            raise Refusal(NO_PROGRAM)
        if (refusal := closed_today(program, day)) is not None:
            raise refusal
        return program


def closed_today(program: CheckinProgram, day: date) -> Refusal | None:
    """Say why nobody can check in to `program` on `day`; None if one can."""
    if not program.has(day) or program.state not in LIVE:
        return Refusal(NO_PROGRAM)
    pause = program.pause_on(day)
    if program.state == "paused" or pause is not None:
        return Refusal(PAUSED, paused_until=None if pause is None else pause.until_day)
    return None


def terms_of(program: CheckinProgram) -> CheckinTerms:
    """Return what a live program promises now."""
    assert program.terms_id is not None, "it was published"
    return CheckinTerms(program.terms_id, program.program_id, program.cycle, program.rewards)


def count(standing: Streak, day: date, terms: CheckinTerms, history: OpenDays) -> Streak:
    """Fold in a day that counts, newer than all before."""
    goes_on = standing.last_day is not None and not history.breaks(standing.last_day, day)
    same_program = standing.program_id == terms.program_id
    streak = standing.streak + 1 if goes_on else 1
    run = standing.run + 1 if goes_on and same_program else 1
    return Streak(
        last_day=day,
        last_counted=day,
        program_id=terms.program_id,
        judged=terms.terms_id,
        streak=streak,
        run=run,
        position=_position(standing, day, terms) if run > 1 else 1,
        longest=max(standing.longest, streak),
        best=max(standing.best, run) if same_program else run,
        total=standing.total + 1 if same_program else 1,
    )


def freeze(standing: Streak, day: date, history: OpenDays) -> Streak:
    """Fold in a frozen day: it keeps what is there. After a broken streak it keeps nothing."""
    if standing.last_day is None or history.breaks(standing.last_day, day):
        return msgspec.structs.replace(standing, last_day=day, streak=0, run=0, position=0)
    return msgspec.structs.replace(standing, last_day=day)


def _position(standing: Streak, day: date, terms: CheckinTerms) -> int:
    assert standing.last_counted is not None, "a run of two has one before"
    before = standing.last_counted
    if terms.cycle == "weekly":
        goes_on = before.isocalendar()[:2] == day.isocalendar()[:2]
    elif terms.cycle == "monthly":
        goes_on = (before.year, before.month) == (day.year, day.month)
    else:
        goes_on = terms.cycle == "endless" or standing.position < len(terms.rewards)
    return standing.position + 1 if goes_on else 1


def current(standing: Streak, today: date, history: OpenDays) -> int:
    """Return the streak as it is today: what is left if nothing breaks it, today being still open."""
    if standing.last_day is None or history.breaks(standing.last_day, today):
        return 0
    return standing.streak


def replay(days: Sequence[Day], terms: Mapping[int, CheckinTerms], history: OpenDays) -> tuple[Streak, list[Day]]:
    """Fold all days of a shopper, oldest first; return where that leads, and the days as they come out of it."""
    standing = Streak()
    told: list[Day] = []
    for day, standing in folded(days, terms, history):
        position = 0 if day.kind == DayKind.FROZEN else standing.position
        told.append(msgspec.structs.replace(day, streak=standing.streak, position=position))
    return standing, told


def folded(days: Sequence[Day], terms: Mapping[int, CheckinTerms], history: OpenDays) -> Iterator[tuple[Day, Streak]]:
    """Yield each day beside where it leads."""
    standing = Streak()
    for day in days:
        if day.kind == DayKind.FROZEN:
            standing = freeze(standing, day.day, history)
        else:
            standing = count(standing, day.day, terms[day.terms_id], history)
        yield day, standing


# --- rewards --------------------------------------------------------------------------------------------------------


def reached(before: Streak, after: Streak, program: CheckinProgram) -> list[CheckinMilestone]:
    """Return the milestones of `program` that `after` has reached, but for those looked at up to `before`.

    Some may have been given long ago: that is noted, and what was given is not given again.
    """
    judged = before.program_id == program.program_id and before.judged == program.terms_id
    total, best = (before.total, before.best) if judged else (0, 0)
    return [
        milestone
        for milestone in program.milestones
        if (total < milestone.days <= after.total if milestone.of == "total" else best < milestone.days <= after.best)
    ]


def next_milestone(standing: Streak, program: CheckinProgram, *, is_alive: bool) -> NextCheckinMilestone | None:
    """Return the milestone of `program` that comes next, if any is left; `is_alive`: the streak goes on today."""
    known = standing.program_id == program.program_id
    total, best = (standing.total, standing.best) if known else (0, 0)
    run = standing.run if known and is_alive else 0
    left = [
        NextCheckinMilestone(
            milestone.days,
            milestone.of,
            milestone.days - (total if milestone.of == "total" else run),
            milestone.rewards,
        )
        for milestone in program.milestones
        if milestone.days > (total if milestone.of == "total" else best)
    ]
    return min(left, key=lambda one: (one.in_days, one.days, one.of), default=None)


def owed(due: Iterable[Reward], given: Iterable[Reward]) -> list[Reward]:
    """Return what is due and was not given: points against points (of the same life), coupons against coupons."""
    left = Counter[Reward]()
    for rewards, sign in ((due, 1), (given, -1)):
        for reward in rewards:
            kind, amount = _measured(reward)
            left[kind] += sign * amount
    return [part for kind, amount in left.items() if amount > 0 for part in _parts(kind, amount)]


def _measured(reward: Reward) -> tuple[Reward, int]:
    """Return one unit of a reward, and how many it is."""
    name = _AMOUNTS.get(type(reward))
    if name is None:
        return reward, 1
    return msgspec.structs.replace(reward, **{name: 1}), getattr(reward, name)


def _parts(unit: Reward, amount: int) -> list[Reward]:
    """Return rewards of `amount` units in all, none of them larger than one may be."""
    name = _AMOUNTS.get(type(unit))
    if name is None:
        return [unit] * amount
    most = MAX_CARDS if name == "cards" else MAX_POINTS
    parts = [most] * (amount // most) + ([amount % most] if amount % most else [])
    return [msgspec.structs.replace(unit, **{name: part}) for part in parts]


_AMOUNTS = {
    PointsReward: "points",
    GrowthReward: "growth",
    CommissionReward: "amount_fen",
    MakeUpCardReward: "cards",
    FreezeCardReward: "cards",
}
"""What has an amount, and where. Coupons are counted one by one."""


def first_of(month: date) -> date:
    """Return the first day of a month."""
    return month.replace(day=1)
