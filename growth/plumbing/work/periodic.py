"""Periodic: what the clock wakes. Any number of workers, one leader a task, and no write by a leader of the past.

A leader holds a lease, a row with an end by Postgres' clock and a fence number that grows with every change of leader.
Whoever slept through its lease may still believe that it leads: so every transaction of a turn first proves its number,
and keeps the row locked until it ends; nobody takes over in between, and no write comes after.
"""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime, timedelta

import structlog
from msgspec import Struct
from prometheus_client import Counter, Gauge, Histogram

from growth.plumbing.postgres.database import Database, Record, Tx
from growth.plumbing.watch import traces
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("periodic")

LEASE_SECONDS = 10.0
"""So long after a leader's sudden death another takes over; for slow tasks it is `LEASE_PERIODS` of theirs, but no more
than `MAX_LEASE_SECONDS`, or than a turn may take where that is longer. Between its turns a leader renews it."""
LEASE_PERIODS = 1.5
MAX_LEASE_SECONDS = 90.0
RENEW_SHARE = 1 / 3
"""A lease is renewed when this share of it is over, and asked for at this interval by those who do not lead."""
JITTER_SHARE = 0.1
"""Workers that start together do not stay together."""
MAX_TURNS_AT_ONCE = 100
"""Full batches in a row before a task pauses."""
PAUSE_SECONDS = 1.0
MAX_TURN_SECONDS = 60.0
MAX_BACKOFF_SECONDS = 30.0
STOP_SECONDS = 4.0
"""For running turns to end by themselves; then they are cancelled and rolled back."""
RELEASE_SECONDS = 1.0

_turns = Counter("growth_task_turns_total", "Turns of a periodic task, by how they ended.", ["task", "outcome"])
_done = Counter("growth_task_done_total", "What the turns of a periodic task did, in units of its own.", ["task"])
_seconds = Histogram("growth_task_turn_seconds", "How long a turn took.", ["task"])
_success = Gauge(
    "growth_task_last_success_timestamp_seconds",
    "When a turn last ended well on this process, or it began to lead the task.",
    ["task"],
)
_leading = Gauge("growth_task_leading", "1 while this process leads the task.", ["task"])


class LeaseLost(Exception):
    """Another worker leads by now: nothing of this transaction was written."""


class Held(Struct, frozen=True):
    """A lease as one turn has it."""

    holder: str
    fence: int
    now: datetime


class Turn:
    """One go of a task by its leader."""

    def __init__(self, database: Database, name: str, held: "Held") -> None:
        self._database = database
        self._name = name
        self._held = held
        self.now = held.now
        """Postgres' clock when the turn began."""

    @contextlib.asynccontextmanager
    async def transaction(self, *, everyone: bool = False) -> AsyncIterator[Tx]:
        """Open a transaction that belongs to the leader. Raises `LeaseLost` if that is somebody else by now.

        `everyone`: it writes by ids of shoppers that it reads on the way.
        """
        async with self._database.transaction(everyone=everyone) as tx:
            proven = await tx.fetchval(
                """
                SELECT TRUE
                FROM plumbing.leases
                WHERE name = $1
                  AND holder = $2
                  AND fence = $3
                FOR SHARE
                """,
                self._name,
                self._held.holder,
                self._held.fence,
            )
            if proven is None:
                raise LeaseLost(self._name)
            yield tx


class PeriodicTask(Struct, frozen=True):
    """What to do, and how often."""

    name: str
    """The lease's key: one leader for each name."""
    every_seconds: float
    run: Callable[[Turn], Awaitable[int]]
    """Does one bounded go and returns how much it did."""
    full_batch: int | None = None
    """From this result on there may be more: the task runs again at once, `MAX_TURNS_AT_ONCE` times at most."""
    max_seconds: float = MAX_TURN_SECONDS


