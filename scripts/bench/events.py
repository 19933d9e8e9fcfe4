"""What events in cost: batches of shoppers over HTTP, durable before the answer, and reading the log.

Closed loops play against one api process; printed are events for each second of its CPU, and what the stores spend
beside it. One batch in twenty is sent again. At the end every batch was counted once: the log has as many rows as
events were acknowledged as new.
"""

import statistics
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

import msgspec
from msgspec import Struct

from growth.load.http_client import Job
from growth.load.processes import Processes
from growth.plumbing.outbox.outbox import Subscription, deliver
from growth.plumbing.postgres.database import Database, Tx
from growth.shopper.activity.model import LOG, MAX_EVENTS
from growth.vocabulary import clock
from growth.vocabulary.clock import rfc3339
from scripts.bench.kit import ROUNDS, Requests, play, request, run, running_bench, say
from scripts.bench.stack import Stack

PLAY_SECONDS = 3.0
CONNECTIONS = 32
SHOPPERS = 20_000
AGAIN_EVERY = 20
"""One batch of so many is one that was sent before."""
SIZES = (MAX_EVENTS, 10, 1)
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
    accepted: int
    duplicates: int
    statuses: dict[int, int]

    def told(self) -> str:
        """Say it in a line."""
        beside = ", ".join(f"{name} {used:.1f}" for name, used in self.cpu_us.items() if name != "server")
        return (
            f"batches of {self.size:3}: {1e6 / self.cpu_us['server']:9,.0f} events for a second of the server's CPU"
            f" ({self.cpu_us['server']:.1f} µs each, {self.spread_us[0]:.1f} to {self.spread_us[1]:.1f});"
            f" {self.events_per_second:,.0f}/s by the clock; beside it, µs: {beside};"
            f" {self.duplicates:,} duplicates; {self.statuses}"
        )


class _Answer(Struct):
    accepted: int
    duplicate: int


class Batches(Requests):
    """A source of batches: each of another shopper, some sent again."""

    def __init__(self, tokens: Sequence[bytes], size: int) -> None:
        super().__init__(self._made())
        self._tokens = tokens
        self._size = size
        self._number = 0
        self._at = rfc3339(clock.now() - timedelta(minutes=1))
        self.accepted = self.duplicates = 0

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:
        """Count the answer, and the events in it."""
        super().settle(job, status, answer, now)
        if status == 202:  # noqa: PLR2004
            told = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=_Answer)
            self.accepted += told.accepted
            self.duplicates += told.duplicate

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
        return request("POST", "/v1/events", self._tokens[number % len(self._tokens)], body)


async def batch_cost(stack: Stack, size: int, tokens: Sequence[bytes], seconds: float) -> BatchCost:
    """Play closed loops of batches of one size."""
    watched = Processes(stack.target.pids)
    cpu: dict[str, list[float]] = {}
    rates, accepted, duplicates = [], 0, 0
    statuses: dict[int, int] = {}
    for _ in range(ROUNDS):
        source = Batches(tokens, size)
        played = await play(stack.serve.url, source, seconds, connections=CONNECTIONS, watched=watched)
        answered = source.accepted + source.duplicates
        for name, used in played.cpu_seconds.items():
            cpu.setdefault(name, []).append(used / max(1, answered) * 1e6)
        rates.append(answered / played.seconds)
        accepted, duplicates = accepted + source.accepted, duplicates + source.duplicates
        for status, count in source.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    found = BatchCost(
        size=size,
        events_per_second=statistics.median(rates),
        cpu_us={name: statistics.median(used) for name, used in cpu.items()},
        spread_us=(min(cpu["server"]), max(cpu["server"])),
        accepted=accepted,
        duplicates=duplicates,
        statuses=statuses,
    )
    say(found.told())
    return found


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


async def measure(seconds: float) -> None:
    """Measure everything once, and print it."""
    async with running_bench() as bench:
        tokens = bench.tokens("u", SHOPPERS)
        acknowledged = sum([(await batch_cost(bench.stack, size, tokens, seconds)).accepted for size in SIZES])
        rows = await bench.database.fetchval("SELECT count(*) FROM activity.log")
        # The last answers of a round may not have been waited for.
        assert rows >= acknowledged, (rows, acknowledged)
        say(f"{rows:,} rows in the log, each acknowledged as new once")
        heard, took = await read_all(bench.database)
        assert heard == rows, (heard, rows)
        say(f"a follower passed {heard:,} in {took:.1f} s: {heard / took:,.0f}/s")
        await bench.holds()


def main() -> None:
    """Print what was measured."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=PLAY_SECONDS, help="of a round")
    run(measure(parser.parse_args().seconds))
