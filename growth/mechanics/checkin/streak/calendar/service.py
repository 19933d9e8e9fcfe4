"""Reads what a month's page shows: always as much, however many shoppers there are, and however many years."""

from datetime import date

from growth.mechanics.checkin.streak import store
from growth.mechanics.checkin.streak.almanac import Almanacs
from growth.mechanics.checkin.streak.calendar.model import Cards, CheckinCalendar, calendar
from growth.mechanics.checkin.streak.model import days_of
from growth.plumbing.postgres import Database
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency


class Calendars:
    """What shoppers see of their days."""

    def __init__(self, database: Database, almanacs: Almanacs) -> None:
        self._database = database
        self._almanacs = almanacs

    async def page(self, user_id: str, month: date | None) -> CheckinCalendar:
        """Return a month of a shopper, this one if None."""
        async with self._database.transaction() as tx:
            await store.see_one_moment(tx)
            glance, almanac = await self._almanacs.look(tx)
            today = almanac.zone.day(glance.now)
            month = month or today
            shopper = await store.find_shopper(tx, user_id) or store.nobody(user_id)
            days = await store.find_days(tx, user_id, days_of(month)[0], days_of(month)[-1])
            if (month.year, month.month) != (today.year, today.month):
                days += await store.find_days(tx, user_id, today, today)
            terms = await store.find_terms(tx, [day.terms_id for day in days]) if days else {}
            balances = await ledger.balances(tx, user_id)
        cards = Cards(
            make_up=max(0, balances[Currency.MAKE_UP_CARD].available),
            freeze=max(0, balances[Currency.FREEZE_CARD].available),
        )
        return calendar(month, shopper, {day.day: day for day in days}, terms, cards, almanac, glance.now)

    async def remind(self, user_id: str, *, wants: bool) -> None:
        """Note whether a shopper wants to hear of a streak at risk."""
        async with self._database.transaction() as tx:
            await store.set_reminder(tx, user_id, wants)
