"""What events in cost on this machine: batches of shoppers over HTTP, durable before the answer, and reading the log.

`python -m growth.load.events_bench [SECONDS]` starts servers of its own, plays closed loops against one api process and
prints events for each second of that process' CPU, and what the stores spend beside it. One batch in twenty is sent
again. At the end every batch was counted once: the log has as many rows as events were acknowledged as new.
"""

import asyncio
import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

import msgspec
import uvloop
from msgspec import Struct

from growth.load.bench_stack import Stack, running_stack
from growth.load.engine import Engine
from growth.load.processes import Processes
from growth.load.tokens import shopper_token
from growth.load.wire import Job, ServiceEndpoint
from growth.plumbing.outbox.outbox import Subscription, deliver
from growth.plumbing.postgres.database import Database, Tx, connect_postgres
from growth.plumbing.watch.invariants import violations
from growth.shopper.activity.model import LOG, MAX_EVENTS
from growth.vocabulary import clock
from growth.vocabulary.clock import rfc3339

ROUNDS = 3
PLAY_SECONDS = 3.0
CONNECTIONS = 32
SHOPPERS = 20_000
AGAIN_EVERY = 20
"""One batch of so many is one that was sent before."""
SIZES = (MAX_EVENTS, 10, 1)
CONNECTIONS_TO_POSTGRES = 2
WAIT_SECONDS = 60.0
TYPES = ("product.viewed", "page.viewed", "app.opened", "content.shared")


class BatchCost(Struct, frozen=True):
    """What batches of one size cost; times are medians of the rounds."""

    size: int
    events_per_second: float
    """By the clock, everything on this machine."""
    cpu_us: dict[str, float]
    """By process, for one event."""
    spread_us: tuple[float, float]
    """Of the server."""
    duplicates: int
    statuses: dict[int, int]


class _Answer(Struct):
    accepted: int
    duplicate: int


class Batches:
    """A source of batches: each of another shopper, some sent again."""

    def __init__(self, tokens: Sequence[bytes], size: int) -> None:
        self._tokens = tokens
        self._size = size
        self._number = 0
        self._payloads = self._made()
        self._at = rfc3339(clock.now() - timedelta(minutes=1))
        self.statuses: dict[int, int] = {}
        self.accepted = self.duplicates = self.answered = 0

    def next_job(self, due: float) -> Job:
        """Return the next one."""
        return Job(due, 0, next(self._payloads))

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:  # noqa: ARG002 - the engine's protocol
        """Count the answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 202:  # noqa: PLR2004
            told = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=_Answer)
            self.accepted += told.accepted
            self.duplicates += told.duplicate
            self.answered += told.accepted + told.duplicate

    def _made(self) -> Iterator[bytes]:
        before = b""
        while True:
            self._number += 1
            if self._number % AGAIN_EVERY or not before:
                before = self._batch(self._number)
            yield before

    def _batch(self, number: int) -> bytes:
        stamp = f"{id(self) & 0xFFFFFF:06x}-{number:08x}"
        told = ",".join(
            f'{{"id":"0199c0de-{stamp}-{place:04x}-7000","type":"{TYPES[place % len(TYPES)]}","at":"{self._at}",'
            f'"data":{{"sku":"tea-{place}","from":"home","position":{place}}}}}'
            for place in range(self._size)
        )
        body = f'{{"events":[{told}]}}'.encode()
        token = self._tokens[number % len(self._tokens)]
        return (
            b"POST /v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (token, len(body), body)
        )


async def cost(stack: Stack, size: int, tokens: Sequence[bytes], seconds: float) -> tuple[BatchCost, int]:
    """Play closed loops; returns also how many events were acknowledged as new."""
    watched = Processes(stack.target.pids)
    cpu: dict[str, list[float]] = {}
    rates, accepted, duplicates = [], 0, 0
    statuses: dict[int, int] = {}
    for _ in range(ROUNDS):
        source = Batches(tokens, size)
        engine = Engine(ServiceEndpoint(stack.target.base_url), CONNECTIONS, source)
        await engine.open()
        before = watched.sample()
        await engine.play_closed(seconds)
        after = watched.sample()
        await engine.close()
        for name, used in after.seconds.items():
            cpu.setdefault(name, []).append((used - before.seconds[name]) / max(1, source.answered) * 1e6)
        rates.append(source.answered / engine.played_seconds)
        accepted += source.accepted
        duplicates += source.duplicates
        for status, count in source.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    server = cpu["server"]
    shown = {name: statistics.median(used) for name, used in cpu.items()}
    return BatchCost(size, statistics.median(rates), shown, (min(server), max(server)), duplicates, statuses), accepted


async def read_all(database: Database) -> tuple[int, float]:
    """Follow the whole log with a handler that does nothing; returns how many activities, and in how many seconds."""
    heard = 0

    async def count(_: Tx, activities: Sequence[Any]) -> None:
        nonlocal heard
        heard += len(activities)

    follower = Subscription("events.bench", None, count, LOG)
    begin = monotonic()
    while await deliver(database, follower):
        pass
    return heard, monotonic() - begin


def told(costs: Sequence[BatchCost], rows: int, heard: int, seconds: float) -> str:
    """Say it to a person."""
    lines = [
        f"batches of {one.size:3}: {1e6 / one.cpu_us['server']:9,.0f} events for a second of the server's CPU"
        f" ({one.cpu_us['server']:.1f} µs each, {one.spread_us[0]:.1f} to {one.spread_us[1]:.1f});"
        f" {one.events_per_second:,.0f}/s by the clock; beside it, µs: "
        + ", ".join(f"{name} {used:.1f}" for name, used in one.cpu_us.items() if name != "server")
        + f"; {one.duplicates:,} duplicates; {one.statuses}"
        for one in costs
    ]
    lines.append(f"{rows:,} rows in the log, each acknowledged as new once")
    lines.append(f"a follower passed {heard:,} in {seconds:.1f} s: {heard / seconds:,.0f}/s")
    return "\n".join(lines)


async def measure(seconds: float) -> str:
    """Measure everything once."""
    async with running_stack() as stack:
        stack.pin()
        tokens = [shopper_token(stack.target.jwt_secret, f"u{number}", clock.now()) for number in range(SHOPPERS)]
        database = await connect_postgres(
            stack.postgres_dsn,
            max_connections=CONNECTIONS_TO_POSTGRES,
            acquire_seconds=WAIT_SECONDS,
            statement_seconds=WAIT_SECONDS,
        )
        costs, acknowledged = [], 0
        for size in SIZES:
            one, accepted = await cost(stack, size, tokens, seconds)
            costs.append(one)
            acknowledged += accepted
        rows = await database.fetchval("SELECT count(*) FROM activity.log")
        # The last answers of a round may not have been waited for.
        assert rows >= acknowledged, (rows, acknowledged)
        heard, took = await read_all(database)
        assert heard == rows, (heard, rows)
        broken = await violations(database)
        assert not broken, broken
        await database.close()
    return told(costs, rows, heard, took)


def main() -> None:
    """Print what was measured."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else PLAY_SECONDS
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(runner.run(measure(seconds)) + "\n")


if __name__ == "__main__":
    main()
