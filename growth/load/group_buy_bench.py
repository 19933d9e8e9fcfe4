"""What group buys cost on this machine: seats, team pages, a crowd at a full team, and 100,000 teams expiring at once.

`python -m growth.load.group_buy_bench [--expiry]` starts servers of its own and prints what was measured, beside bare
servers on the same core; `--expiry` leaves the rest out. `expiry` and `ceilings` take a stack that runs already.
"""

import asyncio
import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from time import monotonic

import aiohttp
import uvloop
from msgspec import Struct

from growth.load.bench_stack import Stack, running_stack
from growth.load.engine import Engine
from growth.load.processes import Processes, cores
from growth.load.tokens import shopper_token
from growth.load.wire import Job, ServiceEndpoint
from growth.mechanics.group_buy.team.service import Teams
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.invariants import violations
from growth.vocabulary import clock
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.refusals import Refusal

ROUNDS = 3
PLAY_SECONDS = 2.0
CONNECTIONS = 128
SHOPPERS = 40_000
TEAMS = 800
TEAM_SIZE = 100
EXPIRING_TEAMS = 100_000
EXPIRING_IN = timedelta(seconds=20)
JOINS_PER_SECOND = 100
MAX_EXPIRY_SECONDS = 120
LOOK_SECONDS = 0.25
WATCHING, JOINING = 2, 4
"""Connections."""
WAIT_SECONDS = 30.0
SEED_SECONDS = 300.0


class RequestCost(Struct, frozen=True):
    """What one request costs, over `ROUNDS` rounds."""

    name: str
    per_second: float
    cpu_us: float
    """Of the server process; the median of the rounds."""
    spread_us: tuple[float, float]
    statuses: dict[int, int]


class Expired(Struct, frozen=True):
    """How long it took a worker to end all teams that were over at one moment."""

    teams: int
    seats: int
    seconds: float
    cpu_seconds: dict[str, float]
    """Of the worker and the stores, and all that others had the machine do."""
    refunds: int
    joins: int
    """Seats taken in the same campaign meanwhile."""
    join_p50_ms: float
    join_p99_ms: float
    join_max_ms: float


class Requests:
    """A source of requests that are known before, in turn."""

    def __init__(self, payloads: Iterator[bytes]) -> None:
        self._payloads = payloads
        self.statuses: dict[int, int] = {}

    def next_job(self, due: float) -> Job:
        """Return the next one."""
        return Job(due, 0, next(self._payloads))

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:  # noqa: ARG002 - the engine's protocol
        """Count the answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1


def request(method: str, path: str, token: bytes, body: bytes = b"", key: str = "") -> bytes:
    """Return the bytes of one request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token.decode()}\r\n"
    if body:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    if key:
        head += f"idempotency-key: {key}\r\n"
    return head.encode() + b"\r\n" + body


async def cost(name: str, url: str, pid: int, payloads: Iterator[bytes]) -> RequestCost:
    """Play closed loops."""
    cpu, rates = [], []
    statuses: dict[int, int] = {}
    served = Processes({"server": pid})
    for _ in range(ROUNDS):
        source = Requests(payloads)
        engine = Engine(ServiceEndpoint(url), CONNECTIONS, source)
        await engine.open()
        before = served.sample()
        await engine.play_closed(PLAY_SECONDS)
        after = served.sample()
        await engine.close()
        cpu.append((after.seconds["server"] - before.seconds["server"]) / engine.answered_count * 1e6)
        rates.append(engine.answered_in_time / engine.played_seconds)
        for status, count in source.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return RequestCost(name, statistics.median(rates), statistics.median(cpu), (min(cpu), max(cpu)), statuses)


class GroupBuyShop:
    """The operator and the shoppers of a stack."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._session = session

    def token(self, user_id: str) -> bytes:
        """Return a shopper's token."""
        return shopper_token(self._stack.target.jwt_secret, user_id, clock.now())

    async def _ask(self, method: str, path: str, token: str, body: object = None) -> dict[str, str]:
        url = self._stack.target.base_url + path
        async with self._session.request(method, url, json=body, headers={"authorization": f"Bearer {token}"}) as told:
            answer: dict[str, str] = await told.json(content_type=None)
            assert told.ok, answer
            return answer

    async def campaign(self, team_size: int) -> str:
        """Publish a campaign."""
        opens_at = clock.now() - timedelta(minutes=1)
        draft = {
            "title": "Bench",
            "sku": "bench",
            "list_price_fen": 10_000,
            "price_fen": 5_000,
            "team_size": team_size,
            "units_total": 1_000_000,
            "opens_at": rfc3339(opens_at),
            "closes_at": rfc3339(opens_at + timedelta(days=2)),
        }
        key = self._stack.target.operator_key
        made = await self._ask("POST", "/admin/v1/group-buys", key, draft)
        await self._ask("POST", f"/admin/v1/group-buys/{made['group_buy_id']}/publish", key)
        return made["group_buy_id"]


