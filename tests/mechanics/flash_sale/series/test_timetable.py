"""Rounds open when a clock on the wall says so, whatever happens to clocks; held against a walk, minute by minute."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from growth.mechanics.flash_sale.series.timetable import (
    DAYS,
    Day,
    RoundWindow,
    Timetable,
    is_over,
    is_zone,
    next_rounds,
    rounds,
    shortest_gap,
)
from tests.kit.examples import examples

ZONES = ["America/New_York", "Europe/Berlin", "Asia/Shanghai", "Australia/Lord_Howe"]
MINUTE = timedelta(minutes=1)


def a_timetable(**changes: Any) -> Timetable:
    """Every day at 20:00 in Shanghai, for an hour."""
    plain: dict[str, Any] = {
        "zone": "Asia/Shanghai",
        "days_of_week": list(DAYS),
        "start_time": "20:00",
        "duration_minutes": 60,
        "from_day": date(2026, 1, 1),
    }
    return Timetable(**plain | changes)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def opens(timetable: Timetable, day: str) -> list[str]:
    """When rounds open from noon UTC of the day before to noon UTC of the day after."""
    noon = at(f"{day}T12:00")
    found = rounds(timetable, noon - timedelta(days=1), noon + timedelta(days=1))
    return [f"{window.opens_at:%d %H:%M}" for window in found]


def walked(timetable: Timetable, after: datetime, until: datetime) -> list[RoundWindow]:
    """The obvious way: watch the clock on the wall for days and note when it first shows each start or later."""
    zone = ZoneInfo(timetable.zone)
    instant = after.replace(second=0, microsecond=0) - timedelta(days=3)
    first_day = instant.astimezone(zone).date()
    days = [first_day + timedelta(days=n) for n in range((until - instant).days + 4)]
    starts = [datetime.fromisoformat(f"{day}T{timetable.start_time}") for day in days if _is_on(timetable, day)]
    starts = [start for start in starts if start > instant.astimezone(zone).replace(tzinfo=None)]
    found = []
    while instant <= until and starts:
        if instant.astimezone(zone).replace(tzinfo=None) >= starts[0]:
            starts.pop(0)
            if instant > after:
                found.append(RoundWindow(instant, instant + timetable.duration_minutes * MINUTE))
        instant += MINUTE
    return found


def _is_on(timetable: Timetable, day: date) -> bool:
    last_day = timetable.until_day or date.max
    return timetable.from_day <= day <= last_day and DAYS[day.weekday()] in timetable.days_of_week


def _changes_of_clocks(zone_name: str) -> list[datetime]:
    """The days, UTC, on which the zone's clocks change; a plain day for a zone whose never do."""
    zone = ZoneInfo(zone_name)
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(12 * 366)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    changes = [day for day, here, next_day in zip(days, offsets, offsets[1:], strict=False) if here != next_day]
    return changes or [days[59]]


NEAR = {zone: [*_changes_of_clocks(zone), at("2028-02-28T12:00"), at("2027-12-31T12:00")] for zone in ZONES}


@st.composite
def timetables(draw: st.DrawFn) -> tuple[Timetable, datetime, datetime]:
    """A timetable and a stretch of days around something odd about the calendar of its zone."""
    zone = draw(st.sampled_from(ZONES))
    odd = draw(st.sampled_from(NEAR[zone]))
    after = odd - draw(st.timedeltas(timedelta(0), timedelta(days=4)))
    until = after + draw(st.timedeltas(timedelta(0), timedelta(days=9)))
    from_day = after.date() + timedelta(days=draw(st.integers(-400, 4)))
    until_day = draw(st.none() | st.integers(0, 800).map(lambda n: from_day + timedelta(days=n)))
    night = st.integers(0, 3) | st.integers(0, 23)
    timetable = a_timetable(
        zone=zone,
        days_of_week=sorted(draw(st.sets(st.sampled_from(DAYS), min_size=1))),
        start_time=f"{draw(night):02d}:{draw(st.integers(0, 59)):02d}",
        duration_minutes=draw(st.integers(1, 7 * 24 * 60)),
        from_day=from_day,
        until_day=until_day,
    )
    return timetable, after, until


@examples(150)
@given(timetables())
@example((a_timetable(zone="America/New_York", start_time="02:30"), at("2026-03-07T00:00"), at("2026-03-09T23:00")))
@example((a_timetable(zone="Australia/Lord_Howe", start_time="01:45"), at("2026-04-03T00:00"), at("2026-04-06T00:00")))
def test_rounds_are_those_of_somebody_who_watches_the_clock(case: tuple[Timetable, datetime, datetime]) -> None:
    assert rounds(*case) == walked(*case)


@examples(50)
@given(timetables(), st.integers(1, 12))
def test_the_next_rounds_are_the_first_of_all_rounds(case: tuple[Timetable, datetime, datetime], count: int) -> None:
    timetable, after, _ = case
    far = max(after, datetime.combine(timetable.from_day, datetime.min.time(), UTC)) + timedelta(days=100)
    assert next_rounds(timetable, after, count) == rounds(timetable, after, far)[:count]


