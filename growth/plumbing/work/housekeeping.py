"""Housekeeping: what the clock does for the pipes themselves."""

import math
import time
from datetime import timedelta

import structlog
from prometheus_client import Gauge

from growth.plumbing.http import idempotency
from growth.plumbing.outbox import outbox
from growth.plumbing.person import store as person
from growth.plumbing.postgres.database import Database
from growth.plumbing.watch.invariant_rounds import InvariantRound, InvariantRounds, State
from growth.plumbing.work.periodic import Turn

log = structlog.get_logger("housekeeping")

OUTBOX_KEPT_DAYS = 7
ERASED_KEPT_DAYS = 30
"""At least: so long, facts that were on their way when a shopper was erased may still come."""
ERASED_BATCH = person.PRUNED_AT_ONCE
IDEMPOTENCY_BATCH = idempotency.PRUNED_AT_ONCE

INVARIANTS_SECONDS = 300.0
"""From one round to the next."""

_violated = Gauge("growth_invariant_violations", "Sentences that must always hold and do not, in the last round.")
_unanswered = Gauge("growth_invariants_unanswered", "Sentences that were slow, or failed, in the last round.", ["why"])


class _LastRound:
    """What this process last found out. Its numbers end when it leads no more, and no new round comes."""

    def __init__(self) -> None:
        self._round: InvariantRound | None = None
        self._until = 0.0
        _violated.set_function(lambda: self._count("violated"))
        _unanswered.labels("slow").set_function(lambda: self._count("slow"))
        _unanswered.labels("failed").set_function(lambda: self._count("failed"))

    def note(self, found: InvariantRound) -> None:
        """Tell of this round from now on."""
        self._round, self._until = found, time.monotonic() + 3 * INVARIANTS_SECONDS

    def _count(self, state: State) -> float:
        if self._round is None or time.monotonic() > self._until:
            return math.nan
        return sum(one.state == state for one in self._round.outcomes)


_last = _LastRound()


class Housekeeping:
    """Tasks for the schedule."""

    def __init__(self, database: Database, rounds: InvariantRounds, erased_memory_days: int = 0) -> None:
        """`erased_memory_days`: how long it is known of an erased id that it was here; 0 for as short as possible."""
        self._database = database
        self._erased_kept = timedelta(days=max(erased_memory_days, ERASED_KEPT_DAYS))
        self._rounds = rounds

    async def check_invariants(self, turn: Turn) -> int:
        """Ask every room's `invariants.sql`; a row is an error for a person to look at."""
        found = await self._rounds.ask(turn.now, walks=True)
        _last.note(found)
        for one in found.outcomes:
            if one.state == "violated":
                log.error("invariant.violated", room=one.room, name=one.name, rows=one.rows)
            elif one.state != "holds":
                log.warning("invariant.unanswered", room=one.room, name=one.name, why=one.state, error=one.error)
        return len(found.violations())

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
