"""Streaks as functions of days, beside a model that is slow and obvious: it walks every day and remembers little."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.mechanics.checkin.model import CheckinPause, CheckinProgram, Cycle, closed, reopened, shut_days
from growth.mechanics.checkin.streak.calendar.model import ahead
from growth.mechanics.checkin.streak.model import (
    ONE_DAY,
    Almanac,
    CheckinTerms,
    Day,
    DayKind,
    OpenDays,
    Streak,
    Zone,
    closed_today,
    count,
    current,
    owed,
    replay,
    terms_of,
)
from growth.vocabulary.rewards import CouponReward, PointsReward, Reward
from tests.kit.examples import examples
from tests.mechanics.checkin.conftest import a_draft, points

START = date(2024, 2, 20)
"""Eight days before a leap day."""
SPAN = 60
COUPON = CouponReward(template_id="01900000-0000-7000-8000-000000000000")
CYCLES: tuple[Cycle, ...] = ("weekly", "monthly", "every_n", "endless")


def a_program(number: int, from_day: date, until_day: date | None, **changes: object) -> CheckinProgram:
    draft = msgspec.structs.asdict(a_draft())
    fixed = {
        "program_id": f"p{number}",
        "from_day": from_day,
        "until_day": until_day,
        "state": "published",
        "version": 2,
        "terms_id": number,
        "closures": [],
        "created_at": datetime(2024, 1, 1, tzinfo=UTC),
        "published_at": datetime(2024, 1, 1, tzinfo=UTC),
        "ended_at": None,
    }
    return CheckinProgram(**draft | fixed | changes)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[CheckinProgram], dict[int, CheckinTerms], list[Day]]:
    """Programs one after the other with pauses and closures, and days that a shopper holds."""
    programs: list[CheckinProgram] = []
    terms: dict[int, CheckinTerms] = {}
    day = START
    for number in range(draw(st.integers(1, 3))):
        day += timedelta(days=draw(st.integers(0, 5)))
        last = day + timedelta(days=draw(st.integers(0, SPAN // 2)))
        spells = [
            CheckinPause(first, first + timedelta(days=draw(st.integers(0, 4))))
            for first in draw(st.lists(st.dates(day, last), max_size=3))
        ]
        cycle = draw(st.sampled_from(CYCLES))
        length = draw(st.integers(1, 7))
        table: list[list[Reward]] = [points(position + 1) for position in range(length)]
        programs.append(
            a_program(number, day, last, pauses=spells[:1], closures=spells[1:], rewards=table, cycle=cycle)
        )
        # Two versions: an edit shortens the table and changes the cycle.
        terms[2 * number] = CheckinTerms(2 * number, f"p{number}", cycle, table)
        terms[2 * number + 1] = CheckinTerms(2 * number + 1, f"p{number}", draw(st.sampled_from(CYCLES)), table[:2])
        day = last + timedelta(days=1)
    days: list[Day] = []
    for program_number, program in enumerate(programs):
        for number in range((program.last_day - program.from_day).days + 1):
            held = draw(
                st.sampled_from([None, DayKind.CHECKED_IN, DayKind.CHECKED_IN, DayKind.MADE_UP, DayKind.FROZEN])
            )
            if held is not None:
                terms_id = 2 * program_number + draw(st.integers(0, 1))
                days.append(Day(program.from_day + timedelta(days=number), held, terms_id, 0, 0, 0))
    return programs, terms, days


def could_break(programs: list[CheckinProgram], day: date) -> bool:
    """Obvious: some program had the day, and no spell of it was shut."""
    return any(
        program.from_day <= day <= program.last_day
        and not any(spell.from_day <= day <= spell.until_day for spell in [*program.pauses, *program.closures])
        for program in programs
    )


class Slow:
    """Walks all days there are, one by one, whether anything happens on them or not."""

    def __init__(self, programs: list[CheckinProgram], terms: dict[int, CheckinTerms], days: list[Day]) -> None:
        held = {day.day: day for day in days}
        self.streak = self.longest = 0
        self.chain: list[tuple[date, CheckinTerms]] = []
        self.told: list[tuple[int, int]] = []
        for number in range(SPAN * 3):
            day = START + timedelta(days=number)
            if day not in held:
                if could_break(programs, day):
                    self.streak, self.chain = 0, []
            elif held[day].kind == DayKind.FROZEN:
                self.told.append((self.streak, 0))
            else:
                self.streak += 1
                self.chain.append((day, terms[held[day].terms_id]))
                self.longest = max(self.longest, self.streak)
                self.told.append((self.streak, self.position()))

    def position(self) -> int:
        """By hand: walk the chain of days in a row, and start again where the rules say so."""
        position = 0
        before: tuple[date, CheckinTerms] | None = None
        for day, terms in self.chain:
            is_new = before is None or before[1].program_id != terms.program_id
            if before is not None and terms.cycle == "weekly":
                is_new = is_new or day - timedelta(days=day.weekday()) != before[0] - timedelta(
                    days=before[0].weekday()
                )
            elif before is not None and terms.cycle == "monthly":
                is_new = is_new or f"{day:%Y%m}" != f"{before[0]:%Y%m}"
            elif terms.cycle == "every_n":
                is_new = is_new or position >= len(terms.rewards)
            position = 1 if is_new else position + 1
            before = (day, terms)
        return position


@examples(400)
@given(worlds())
def test_folding_days_is_what_walking_every_day_gives(
    world: tuple[list[CheckinProgram], dict[int, CheckinTerms], list[Day]],
) -> None:
    programs, terms, days = world
    history = OpenDays(Zone("UTC"), programs)
    standing, told = replay(days, terms, history)
    slow = Slow(programs, terms, days)
    assert [(day.streak, day.position) for day in told] == slow.told
    assert standing.longest == slow.longest
    last = START + timedelta(days=SPAN * 3)
    assert current(standing, last, history) == slow.streak
    if days:
        counted = [day for day in days if day.kind != DayKind.FROZEN]
        newest = counted[-1] if counted else None
        if newest is not None:
            program_id = terms[newest.terms_id].program_id
            assert standing.total == sum(terms[day.terms_id].program_id == program_id for day in counted)
            assert standing.last_counted == newest.day
        assert standing.last_day == days[-1].day


@examples(200)
@given(worlds(), st.data())
def test_days_that_are_told_late_lead_to_the_same(
    world: tuple[list[CheckinProgram], dict[int, CheckinTerms], list[Day]], data: st.DataObject
) -> None:
    """Whatever the order of repairs: only the days matter."""
    programs, terms, days = world
    history = OpenDays(Zone("UTC"), programs)
    known: list[Day] = []
    for day in data.draw(st.permutations(days)):
        _, known = replay(sorted([*known, day], key=lambda one: one.day), terms, history)
    assert replay(known, terms, history) == replay(days, terms, history)


@examples(200)
@given(worlds())
def test_the_edge_is_the_newest_day_that_could_break(
    world: tuple[list[CheckinProgram], dict[int, CheckinTerms], list[Day]],
) -> None:
    programs, _, _ = world
    history = OpenDays(Zone("UTC"), programs)
    expected: date | None = None
    for number in range(SPAN * 3):
        day = START + timedelta(days=number)
        assert history.edge(day) == expected
        if could_break(programs, day):
            expected = day
    missed = history.missed(START - timedelta(days=1), START + timedelta(days=SPAN * 3), 1000)
    days = [START + timedelta(days=number) for number in reversed(range(SPAN * 3))]
    assert missed == [day for day in days if could_break(programs, day)]


ZONES = (
    "Asia/Shanghai",
    "America/New_York",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "UTC",
)


@examples(300)
@given(st.sampled_from(ZONES), st.dates(date(1990, 1, 1), date(2060, 1, 1)))
def test_a_day_begins_at_its_first_instant_in_every_zone(name: str, day: date) -> None:
    zone = Zone(name)
    begins_at = zone.begins_at(day)
    if not zone.has(day):
        assert zone.day(begins_at) == day + timedelta(days=1)
        return
    assert zone.day(begins_at) == day
    assert zone.day(begins_at - timedelta(microseconds=1)) < day
    assert zone.day(zone.begins_at(day + timedelta(days=1)) - timedelta(microseconds=1)) == day
    assert datetime.combine(day, time(12), ZoneInfo(name)).astimezone(UTC) > begins_at


def test_crossing_the_date_line_leaves_out_a_day_that_breaks_nothing() -> None:
    zone = Zone("Pacific/Apia")
    assert not zone.has(date(2011, 12, 30))
    history = OpenDays(zone, [a_program(1, date(2011, 12, 1), None)])
    assert not history.breaks(date(2011, 12, 29), date(2011, 12, 31))
    assert history.breaks(date(2011, 12, 28), date(2011, 12, 31))


def test_a_leap_day_is_a_day() -> None:
    history = OpenDays(Zone("UTC"), [a_program(1, START, None)])
    assert history.breaks(date(2024, 2, 28), date(2024, 3, 1))
    assert not history.breaks(date(2024, 2, 29), date(2024, 3, 1))
    assert not history.breaks(date(2024, 2, 28), date(2024, 2, 29))


def test_nothing_is_broken_where_there_never_was_a_program() -> None:
    history = OpenDays(Zone("UTC"), [])
    assert history.edge(START) is None
    assert current(Streak(last_day=START, streak=3), START + timedelta(days=900), history) == 3


def test_what_is_due_and_was_not_given() -> None:
    old = PointsReward(points=1, valid_days=30)
    assert owed([*points(3), COUPON, COUPON, old], [*points(1), COUPON]) == [*points(2), COUPON, old]
    assert owed(points(1), points(5)) == []
    assert owed([PointsReward(points=900_000)] * 2, []) == [
        PointsReward(points=1_000_000),
        PointsReward(points=800_000),
    ]


def test_closures_grow_at_the_end_and_never_touch() -> None:
    def day(number: int) -> date:
        return START + timedelta(days=number)

    begun = closed([], day(0), day(0))
    paused = closed(begun, day(1), day(500))
    assert paused == [CheckinPause(day(0), day(500))]
    again = closed(reopened(paused, day(3)), day(3), day(3))
    assert again == [CheckinPause(day(0), day(3))]
    assert closed(again, day(9), day(9)) == [CheckinPause(day(0), day(3)), CheckinPause(day(9), day(9))]
    program = a_program(1, START, None, closures=again, pauses=[CheckinPause(day(2), day(5))])
    assert shut_days(program) == [CheckinPause(day(0), day(5))]


@pytest.mark.parametrize(("given", "after"), [(points(1), []), (points(3), points(1))])
def test_parts_of_points_are_told_as_one(given: list[Reward], after: list[Reward]) -> None:
    assert owed(given, points(2)) == after


@given(worlds(), st.integers(0, SPAN), st.integers(0, SPAN), st.integers(0, 2))
@examples(200)
def test_what_lies_ahead_is_reckoned_as_walking_every_day_would(
    world: tuple[list[CheckinProgram], dict[int, CheckinTerms], list[Day]], start: int, length: int, paused: int
) -> None:
    programs, terms, days = world
    programs = [
        msgspec.structs.replace(one, closures=[], state="paused" if number == paused else "published")
        for number, one in enumerate(programs)
    ]
    almanac = Almanac(Zone("UTC"), programs, 1)
    first = START + timedelta(days=start)
    standing, _ = replay([day for day in days if day.day < first + timedelta(days=1)], terms, almanac.history)
    walked = standing
    for number in range(length):
        day = first + timedelta(days=number)
        program = almanac.program_on(day)
        if program is None or closed_today(program, day) is not None:
            continue
        if walked.last_day is None or walked.last_day < day:
            walked = count(walked, day, terms_of(program), almanac.history)
    assert ahead(standing, first, first + timedelta(days=length) - ONE_DAY, almanac) == walked
