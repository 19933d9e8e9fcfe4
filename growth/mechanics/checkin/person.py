"""What the room knows of one shopper: told, erased, merged."""

from datetime import date, datetime

from msgspec import Struct

from growth.mechanics.checkin import store as programs
from growth.mechanics.checkin.model import MAX_MAKE_UP_DAYS, day_held, milestone_reached
from growth.mechanics.checkin.streak import store as streaks
from growth.mechanics.checkin.streak.model import Almanac, DayKind, Zone
from growth.mechanics.checkin.streak.repair import service as repairs
from growth.mechanics.checkin.streak.repair import store
from growth.plumbing.postgres.database import Reader, Tx

MAX_DAYS_TOLD = 400
MAX_MILESTONES_TOLD = 100


class CheckinDayTold(Struct, frozen=True):
    """A day that is held."""

    day: date
    kind: str


class CheckinMilestoneTold(Struct, frozen=True):
    """A milestone that was reached."""

    program_id: str
    of: str
    days: int
    at: datetime


class CheckinTold(Struct, frozen=True, kw_only=True):
    """All that is known of a shopper's check-ins."""

    streak: int
    """Up to the last day; whether it is broken by now depends on the day of asking."""
    longest_streak: int
    total_days: int
    last_day: date | None
    program_id: str | None
    wants_reminder: bool
    days: list[CheckinDayTold]
    """The newest 400, newest first."""
    milestones: list[CheckinMilestoneTold]
    """The newest 100, newest first."""


async def export(reader: Reader, user_id: str) -> CheckinTold:
    """Return all that is known of a shopper."""
    shopper = await streaks.find_shopper(reader, user_id) or streaks.CheckinShopper(user_id=user_id)
    days = await store.newest_days(reader, user_id, MAX_DAYS_TOLD)
    milestones = await store.milestones_of(reader, user_id, MAX_MILESTONES_TOLD)
    return CheckinTold(
        streak=shopper.standing.streak,
        longest_streak=shopper.standing.longest,
        total_days=shopper.standing.total,
        last_day=shopper.standing.last_day,
        program_id=shopper.standing.program_id,
        wants_reminder=shopper.wants_reminder,
        days=[CheckinDayTold(day, DayKind(kind).name.lower()) for day, kind in days],
        milestones=[CheckinMilestoneTold(*one) for one in milestones],
    )


async def had(reader: Reader, user_id: str) -> list[str]:
    """Return the days that counted and could be held again, and the milestones of programs that are not over."""
    days = await store.days_to_remember(reader, user_id, MAX_MAKE_UP_DAYS)
    milestones = await store.milestones_to_remember(reader, user_id)
    return [*map(day_held, days), *(milestone_reached(*one) for one in milestones)]


async def erase(tx: Tx, user_id: str, alias: str) -> None:  # noqa: ARG001 - nothing has to stay under another name
    """Delete a shopper's days and what follows from them: days are counted apart, and rewards are the ledger's."""
    await streaks.lock_shoppers(tx, [user_id])
    await store.erase(tx, user_id)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make the days of an old id those of the new one, each day once."""
    # Which days a streak breaks on is told by programs; the zone only says that some calendars leave a day out.
    almanac = Almanac(Zone("UTC"), await programs.published_programs(tx), 0)
    await repairs.become(tx, old_user_id, user_id, almanac, now)
