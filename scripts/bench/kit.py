"""What a bench is made of: a running stack with its operator and shoppers, requests that are played, what they cost."""

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from time import monotonic
from typing import Any

import aiohttp
import uvloop
from msgspec import Struct

from growth.load.engine import Engine
from growth.load.http_client import Job, ServiceEndpoint
from growth.load.processes import Processes, cores
from growth.load.tokens import shopper_token
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.invariants import all_invariants, violations
from growth.vocabulary import clock
from scripts.bench.stack import ServerProcess, Stack, running_stack

ROUNDS = 3
PLAY_SECONDS = 2.0
CONNECTIONS = 128
POOL = 4
"""Connections to Postgres."""
ACQUIRE_SECONDS, STATEMENT_SECONDS = 30.0, 3600.0
BARE_PATH = "/v1/flash-sales/00000000-0000-7000-8000-000000000000/claims"
"""What the bare servers answer."""


def say(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(measure: Coroutine[Any, Any, None]) -> None:
    """Run a bench to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure)


# --- requests -------------------------------------------------------------------------------------------------------


def request(method: str, path: str, token: bytes, body: bytes = b"", key: str = "") -> bytes:
    """Return the bytes of one request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token.decode()}\r\n"
    if body:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    if key:
        head += f"idempotency-key: {key}\r\n"
    return head.encode() + b"\r\n" + body


def bare_posts(tokens: Sequence[bytes]) -> Iterator[bytes]:
    """Return claims, again and again: what the bare servers are asked."""
    return cycle([request("POST", BARE_PATH, token, b'{"units":1}', "k") for token in tokens])


class Requests:
    """A source of requests that are known before, in turn; it notes how long each took."""

    def __init__(self, payloads: Iterator[bytes]) -> None:
        self._payloads = payloads
        self.statuses: dict[int, int] = {}
        self.seconds: list[float] = []
        self.failure = b""
        """The last answer that was no success."""

    def next_job(self, due: float) -> Job:
        """Return the next one."""
        return Job(due, 0, next(self._payloads))

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:
        """Count the answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.seconds.append(now - job.due)
        if not 200 <= status < 300:  # noqa: PLR2004
            self.failure = answer


class PlayedLoad(Struct, frozen=True):
    """One stretch of load."""

    answered: int
    per_second: float
    seconds: float
    cpu_seconds: dict[str, float]
    """By process."""


async def play(
    url: str,
    source: Requests,
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    per_second: float = 0.0,
    watched: Processes | None = None,
) -> PlayedLoad:
    """Ask as fast as answers come, or so many a second."""
    processes = watched or Processes({})
    engine = Engine(ServiceEndpoint(url), connections, source)
    await engine.open()
    before, begin = processes.sample(), monotonic()
    if per_second:
        dues = (number / per_second for number in range(int(seconds * per_second)))
        await engine.play_open(dues, begin, begin + seconds)
    else:
        await engine.play_closed(seconds)
    after = processes.sample()
    await engine.close()
    used = {name: value - before.seconds[name] for name, value in after.seconds.items()}
    return PlayedLoad(
        max(1, engine.answered_count), engine.answered_in_time / engine.played_seconds, engine.played_seconds, used
    )


class RequestCost(Struct, frozen=True, kw_only=True):
    """What one thing costs that requests ask for; times are medians of the rounds."""

    name: str
    per_second: float
    cpu_us: float
    """Of the server process."""
    spread_us: tuple[float, float]
    statuses: dict[int, int]
    beside: tuple[str, float] | None = None
    """A bare server, and how many times this it costs."""

    def told(self) -> str:
        """Say it in a line."""
        low, high = self.spread_us
        ratio = f", {self.beside[1]:.2f} x {self.beside[0]}" if self.beside else ""
        return (
            f"{self.name:34} {self.per_second:9,.0f}/s  {self.cpu_us:7.1f} µs CPU ({low:.1f} to {high:.1f}){ratio}"
            f"  {self.statuses}"
        )


async def cost(
    name: str,
    server: ServerProcess,
    payloads: Iterator[bytes],
    *,
    beside: RequestCost | None = None,
    seconds: float = PLAY_SECONDS,
    connections: int = CONNECTIONS,
    things: int = 1,
) -> RequestCost:
    """Play closed loops of requests that each ask for so many things; say what one of them costs."""
    cpu, rates = [], []
    statuses: dict[int, int] = {}
    watched = Processes({"server": server.pid})
    for _ in range(ROUNDS):
        source = Requests(payloads)
        played = await play(server.url, source, seconds, connections=connections, watched=watched)
        cpu.append(played.cpu_seconds["server"] / played.answered / things * 1e6)
        rates.append(played.per_second * things)
        for status, count in source.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    middle = statistics.median(cpu)
    found = RequestCost(
        name=name,
        per_second=statistics.median(rates),
        cpu_us=middle,
        spread_us=(min(cpu), max(cpu)),
        statuses=statuses,
        beside=(beside.name, beside.cpu_us / middle) if beside else None,
    )
    say(found.told())
    return found


# --- a stack with people --------------------------------------------------------------------------------------------


class Bench(Struct, frozen=True):
    """A stack, its operator and its shoppers."""

    stack: Stack
    database: Database
    session: aiohttp.ClientSession

    def token(self, user_id: str) -> bytes:
        """Return a shopper's token."""
        return shopper_token(self.stack.target.jwt_secret, user_id, clock.now())

    def tokens(self, prefix: str, count: int) -> list[bytes]:
        """Return tokens of shoppers: the prefix and a number."""
        return [self.token(f"{prefix}{number}") for number in range(count)]

    async def ask(self, method: str, path: str, token: str, body: object = None) -> dict[str, Any]:
        """Ask the service; the answer must be good."""
        url, headers = self.stack.target.base_url + path, {"authorization": f"Bearer {token}"}
        async with self.session.request(method, url, json=body, headers=headers) as told:
            answer: dict[str, Any] = await told.json(content_type=None)
            assert told.ok, answer
            return answer

    async def publish(self, path: str, id_name: str, draft: object, query: str = "") -> str:
        """Make a campaign and publish it; returns its id."""
        key = self.stack.target.operator_key
        made: str = (await self.ask("POST", f"/admin/v1/{path}", key, draft))[id_name]
        await self.ask("POST", f"/admin/v1/{path}/{made}/publish{query}", key)
        return made

    def spread_out(self) -> None:
        """Let every process have every core: the api is idle now, and the worker and the stores may have its own."""
        Processes(self.stack.target.pids).pin(set(cores()))

    async def holds(self, *rooms: str) -> None:
        """Every invariant must hold; of these rooms alone, if some are named."""
        await holds(self.database, *rooms)


async def holds(database: Database, *rooms: str) -> int:
    """Every invariant must hold; of these rooms alone, if some are named. Returns how many were asked."""
    asked = tuple(one for one in all_invariants() if not rooms or one.room in rooms)
    broken = await violations(database, asked)
    assert not broken, broken
    return len(asked)


async def connected(dsn: str) -> Database:
    """Connect with the patience that rows by the million take."""
    return await connect_postgres(
        dsn, max_connections=POOL, acquire_seconds=ACQUIRE_SECONDS, statement_seconds=STATEMENT_SECONDS
    )


@asynccontextmanager
async def running_bench(*, pinned: bool = True) -> AsyncIterator[Bench]:
    """Start everything, the servers that are compared on a core of their own; end it with the block."""
    async with running_stack() as stack, aiohttp.ClientSession() as session:
        if pinned:
            stack.pin()
        database = await connected(stack.postgres_dsn)
        yield Bench(stack, database, session)
        await database.close()