async def open_teams(teams: Teams, group_buy_id: str, count: int, prefix: str) -> list[str]:
    """Open teams, all at once; returns their ids."""
    opened = await asyncio.gather(*[teams.open(group_buy_id, f"{prefix}{n}", "Bench", None) for n in range(count)])
    return [one.team.team_id for one in opened]


async def ceilings(stack: Stack, shop: GroupBuyShop, teams: Teams) -> list[RequestCost]:
    """Measure the requests of shoppers, each beside its bare server."""
    url, pid = stack.target.base_url, stack.target.pids["serve"]
    assert isinstance(pid, int)
    large = await open_teams(teams, await shop.campaign(TEAM_SIZE), TEAMS, "leader")
    (full,) = await open_teams(teams, await shop.campaign(2), 1, "first")
    await teams.join(full, "second", "Bench", None)
    tokens = [shop.token(f"joiner{n}") for n in range(SHOPPERS)]
    few = tokens[:1_000]

    def page(team_id: str) -> Iterator[bytes]:
        return cycle([request("GET", f"/v1/teams/{team_id}", token) for token in few])

    def seats(team_ids: Sequence[str], asked: Sequence[bytes]) -> Iterator[bytes]:
        for number, token in enumerate(asked):
            path = f"/v1/teams/{team_ids[number % len(team_ids)]}/seats"
            yield request("POST", path, token, b'{"nickname":"Bob"}', f"k{number}")

    claims = "/v1/flash-sales/00000000-0000-7000-8000-000000000000/claims"
    posts = [request("POST", claims, token, b'{"units":1}', "k") for token in few]
    # As in a crowd, everybody has been seen on the page before they ask for a seat.
    seen = cycle([request("GET", f"/v1/teams/{full}", token) for token in tokens])
    warm = Engine(ServiceEndpoint(url), CONNECTIONS, Requests(seen))
    await warm.open()
    await warm.play_closed(4 * PLAY_SECONDS)
    await warm.close()
    return [
        await cost("bare ASGI GET", stack.asgi.url, stack.asgi.pid, page(full)),
        await cost("team page", url, pid, page(full)),
        await cost("bare ASGI POST", stack.asgi.url, stack.asgi.pid, cycle(posts)),
        await cost("full team, refused", url, pid, cycle(seats([full], few))),
        await cost("bare Litestar POST", stack.litestar.url, stack.litestar.pid, cycle(posts)),
        await cost("seat", url, pid, seats(large, tokens)),
    ]


async def _seed(database: Database, group_buy_id: str, teams: int, expires_at: datetime) -> None:
    """Write forming teams of three with two paid seats and a held one, as if shoppers had made them."""
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL statement_timeout = 0")
        await tx.execute(
            """
            CREATE TEMPORARY TABLE seeded ON COMMIT DROP AS
            SELECT number, gen_random_uuid() AS team_id, gen_random_uuid() AS one, gen_random_uuid() AS two,
                gen_random_uuid() AS three
            FROM generate_series(1, $1::int) AS number
            """,
            teams,
        )
        await tx.execute(
            """
            INSERT INTO group_buy.teams (team_id, group_buy_id, leader_seat_id, team_size, complete_at_least,
                newcomers_at_least, seats_taken, seats_paid, newcomers_paid, veterans_taken, opened_at, expires_at,
                nudge_at)
            SELECT team_id, $1, one, 3, 3, 0, 3, 2, 2, 0, $2::timestamptz, $2, $2
            FROM pg_temp.seeded
            """,
            group_buy_id,
            expires_at,
        )
        await tx.execute(
            """
            INSERT INTO group_buy.seats (seat_id, team_id, group_buy_id, user_id, nickname, sku, price_fen, is_newcomer,
                state, held_at, held_until, order_id, line_id, paid_at, paid_fen)
            SELECT seat_id, team_id, $1, 'x' || number || place, 'B*', 'bench', 5000, TRUE,
                CASE place WHEN 'c' THEN 'held' ELSE 'paid' END, $2::timestamptz, $2,
                'o' || number || place, '1', CASE place WHEN 'c' THEN NULL ELSE $2::timestamptz END, 5000
            FROM pg_temp.seeded,
                LATERAL (VALUES (one, 'a'), (two, 'b'), (three, 'c')) AS seat (seat_id, place)
            """,
            group_buy_id,
            expires_at,
        )
        await tx.execute(
            """
            INSERT INTO group_buy.holdings (group_buy_id, user_id, seats)
            SELECT group_buy_id, user_id, 1
            FROM group_buy.seats
            WHERE group_buy_id = $1
            """,
            group_buy_id,
        )
        await tx.execute("UPDATE group_buy.campaigns SET taken = $2 WHERE group_buy_id = $1", group_buy_id, teams * 3)