def test_every_wednesday_at_eight_in_the_evening() -> None:
    timetable = a_timetable(days_of_week=["wed"])
    found = rounds(timetable, at("2026-11-20T00:00"), at("2026-12-05T00:00"))
    assert found == [
        RoundWindow(at("2026-11-25T12:00"), at("2026-11-25T13:00")),
        RoundWindow(at("2026-12-02T12:00"), at("2026-12-02T13:00")),
    ]


def test_a_round_belongs_to_the_stretch_that_ends_with_its_opening() -> None:
    noon = at("2026-11-25T12:00")
    assert rounds(a_timetable(), noon - MINUTE, noon) == [RoundWindow(noon, noon + timedelta(hours=1))]
    assert rounds(a_timetable(), noon, noon + MINUTE) == []


def test_a_round_passes_midnight() -> None:
    found = rounds(a_timetable(start_time="23:30", duration_minutes=90), at("2026-11-25T00:00"), at("2026-11-26T00:00"))
    assert found == [RoundWindow(at("2026-11-25T15:30"), at("2026-11-25T17:00"))]


def test_a_start_that_clocks_leave_out_is_the_first_instant_after() -> None:
    new_york = a_timetable(zone="America/New_York", start_time="02:30")
    assert opens(new_york, "2026-03-07") == ["07 07:30", "08 07:00"]
    assert opens(new_york, "2026-03-09") == ["09 06:30", "10 06:30"]
    # Half an hour is left out, on an island.
    lord_howe = a_timetable(zone="Australia/Lord_Howe", start_time="02:15")
    assert opens(lord_howe, "2026-10-03") == ["02 15:45", "03 15:30"]


def test_a_start_that_comes_twice_is_the_first_of_the_two() -> None:
    new_york = a_timetable(zone="America/New_York", start_time="01:30")
    assert opens(new_york, "2026-11-01") == ["01 05:30", "02 06:30"]
    lord_howe = a_timetable(zone="Australia/Lord_Howe", start_time="01:45")
    assert opens(lord_howe, "2026-04-04") == ["03 14:45", "04 14:45"]


def test_the_length_is_elapsed_time_also_while_clocks_change() -> None:
    (night,) = rounds(
        a_timetable(zone="Europe/Berlin", start_time="22:00", duration_minutes=480),
        at("2026-03-28T12:00"),
        at("2026-03-29T12:00"),
    )
    assert night.closes_at - night.opens_at == timedelta(hours=8)
    assert f"{night.closes_at.astimezone(ZoneInfo('Europe/Berlin')):%H:%M}" == "07:00"


def test_the_leap_day_has_its_round() -> None:
    found = rounds(a_timetable(from_day=date(2028, 2, 28)), at("2028-01-01T00:00"), at("2028-03-01T23:00"))
    assert [f"{window.opens_at:%m-%d}" for window in found] == ["02-28", "02-29", "03-01"]


def test_where_a_whole_day_is_left_out_its_round_and_the_next_are_one() -> None:
    # Samoa went over the date line: there was no 30 December 2011.
    apia = a_timetable(zone="Pacific/Apia", start_time="00:00", from_day=date(2011, 12, 1))
    found = rounds(apia, at("2011-12-28T12:00"), at("2012-01-01T00:00"))
    assert [f"{window.opens_at:%m-%d %H:%M}" for window in found] == ["12-29 10:00", "12-30 10:00", "12-31 10:00"]


def test_the_timetable_ends_with_its_last_day() -> None:
    timetable = a_timetable(until_day=date(2026, 1, 2))
    last = next_rounds(timetable, at("2026-01-01T00:00"), 10)[-1]
    assert last.opens_at == at("2026-01-02T12:00")
    assert not is_over(timetable, last.closes_at - MINUTE)
    assert is_over(timetable, last.closes_at)


@pytest.mark.parametrize(("zone", "hours"), [("Asia/Shanghai", 24), ("America/New_York", 23), ("Europe/Berlin", 23)])
def test_the_shortest_gap_is_that_of_the_year(zone: str, hours: int) -> None:
    gap = shortest_gap(a_timetable(zone=zone), at("2026-06-01T00:00"))
    assert gap is not None
    assert gap[0] == timedelta(hours=hours)


def test_the_gap_of_several_days_is_that_between_the_closest() -> None:
    days: list[Day] = ["mon", "sat", "wed"]
    gap = shortest_gap(a_timetable(days_of_week=days), at("2026-06-01T00:00"))
    assert gap is not None
    assert gap[0] == timedelta(days=2)


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_no_instant_leaves_the_calendar(instant: str) -> None:
    assert len(next_rounds(a_timetable(), datetime.fromisoformat(instant), 3)) in {0, 3}


@pytest.mark.parametrize("name", ["Asia/shanghai!", "../etc/passwd", "America", "", "/etc/localtime", "+08:00"])
def test_what_is_no_zone_is_not_taken_for_one(name: str) -> None:
    assert not is_zone(name)
    assert is_zone("Asia/Shanghai")
