"""When rounds open and close: days of the week, a time on the wall in some zone, a length. No I/O, no clock."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice, pairwise
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Meta, Struct

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)

FIRST_DAY = date(2000, 1, 1)
LAST_DAY = date(2199, 12, 31)
"""Timetables live between these, so that no arithmetic on them leaves the calendar."""
CHECKED_DAYS = 400
"""How far rounds are compared with each other: all that a year's clocks can do to them."""
MAX_MINUTES = 7 * 24 * 60


class Timetable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rounds there are."""

    zone: Annotated[
        str,
        Meta(
            max_length=64,
            pattern=r"^[A-Za-z0-9_+/-]+$(?!\n)",
            description="A time zone of the IANA database, like Asia/Shanghai.",
        ),
    ]
    days_of_week: Annotated[list[Day], Meta(min_length=1, max_length=7)]
    """The days on which rounds open."""
    start_time: Annotated[
        str, Meta(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)", description="HH:MM on the wall in `zone`.")
    ]
    duration_minutes: Annotated[int, Meta(ge=1, le=MAX_MINUTES)]
    """Elapsed time from opening to closing; may pass midnight."""
    from_day: date
    """The first day, in `zone`."""
    until_day: date | None = None
    """The last day on which a round may open, in `zone`; without it the series goes on until it is ended."""


class RoundWindow(Struct, frozen=True):
    """One round's time, UTC."""

    opens_at: datetime
    closes_at: datetime


def is_zone(name: str) -> bool:
    """Say whether the IANA database has the zone."""
    return name in _zones()


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def rounds(timetable: Timetable, after: datetime, until: datetime) -> list[RoundWindow]:
    """Return the rounds that open after `after` and not after `until`, in order."""
    found = []
    for window in _windows(timetable, after):
        if window.opens_at > until:
            break
        found.append(window)
    return found


def next_rounds(timetable: Timetable, after: datetime, count: int) -> list[RoundWindow]:
    """Return the first `count` rounds that open after `after`; fewer if the timetable ends before."""
    return list(islice(_windows(timetable, after), count))


def shortest_gap(timetable: Timetable, after: datetime) -> tuple[timedelta, RoundWindow, RoundWindow] | None:
    """Return the shortest time from one opening to the next, and the two; None with fewer than two rounds."""
    found = rounds(timetable, after, max(after, _midnight(timetable)) + timedelta(days=CHECKED_DAYS))
    gaps = [(late.opens_at - early.opens_at, early, late) for early, late in pairwise(found)]
    return min(gaps, default=None, key=lambda gap: gap[0])


def is_over(timetable: Timetable, now: datetime) -> bool:
    """Say whether the last round has closed."""
    return not next_rounds(timetable, now - timedelta(minutes=timetable.duration_minutes), 1)


def _midnight(timetable: Timetable) -> datetime:
    return datetime.combine(timetable.from_day, time(), UTC)


def _windows(timetable: Timetable, after: datetime) -> Iterator[RoundWindow]:
    """Yield the rounds that open after `after`, in order, until the timetable ends."""
    if after.year > LAST_DAY.year:
        return
    zone = ZoneInfo(timetable.zone)
    start = time.fromisoformat(timetable.start_time)
    length = timedelta(minutes=timetable.duration_minutes)
    # A clock moved by a whole day brings the round of yesterday here; none was ever moved further.
    after = max(after, _midnight(timetable) - timedelta(days=2))
    day = max(after.astimezone(zone).date() - timedelta(days=2), timetable.from_day)
    last_day = min(timetable.until_day or LAST_DAY, LAST_DAY)
    seen = after
    while day <= last_day:
        if DAYS[day.weekday()] in timetable.days_of_week:
            opens_at = first_instant(datetime.combine(day, start), zone)
            # Where a whole day is left out, its round would open with that of the next: one of them is enough.
            if opens_at > seen:
                seen = opens_at
                yield RoundWindow(opens_at, opens_at + length)
        day += timedelta(days=1)


def first_instant(on_the_wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant, UTC, at which clocks in `zone` show `on_the_wall` or, if they leave it out, later."""
    before = on_the_wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if before.astimezone(zone).replace(tzinfo=None) == on_the_wall:
        # Of two such instants, fold 0 is the first.
        return before
    # Left out. Read with the offset after the change it lies too early, with the one before it too late (PEP 495): the
    # change is between the two.
    early = on_the_wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    low, high = int(early.timestamp()), int(before.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).replace(tzinfo=None) >= on_the_wall:
            high = middle
        else:
            low = middle
    return datetime.fromtimestamp(high, UTC)
