"""What the clock does to deliveries: makes and drops their days, and watches how long they wait."""

from datetime import UTC, datetime, time, timedelta

from prometheus_client import Gauge

from growth.plumbing.postgres import partitions
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.periodic import Turn
from growth.webhook.delivery import store

TABLE = "webhook.deliveries"
KEPT_DAYS = 14
"""Whole days, in UTC, by when the event happened. Longer than any delivery can be on its way; what waits for an
endpoint that has been disabled for longer goes with its day."""
PRUNE_BATCH = 5000
"""Rows of the default partition deleted in one transaction; days are dropped whole."""
MAX_COUNTED = 10_000
"""Deliveries of one endpoint that wait: beyond that many the exact number helps nobody."""

_waiting = Gauge("growth_webhook_waiting", "Deliveries of enabled endpoints that wait, for their turn or next try.")
_overdue = Gauge("growth_webhook_overdue_seconds", "How long the oldest of them has been due.")


class DeliveryKeeper:
    """Tasks for the schedule."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self, turn: Turn) -> int:
        """Make the partitions of the days ahead."""
        return await partitions.make_days(self._database, TABLE, turn.now)

    async def prune(self, turn: Turn) -> int:
        """Drop days that are over for good."""
        first_kept = turn.now.astimezone(UTC).date() - timedelta(days=KEPT_DAYS)
        pruned = 0
        for day in await partitions.days(self._database, TABLE):
            if day >= first_kept:
                break
            async with turn.transaction() as tx:
                await partitions.lock_to_drop(tx, TABLE)
                await partitions.drop_day(tx, TABLE, day)
                pruned += 1
        async with turn.transaction() as tx:
            pruned += await store.prune_default(tx, datetime.combine(first_kept, time(), UTC), PRUNE_BATCH)
        return pruned

    async def watch(self, turn: Turn) -> int:
        """Show how many deliveries wait and how late the oldest is."""
        deliveries, seconds = await store.waiting(self._database, turn.now, MAX_COUNTED)
        _waiting.set(deliveries)
        _overdue.set(seconds)
        return deliveries