class Periodic:
    """Runs tasks on one worker. `holder` tells workers apart; it is new with each start of a process."""

    def __init__(self, database: Database, tasks: Iterable[PeriodicTask], holder: str | None = None) -> None:
        self._database = database
        self._tasks = tuple(tasks)
        self._holder = holder or str(uuid.uuid4())
        self._wakes = {task.name: asyncio.Event() for task in self._tasks}
        self._led: dict[str, int] = {}
        """The fence under which each task was last led here."""
        assert len(self._wakes) == len(self._tasks), "two tasks have one name"

    def wake(self, name: str) -> None:
        """Run the task now rather than at its time, if this process leads it. May be called from a callback."""
        self._wakes[name].set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run every task until `stop` is set; then end within `STOP_SECONDS` + `RELEASE_SECONDS`."""
        loops = [asyncio.create_task(self._loop(task, stop), name=f"periodic:{task.name}") for task in self._tasks]
        try:
            await stop.wait()
            for wake in self._wakes.values():
                wake.set()
            if loops:
                await asyncio.wait(loops, timeout=STOP_SECONDS)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self._release()

    async def _loop(self, task: PeriodicTask, stop: asyncio.Event) -> None:
        lease = _Lease(self._database, task, self._holder)
        failures = 0
        wait_seconds = 0.0
        while True:
            wait_seconds *= random.uniform(1 - JITTER_SHARE, 1 + JITTER_SHARE)
            await self._rest(self._wakes[task.name], lease, wait_seconds)
            if stop.is_set():
                return
            try:
                wait_seconds = await self._turns(task, lease, stop)
                failures = 0
            except Exception as error:
                failures += 1
                _leading.labels(task.name).set(0)
                wait_seconds = min(MAX_BACKOFF_SECONDS, max(1.0, task.every_seconds) * 2 ** min(failures - 1, 10))
                _turns.labels(task.name, "failed").inc()
                stack = None if isinstance(error, Unavailable) else error
                log.warning("periodic.failed", task=task.name, failures=failures, error=repr(error), exc_info=stack)

    async def _rest(self, wake: asyncio.Event, lease: "_Lease", seconds: float) -> None:
        """Wait, unless woken; a lease that would end meanwhile is renewed as long as it is ours."""
        ends_at = time.monotonic() + seconds
        while True:
            left = ends_at - time.monotonic()
            piece = lease.seconds * RENEW_SHARE
            if await _sleep(wake, min(left, piece)) or left <= piece:
                return
            with contextlib.suppress(Unavailable):
                if await lease.hold() is None:
                    return

    async def _turns(self, task: PeriodicTask, lease: "_Lease", stop: asyncio.Event) -> float:
        """Take turns while batches are full; return how long to wait then."""
        for _ in range(MAX_TURNS_AT_ONCE):
            held = await lease.hold()
            _leading.labels(task.name).set(held is not None)
            if held is None:
                return lease.seconds * RENEW_SHARE
            if self._led.get(task.name) != held.fence:
                # A task that never ends well has a time too, from which on it is late.
                self._led[task.name] = held.fence
                _success.labels(task.name).set_to_current_time()
            try:
                with _seconds.labels(task.name).time(), traces.span(f"turn {task.name}"):
                    async with asyncio.timeout(task.max_seconds):
                        done = await task.run(Turn(self._database, task.name, held))
            except LeaseLost:
                _turns.labels(task.name, "lost").inc()
                log.info("periodic.lease_lost", task=task.name)
                return lease.seconds * RENEW_SHARE
            _turns.labels(task.name, "done").inc()
            _done.labels(task.name).inc(done)
            _success.labels(task.name).set_to_current_time()
            if task.full_batch is None or done < task.full_batch or stop.is_set():
                return task.every_seconds
        return min(task.every_seconds, PAUSE_SECONDS)

    async def _release(self) -> None:
        """End our leases, so that the next worker need not wait for their time. If that fails, it waits."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS), self._database.transaction() as tx:
                await tx.execute(
                    """
                    UPDATE plumbing.leases
                    SET expires_at = clock_timestamp()
                    WHERE holder = $1
                      AND expires_at > clock_timestamp()
                    """,
                    self._holder,
                )
        except Exception as error:  # noqa: BLE001 - stopping goes on
            log.warning("periodic.release_failed", error=repr(error))
        for task in self._tasks:
            _leading.labels(task.name).set(0)


class _Lease:
    """One process' hold on one task."""

    def __init__(self, database: Database, task: PeriodicTask, holder: str) -> None:
        self.seconds = max(LEASE_SECONDS, min(task.every_seconds * LEASE_PERIODS, MAX_LEASE_SECONDS))
        if task.max_seconds > MAX_TURN_SECONDS:
            self.seconds = max(self.seconds, task.max_seconds)
        self._database = database
        self._name = task.name
        self._holder = holder
        self._fence: int | None = None
        self._renew_at = 0.0

    async def hold(self) -> "Held | None":
        """Take, keep or renew the lease; None while another process has it."""
        if self._fence is not None and time.monotonic() < self._renew_at:
            now = await self._database.fetchval(
                """
                SELECT clock_timestamp()
                FROM plumbing.leases
                WHERE name = $1
                  AND holder = $2
                  AND fence = $3
                """,
                self._name,
                self._holder,
                self._fence,
            )
            if now is not None:
                return Held(self._holder, self._fence, now)
        asked_at = time.monotonic()
        row = await self._take()
        if row is None:
            self._fence = None
            return None
        if row["fence"] != self._fence:
            log.info("periodic.leading", task=self._name, fence=row["fence"])
        self._fence = row["fence"]
        self._renew_at = asked_at + self.seconds * RENEW_SHARE
        return Held(self._holder, row["fence"], row["now"])

    async def _take(self) -> Record | None:
        # Not ON CONFLICT DO UPDATE: that would wait for a leader's transaction, where SKIP LOCKED goes away at once.
        row = await self._database.fetchrow(
            """
            WITH free AS MATERIALIZED (
                SELECT name
                FROM plumbing.leases
                WHERE name = $1
                  AND (holder = $2 AND fence = $3 OR expires_at <= clock_timestamp())
                FOR NO KEY UPDATE SKIP LOCKED
            )
            UPDATE plumbing.leases AS lease
            SET holder = $2,
                fence = CASE WHEN lease.holder = $2 AND lease.fence = $3 THEN lease.fence ELSE lease.fence + 1 END,
                expires_at = clock_timestamp() + $4
            FROM free
            WHERE lease.name = free.name
            RETURNING lease.fence, clock_timestamp() AS now
            """,
            self._name,
            self._holder,
            self._fence or 0,
            timedelta(seconds=self.seconds),
        )
        if row is not None:
            return row
        return await self._database.fetchrow(
            """
            INSERT INTO plumbing.leases (name, holder, fence, expires_at)
            VALUES ($1, $2, 1, clock_timestamp() + $3)
            ON CONFLICT (name) DO NOTHING
            RETURNING fence, clock_timestamp() AS now
            """,
            self._name,
            self._holder,
            timedelta(seconds=self.seconds),
        )


async def _sleep(wake: asyncio.Event, seconds: float) -> bool:
    """Wait so long; return whether it was woken."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
    was_woken = wake.is_set()
    wake.clear()
    return was_woken
