"""Asking for reminders, taking them back, and telling when it is time."""

from datetime import datetime, timedelta

from growth.mechanics.flash_sale.model import NOT_FOUND
from growth.mechanics.flash_sale.reminder import store
from growth.mechanics.flash_sale.reminder.model import MAX_WAITING, TOO_MANY_REMINDERS, ReminderPage, refusal_of
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.periodic import Turn
from growth.vocabulary.alike import alike
from growth.vocabulary.events.flash_sale import FlashSaleReminderDue
from growth.vocabulary.refusals import Refusal

REMIND_BATCH = 500
"""Shoppers told in one transaction."""
REMINDERS_KEPT = timedelta(days=30)
"""After the sale ended."""
FORGET_BATCH = 5_000


class Reminders:
    """The reminders of all sales."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ask(self, sale_id: str, user_id: str, now: datetime) -> None:
        """Remind a shopper before a sale opens; asking twice is asking once.

        Raises `Refusal`: 404 for a sale shoppers do not know of; 409 once it has opened or ended, or when the shopper
        waits for `MAX_WAITING` others.
        """
        async with self._database.transaction(people=[user_id]) as tx:
            await store.lock_shopper(tx, user_id)
            if await store.add(tx, sale_id, user_id, now):
                return
            found = await store.find(tx, sale_id, user_id)
            if found is None:
                raise Refusal(NOT_FOUND)
            if refusal := refusal_of(found, now):
                raise refusal
            if found.asked_at is None:
                raise Refusal(TOO_MANY_REMINDERS, f"At most {MAX_WAITING}.", max_reminders=MAX_WAITING)

    async def take_back(self, sale_id: str, user_id: str) -> None:
        """Do not remind a shopper; harmless if they did not ask, or were told already. Raises `Refusal` 404."""
        async with self._database.transaction(people=[user_id]) as tx:
            if not await store.remove(tx, sale_id, user_id) and await store.find(tx, sale_id, user_id) is None:
                raise Refusal(NOT_FOUND)

    async def page(self, sale_id: str, user_id: str, now: datetime) -> ReminderPage:
        """Say whether a shopper will be, or was, reminded. Raises `Refusal` 404 for a sale they do not know of."""
        found = await store.find(self._database, sale_id, user_id)
        if found is None:
            raise Refusal(NOT_FOUND)
        return alike(ReminderPage, found, sale_id=sale_id, asked=found.asked_at is not None, server_time=now)

    async def remind_due(self, turn: Turn) -> int:
        """Tell shoppers whose time has come, once each; return how many, up to `REMIND_BATCH`."""
        async with turn.transaction(everyone=True) as tx:
            due = await store.send_due(tx, turn.now, REMIND_BATCH)
            await emit(tx, *[alike(FlashSaleReminderDue, one, at=turn.now) for one in due])
        return len(due)

    async def forget_old_reminders(self, turn: Turn) -> int:
        """Delete reminders of sales that ended long ago; return how many, up to `FORGET_BATCH`."""
        async with turn.transaction() as tx:
            return await store.forget(tx, turn.now, REMINDERS_KEPT, FORGET_BATCH)
