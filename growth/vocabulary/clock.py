"""Time: UTC everywhere, the merchant's zone for a "day". Only entry points ask the clock; the rest is told `now`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

MAX_AHEAD = timedelta(minutes=5)
"""How far a time that others tell may lie ahead of our clock, since clocks differ. The one bound, at every door."""
AHEAD = f"More than {MAX_AHEAD.seconds // 60} minutes ahead of this service's clock"
"""Why a time beyond it is refused."""


def now() -> datetime:
    """Return this process's time. Everything scarce is decided by Redis' or Postgres' time instead."""
    return datetime.now(UTC)


def held_to(now: datetime, told: datetime) -> datetime | None:
    """Return a time that others tell as it counts here: no later than `now`. None if it lies beyond `MAX_AHEAD`.

    What has not happened yet did not happen: counted as told, it would be a visit, a cohort or a month of the future.
    """
    return None if told > now + MAX_AHEAD else min(told, now)


def from_milliseconds(milliseconds: int) -> datetime:
    """Return the instant `milliseconds` after 1970, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def to_milliseconds(instant: datetime) -> int:
    """Return whole milliseconds since 1970."""
    return round(instant.timestamp() * 1000)


def rfc3339(instant: datetime) -> str:
    """Return `2026-11-21T12:00:00.000Z`: UTC, milliseconds, as every answer shows time."""
    # Not strftime: it writes the year 344 with three digits.
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def milliseconds_until(instant: datetime, now: datetime) -> int:
    """Return whole milliseconds from `now` to `instant`, never negative."""
    return max(0, round((instant - now) / timedelta(milliseconds=1)))
