"""A shopper's month on one page: days, streaks, what comes next, what is left to repair with."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Literal

import msgspec
from msgspec import Struct

from growth.mechanics.checkin.model import CheckinProgram
from growth.mechanics.checkin.streak.model import (
    LIVE,
    ONE_DAY,
    Almanac,
    CheckinTerms,
    Day,
    DayKind,
    NextCheckinMilestone,
    Streak,
    closed_today,
    count,
    current,
    first_of,
    next_milestone,
    terms_of,
)
from growth.mechanics.checkin.streak.store import CheckinShopper
from growth.vocabulary.rewards import Reward

CalendarState = Literal["checked_in", "made_up", "frozen", "paused", "missed", "open", "future", "closed"]
_HELD: dict[DayKind, CalendarState] = {
    DayKind.CHECKED_IN: "checked_in",
    DayKind.MADE_UP: "made_up",
    DayKind.FROZEN: "frozen",
}
ONE_MILLISECOND = timedelta(milliseconds=1)


class CalendarDay(Struct, frozen=True, kw_only=True):
    """One day."""

    day: date
    state: CalendarState
    """`paused`: nobody can check in, and nothing breaks; `closed`: there is no program."""
    reward: list[Reward]
    """What its row of the table gave; of today and days to come, what it will give if none is missed until then."""
    can_make_up: bool
    """A card repairs it, as long as there is one, and the month's limit allows."""


class Cards(Struct, frozen=True, kw_only=True):
    """What a shopper holds."""

    make_up: int
    freeze: int


class CheckinCalendar(Struct, frozen=True, kw_only=True):
    """One month of one shopper."""

    month: str
    today: date
    today_state: CalendarState
    is_admitted: bool
    """Whether the shopper is among those whom today's program is for."""
    today_reward: list[Reward]
    """What checking in today earns or earned, milestones aside."""
    streak: int
    """Days in a row, today included once it is checked in; today being open breaks nothing."""
    longest_streak: int
    total_days: int
    """Days within the program of today."""
    next_milestone: NextCheckinMilestone | None
    make_ups_left: int
    """This month, by the program's limit."""
    make_up_cards: int
    freeze_cards: int
    reminder: bool
    """Whether the shopper asked to hear of a streak at risk."""
    days: list[CalendarDay]
    day_ends_at: datetime
    day_ends_in_ms: int
    server_time: datetime


def calendar(
    month: date,
    shopper: CheckinShopper,
    held: dict[date, Day],
    terms: dict[int, CheckinTerms],
    cards: Cards,
    almanac: Almanac,
    now: datetime,
    *,
    is_admitted: bool = True,
) -> CheckinCalendar:
    """Show the month of `month`, of which `held` are the days (and today, if it is another's)."""
    today = almanac.zone.day(now)
    program = almanac.program_on(today)
    live = program if program is not None and program.state in LIVE else None
    standing = shopper.standing
    to_come = _to_come(standing, today, [today, *days_of(month)], almanac)
    days = {day: _day(day, today, held.get(day), terms, to_come, almanac) for day in [*days_of(month), today]}
    used = shopper.make_ups_used if shopper.make_up_month == first_of(today) else 0
    ends_at = almanac.zone.begins_at(today + ONE_DAY)
    if not is_admitted:
        days = {day: msgspec.structs.replace(one, can_make_up=False) for day, one in days.items()}
    streak = current(standing, today, almanac.history)
    return CheckinCalendar(
        month=f"{month:%Y-%m}",
        today=today,
        today_state=days[today].state,
        is_admitted=is_admitted,
        today_reward=days[today].reward,
        streak=streak,
        longest_streak=standing.longest,
        total_days=standing.total if program is not None and standing.program_id == program.program_id else 0,
        next_milestone=None if live is None else next_milestone(standing, live, is_alive=streak > 0),
        make_ups_left=0 if live is None else max(0, live.make_ups_per_month - used),
        make_up_cards=cards.make_up,
        freeze_cards=cards.freeze,
        reminder=shopper.wants_reminder,
        days=[days[day] for day in days_of(month)],
        day_ends_at=ends_at,
        day_ends_in_ms=max(0, round((ends_at - now) / ONE_MILLISECOND)),
        server_time=now,
    )


