"""The engine: sends requests when they are due, answered or not; for ceilings, back to back."""

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Protocol

from growth.load.fine_timer import FineTimer
from growth.load.http_client import TIMEOUT_SECONDS, Job, LoadConnection, Pool, ServiceEndpoint

KEPT_UP = 0.98
"""Fewer answers than this share of what was due: the service (or the generator) did not keep up."""
JUDGED_AFTER_SECONDS = 1.0
SWEEP_SECONDS = 0.25
MAX_WAITING = 1_000_000
"""Requests that are due and wait for a free connection; beyond this they fail at once."""


class Source(Protocol):
    """Who makes requests and understands their answers."""

    def next_job(self, due: float) -> Job:
        """Return the request that is due at `due`, seconds on the monotonic clock."""

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:
        """Take an answer. Status 0: there is none, and `answer` says why."""


class Engine:
    """Plays one run over a pool of connections."""

    def __init__(self, endpoint: ServiceEndpoint, connections: int, source: Source) -> None:
        self.source = source
        self.offered = 0
        self.answered_count = 0
        self.answered_in_time = 0
        """Until the schedule ended or was given up; then come the stragglers."""
        self.played_seconds = 0.0
        self._pool = Pool(endpoint, connections, self)
        self._waiting: deque[Job] = deque()
        self._extra: deque[Job] = deque()
        self._dues: Iterator[float] = iter(())
        self._start_at = 0.0
        self._next_due = math.inf
        self._closed_until = 0.0
        self._under_way = 0

    async def open(self) -> None:
        """Connect."""
        await self._pool.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    def add(self, jobs: list[Job]) -> None:
        """Have requests sent beside the schedule, each when it is due; they are in order."""
        self._extra.extend(jobs)

    # What the pool tells.

    def answered(self, connection: LoadConnection | None, job: Job, status: int, answer: bytes) -> None:
        """Settle a request and use its connection for the next one."""
        now = monotonic()
        self._under_way -= 1
        self.answered_count += 1
        self.source.settle(job, status, answer, now)
        if connection is not None:
            self._use(connection, now)
        if self._next_due <= now:
            self._pump(now)

    def failed(self, job: Job, reason: str) -> None:
        """Settle a request that has no answer."""
        self._under_way -= 1
        self.source.settle(job, 0, reason.encode(), monotonic())

    def connected(self, connection: LoadConnection) -> None:
        """Use a connection that was opened again."""
        self._use(connection, monotonic())

    def _use(self, connection: LoadConnection, now: float) -> None:
        if self._waiting:
            self._under_way += 1
            connection.send(self._waiting.popleft(), now)
        elif now < self._closed_until:
            self._under_way += 1
            self.offered += 1
            connection.send(self.source.next_job(now), now)
        else:
            self._pool.free.append(connection)

    # Open loop.

    async def play_open(self, dues: Iterator[float], start_at: float, end_at: float, *, give_up: bool = False) -> bool:
        """Send requests at `start_at + offset` for each offset in `dues`, then wait for the last answers.

        Returns whether the service kept up: by `end_at` it had answered at least `KEPT_UP` of what had been due. With
        `give_up`, the schedule is dropped as soon as it does not.
        """
        self._dues, self._start_at = dues, start_at
        self._advance()
        timer = FineTimer(self._beat)
        try:
            kept_up = await self._until(end_at, give_up=give_up)
            self.answered_in_time, self.played_seconds = self.answered_count, monotonic() - start_at
            self._next_due = math.inf
            await self._drain()
        finally:
            timer.stop()
        return kept_up

    async def _until(self, end_at: float, *, give_up: bool) -> bool:
        while (now := monotonic()) < end_at:
            await asyncio.sleep(min(SWEEP_SECONDS, end_at - now))
            self._sweep()
            behind = self.answered_count < self.offered * KEPT_UP
            if give_up and behind and monotonic() - self._start_at > JUDGED_AFTER_SECONDS:
                self._waiting.clear()
                return False
        return self.answered_count >= self.offered * KEPT_UP

    def _beat(self) -> None:
        now = monotonic()
        if self._next_due <= now or self._extra:
            self._pump(now)

    def _advance(self) -> None:
        self._next_due = self._start_at + next(self._dues, math.inf)

    def _pump(self, now: float) -> None:
        """Make the requests that are due, and send as many as there are free connections."""
        waiting, free = self._waiting, self._pool.free
        while self._next_due <= now:
            job = self.source.next_job(self._next_due)
            self.offered += 1
            if len(waiting) < MAX_WAITING:
                waiting.append(job)
            else:
                self.source.settle(job, 0, b"the generator's queue is full", now)
            self._advance()
        while self._extra and self._extra[0].due <= now:
            self.offered += 1
            waiting.append(self._extra.popleft())
        while waiting and free:
            self._under_way += 1
            free.popleft().send(waiting.popleft(), now)

    def _sweep(self) -> None:
        now = monotonic()
        self._pool.sweep(now)
        while self._waiting and now - self._waiting[0].due > TIMEOUT_SECONDS:
            self.source.settle(
                self._waiting.popleft(), 0, f"no free connection for {TIMEOUT_SECONDS:.0f} s".encode(), now
            )

    async def _drain(self) -> None:
        while self._under_way or self._waiting or self._extra:
            self._sweep()
            await asyncio.sleep(0.01)

    # Closed loop.

    async def play_closed(self, seconds: float) -> None:
        """Keep every connection busy for `seconds`."""
        begin = monotonic()
        self._closed_until = begin + seconds
        free, self._pool.free = self._pool.free, deque()
        for connection in free:
            self._use(connection, begin)
        while (left := self._closed_until - monotonic()) > 0:
            await asyncio.sleep(min(SWEEP_SECONDS, left))
            self._sweep()
        self.answered_in_time, self.played_seconds = self.answered_count, monotonic() - begin
        await self._drain()