async def expiry(stack: Stack, shop: GroupBuyShop, teams: Teams, count: int = EXPIRING_TEAMS) -> Expired:
    """Let `count` teams expire at one moment, of a campaign that goes on, and wait for the worker to end them all."""
    group_buy_id = await shop.campaign(3)
    database = await connect_postgres(
        stack.postgres_dsn, max_connections=WATCHING, acquire_seconds=WAIT_SECONDS, statement_seconds=SEED_SECONDS
    )
    expires_at = clock.now() + EXPIRING_IN
    await _seed(database, group_buy_id, count, expires_at)
    await asyncio.sleep(max(0.0, (expires_at - clock.now()).total_seconds()))
    watched = Processes(stack.target.pids)
    before, begin = watched.sample(), monotonic()
    latencies: list[float] = []
    done = asyncio.Event()
    joining = asyncio.create_task(_join_on(teams, group_buy_id, latencies, done))
    due = True
    while due and monotonic() - begin < MAX_EXPIRY_SECONDS:
        await asyncio.sleep(LOOK_SECONDS)
        due = await database.fetchval(
            "SELECT EXISTS (SELECT FROM group_buy.teams WHERE state = 'forming' AND expires_at <= $1)", expires_at
        )
    seconds, after = monotonic() - begin, watched.sample()
    done.set()
    await joining
    broken = await violations(database)
    assert not broken, broken
    latencies.sort()
    expired = Expired(
        teams=await database.fetchval(
            "SELECT count(*) FROM group_buy.teams WHERE group_buy_id = $1 AND state = 'failed'", group_buy_id
        ),
        seats=count * 3,
        seconds=seconds,
        cpu_seconds={name: after.seconds[name] - before.seconds[name] for name in after.seconds}
        | {"machine": after.busy_seconds - before.busy_seconds},
        refunds=await database.fetchval("SELECT count(*) FROM group_buy.refunds_required"),
        joins=len(latencies),
        join_p50_ms=1000 * latencies[len(latencies) // 2],
        join_p99_ms=1000 * latencies[len(latencies) * 99 // 100],
        join_max_ms=1000 * latencies[-1],
    )
    await database.close()
    return expired


async def _join_on(teams: Teams, group_buy_id: str, latencies: list[float], done: asyncio.Event) -> None:
    """Open teams at a steady rate until `done`; how long each took counts from when it was due."""

    async def one(number: int, due: float) -> None:
        try:
            await teams.open(group_buy_id, f"late{number}", "Bench", None)
        except Refusal as refusal:
            raise AssertionError(refusal.kind.code) from refusal
        latencies.append(monotonic() - due)

    begin, number = monotonic(), 0
    async with asyncio.TaskGroup() as asked:
        while not done.is_set():
            number += 1
            due = begin + number / JOINS_PER_SECOND
            await asyncio.sleep(max(0.0, due - monotonic()))
            asked.create_task(one(number, due))


def told(costs: Sequence[RequestCost], expired: Expired) -> str:
    """Say it to a person."""
    by_name = {one.name: one for one in costs}
    lines = [
        f"{one.name:20} {one.per_second:9,.0f}/s  {one.cpu_us:6.1f} µs CPU"
        f" ({one.spread_us[0]:.1f} to {one.spread_us[1]:.1f})  {one.statuses}"
        for one in costs
    ]
    for name, bare in (
        ("team page", "bare ASGI GET"),
        ("full team, refused", "bare ASGI POST"),
        ("seat", "bare Litestar POST"),
    ):
        if costs:
            lines.append(f"{name}: {by_name[bare].cpu_us / by_name[name].cpu_us:.2f} x {bare}")
    cpu = ", ".join(f"{name} {seconds:.1f}" for name, seconds in expired.cpu_seconds.items())
    lines.append(
        f"{expired.teams:,} teams with {expired.seats:,} seats ended in {expired.seconds:.1f} s,"
        f" {expired.refunds:,} refunds required; {expired.joins:,} seats taken meanwhile in the same campaign:"
        f" p50 {expired.join_p50_ms:.1f} ms, p99 {expired.join_p99_ms:.1f} ms, max {expired.join_max_ms:.1f} ms;"
        f" CPU seconds: {cpu}"
    )
    return "\n".join(lines)


async def measure() -> str:
    """Measure everything once."""
    async with running_stack() as stack, aiohttp.ClientSession() as session:
        stack.pin()
        database = await connect_postgres(
            stack.postgres_dsn, max_connections=JOINING, acquire_seconds=WAIT_SECONDS, statement_seconds=WAIT_SECONDS
        )
        shop, teams = GroupBuyShop(stack, session), Teams(database)
        costs = [] if "--expiry" in sys.argv else await ceilings(stack, shop, teams)
        # The api is idle now: the worker and the stores may have its core.
        Processes(stack.target.pids).pin(set(cores()))
        expired = await expiry(stack, shop, teams)
        await database.close()
    return told(costs, expired)


def main() -> None:
    """Print what was measured."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(runner.run(measure()) + "\n")


if __name__ == "__main__":
    main()
