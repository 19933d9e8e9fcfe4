"""What the clock does to the log: days are made ahead, and dropped when they are old and everybody has read them."""

from growth.events.model import LOG
from growth.plumbing import outbox
from growth.plumbing.periodic import Turn
from growth.plumbing.postgres import Database


class Keeper:
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
