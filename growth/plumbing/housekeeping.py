"""Housekeeping: what the clock does for the pipes themselves."""

from datetime import timedelta

import structlog
from prometheus_client import Gauge

from growth.plumbing import idempotency, outbox
from growth.plumbing.invariants import violations
from growth.plumbing.periodic import Turn
from growth.plumbing.person import store as person
from growth.plumbing.postgres import Database

log = structlog.get_logger("housekeeping")

OUTBOX_KEPT_DAYS = 7
ERASED_KEPT_DAYS = 30
"""At least: so long, facts that were on their way when a shopper was erased may still come."""
ERASED_BATCH = person.PRUNED_AT_ONCE
IDEMPOTENCY_BATCH = idempotency.PRUNED_AT_ONCE

_violated = Gauge("growth_invariant_violations", "Sentences that must always hold and do not.")


class Housekeeping:
    """Tasks for the schedule."""

    def __init__(self, database: Database, erased_memory_days: int) -> None:
        """`erased_memory_days`: how long it is known of an erased id that it was here; 0 for as short as possible."""
        self._database = database
        self._erased_kept = timedelta(days=max(erased_memory_days, ERASED_KEPT_DAYS))

    async def check_invariants(self, _turn: Turn) -> int:
        """Ask every room's `invariants.sql`; a row is an error for a person to look at."""
        found = await violations(self._database)
        _violated.set(len(found))
        for violation in found:
            log.error("invariant.violated", room=violation.room, name=violation.name, rows=violation.rows)
        return len(found)

    async def prepare_outbox(self, turn: Turn) -> int:
        """Make the outbox' partitions of the days ahead."""
        return await outbox.prepare(self._database, turn.now, outbox.OUTBOX)

    async def prune_outbox(self, turn: Turn) -> int:
        """Drop days of the outbox that every listener has read."""
        return await outbox.prune(self._database, turn.now, OUTBOX_KEPT_DAYS, outbox.OUTBOX)

    async def forget_erased(self, turn: Turn) -> int:
        """Forget ids that were erased long ago."""
        async with turn.transaction() as tx:
            return await person.forget(tx, turn.now - self._erased_kept)

    async def prune_idempotency(self, turn: Turn) -> int:
        """Forget answers older than a day."""
        return await idempotency.prune(self._database, turn.now)
