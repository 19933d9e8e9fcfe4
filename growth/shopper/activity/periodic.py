"""What the clock does to the log: days are made ahead and dropped when old and read; shoppers go on their way out."""

from growth.plumbing.outbox import outbox
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.periodic import Turn
from growth.shopper.activity import person as shopper
from growth.shopper.activity import store
from growth.shopper.activity.model import LOG


class EventsKeeper:
    """Tasks for the schedule."""

    def __init__(self, database: Database, keep_days: int) -> None:
        """`keep_days`: whole days of the past that are kept, at least `model.MIN_KEEP_DAYS`."""
        self._database = database
        self._keep_days = keep_days

    async def prepare(self, turn: Turn) -> int:
        """Make the partitions of the days ahead."""
        return await outbox.prepare(self._database, turn.now, LOG)

    async def prune(self, turn: Turn) -> int:
        """Drop days that are old enough and that every follower has passed."""
        return await outbox.prune(self._database, turn.now, self._keep_days, LOG)

    async def depart(self, _turn: Turn) -> int:
        """Go on erasing, or moving, what is too much for one transaction: one batch, of one shopper. Returns 0 or 1."""
        async with self._database.transaction(everyone=True) as tx:
            departure = await store.next_departure(tx)
            if departure is not None:
                await shopper.go_on(tx, departure)
        return int(departure is not None)
