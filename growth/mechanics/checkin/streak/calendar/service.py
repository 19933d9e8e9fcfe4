"""Reads what months' pages show: always as much, however many shoppers there are, and however many years.

Who looks at the same time is answered by one look.
"""

from collections.abc import Sequence
from datetime import date

from msgspec import Struct

from growth.kit.campaign.audience import Audiences, Candidate
from growth.mechanics.checkin.streak import store as streaks
from growth.mechanics.checkin.streak.calendar import store
from growth.mechanics.checkin.streak.calendar.model import Cards, CheckinCalendar, calendar, days_of
from growth.mechanics.checkin.streak.model import Day
from growth.mechanics.checkin.streak.programs_cache import Almanacs, audience_on
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.work.coalesce import Coalescer
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency

MAX_BATCH_PAGES = 64
MAX_QUEUE_PAGES = 2_048
"""What a process reads in about a second."""


class CalendarLook(Struct, frozen=True):
    """Whose page, and of which month; this one, if None."""

    user_id: str
    month: date | None


class Calendars:
    """What shoppers see of their days."""

    def __init__(self, database: Database, almanacs: Almanacs, audiences: Audiences) -> None:
        self._database = database
        self._audiences = audiences
        self._almanacs = almanacs
        self._pages: Coalescer[CalendarLook, CheckinCalendar] = Coalescer(
            "checkin.pages", self._read, max_batch=MAX_BATCH_PAGES, max_queue=MAX_QUEUE_PAGES
        )

    async def page(self, user_id: str, month: date | None) -> CheckinCalendar:
        """Return a month of a shopper, this one if None. Raises `Unavailable`."""
        return await self._pages(CalendarLook(user_id, month))

    async def remind(self, user_id: str, *, wants: bool) -> None:
        """Note whether a shopper wants to hear of a streak at risk."""
        async with self._database.transaction(people=[user_id]) as tx:
            await streaks.set_reminder(tx, user_id, wants)

    async def _read(self, looks: Sequence[CalendarLook]) -> Sequence[CheckinCalendar]:
        async with self._database.transaction() as tx:
            await streaks.see_one_moment(tx)
            glance, almanac = await self._almanacs.look(tx)
            today = almanac.zone.day(glance.now)
            user_ids = sorted({look.user_id for look in looks})
            shoppers = await store.find_shoppers(tx, user_ids)
            months = [look.month or today for look in looks]
            # By month: of one shopper two may be asked for.
            spells = {(look.user_id, month.year, month.month) for look, month in zip(looks, months, strict=True)}
            spells |= {(user_id, today.year, today.month) for user_id in user_ids}
            held = await self._days(tx, spells)
            terms = await self._almanacs.terms(tx, {day.terms_id for days in held.values() for day in days.values()})
            make_up = await ledger.available(tx, user_ids, Currency.MAKE_UP_CARD)
            audience = audience_on(almanac, today)
            asked = {user_id: Candidate(audience, user_id) for user_id in user_ids} if audience else {}
            missed = await self._audiences.outside(tx, asked)
            freeze = await ledger.available(tx, user_ids, Currency.FREEZE_CARD)
        return [
            calendar(
                month,
                shoppers.get(look.user_id) or streaks.CheckinShopper(user_id=look.user_id),
                held[look.user_id],
                terms,
                Cards(make_up=max(0, make_up.get(look.user_id, 0)), freeze=max(0, freeze.get(look.user_id, 0))),
                almanac,
                glance.now,
                is_admitted=look.user_id not in missed,
            )
            for look, month in zip(looks, months, strict=True)
        ]

    async def _days(self, tx: Tx, spells: set[tuple[str, int, int]]) -> dict[str, dict[date, Day]]:
        """Return what shoppers hold in months, one statement for each month that is asked for."""
        found: dict[str, dict[date, Day]] = {user_id: {} for user_id, _, _ in spells}
        for year, month in sorted({(year, month) for _, year, month in spells}):
            days = days_of(date(year, month, 1))
            asked = [(user_id, days[0], days[-1]) for user_id, *of in spells if of == [year, month]]
            for user_id, held in (await store.find_days(tx, asked)).items():
                found[user_id] |= held
        return found