def _day(
    day: date,
    today: date,
    held: Day | None,
    terms: dict[int, CheckinTerms],
    to_come: dict[date, list[Reward]],
    almanac: Almanac,
) -> CalendarDay:
    program = almanac.program_on(day)
    state = _state(day, today, held, program, almanac)
    reward = to_come.get(day, [])
    if held is not None:
        reward = terms[held.terms_id].reward(held.position) if held.position else []
    live = almanac.program_on(today)
    can_make_up = (
        state == "missed"
        and live is not None
        and closed_today(live, today) is None
        and day >= live.from_day
        and (today - day).days <= live.make_up_within_days
    )
    return CalendarDay(day=day, state=state, reward=reward, can_make_up=can_make_up)


def _state(day: date, today: date, held: Day | None, program: CheckinProgram | None, almanac: Almanac) -> CalendarState:
    if held is not None:
        return _HELD[held.kind]
    if program is None or not almanac.zone.has(day):
        return "closed"
    if program.pause_on(day) is not None or (day == today and program.state == "paused"):
        return "paused"
    if day < today:
        return "missed" if almanac.history.edge(day + ONE_DAY) == day else "paused"
    if program.state not in LIVE:
        return "closed"
    return "open" if day == today else "future"


def _to_come(standing: Streak, today: date, days: Sequence[date], almanac: Almanac) -> dict[date, list[Reward]]:
    """Return what each of `days` (in order) from today on gives, if it and all from today on are checked in."""
    found: dict[date, list[Reward]] = {}
    reached = today
    for day in days:
        if day < reached or (program := almanac.program_on(day)) is None or closed_today(program, day) is not None:
            continue
        standing = ahead(standing, reached, day - ONE_DAY, almanac)
        reached = day + ONE_DAY
        if standing.last_day is None or standing.last_day < day:
            standing = count(standing, day, terms_of(program), almanac.history)
            found[day] = terms_of(program).reward(standing.position)
    return found


def ahead(standing: Streak, first: date, last: date, almanac: Almanac) -> Streak:
    """Return where it leads if every day from `first` to `last` is checked in on which one can be.

    It takes as long for a hundred years as for a week: a program at a time, of which the first day is counted, and what
    follows without a gap is reckoned.
    """
    for program in sorted(almanac.programs, key=lambda program: program.from_day):
        if program.state != "published":
            continue
        begins = max(first, program.from_day)
        if standing.last_day is not None:
            begins = max(begins, standing.last_day + ONE_DAY)
        spells = _open_spells(program, begins, min(last, program.last_day))
        if not spells:
            continue
        terms = terms_of(program)
        standing = count(standing, spells[0][0], terms, almanac.history)
        more = sum((until - start).days + 1 for start, until in spells) - 1
        if more:
            standing = msgspec.structs.replace(
                standing,
                last_day=spells[-1][1],
                last_counted=spells[-1][1],
                streak=standing.streak + more,
                run=standing.run + more,
                position=_position_after(standing, spells, terms, more),
                longest=max(standing.longest, standing.streak + more),
                best=max(standing.best, standing.run + more),
                total=standing.total + more,
            )
    return standing


def _position_after(standing: Streak, spells: Sequence[tuple[date, date]], terms: CheckinTerms, more: int) -> int:
    """Return the place in the table of the last day of `spells`, the first of which is where `standing` is."""
    if terms.cycle == "endless":
        return standing.position + more
    if terms.cycle == "every_n":
        return (standing.position - 1 + more) % len(terms.rewards) + 1
    last = spells[-1][1]
    begins = last - timedelta(days=last.weekday()) if terms.cycle == "weekly" else first_of(last)
    since = sum((until - max(start, begins)).days + 1 for start, until in spells if until >= begins)
    # In the cycle that the first day is in, those before it count as well.
    return since if spells[0][0] < begins else standing.position + more


def _open_spells(program: CheckinProgram, first: date, last: date) -> list[tuple[date, date]]:
    """Return the days from `first` to `last` that are in no planned pause, as spells in order."""
    found = []
    for pause in sorted(program.pauses, key=lambda pause: pause.from_day):
        if pause.from_day > first:
            found.append((first, min(pause.from_day - ONE_DAY, last)))
        first = max(first, pause.until_day + ONE_DAY)
    return [(start, until) for start, until in [*found, (first, last)] if start <= until]


def days_of(month: date) -> list[date]:
    """Return the days of a month."""
    first = first_of(month)
    return [day for number in range(31) if (day := first + timedelta(days=number)).month == first.month]
