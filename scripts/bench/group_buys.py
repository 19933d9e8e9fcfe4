"""What group buys cost: seats, team pages, a crowd at a full team, and 100,000 teams expiring at once."""

import asyncio
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from time import monotonic

from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.load.processes import Processes
from growth.mechanics.group_buy.team.service import Teams
from growth.plumbing.postgres.database import Database
from growth.vocabulary import clock
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.refusals import Refusal
from scripts.bench.kit import Bench, Requests, bare_posts, cost, play, request, run, running_bench, say

SHOPPERS = 40_000
TEAMS = 800
TEAM_SIZE = 100
EXPIRING_TEAMS = 100_000
EXPIRING_IN = timedelta(seconds=20)
JOINS_PER_SECOND = 100
MAX_EXPIRY_SECONDS = 120
LOOK_SECONDS = 0.25
WARM_SECONDS = 8.0


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

    def told(self) -> str:
        """Say it in a sentence."""
        cpu = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.cpu_seconds.items())
        return (
            f"{self.teams:,} teams with {self.seats:,} seats ended in {self.seconds:.1f} s,"
            f" {self.refunds:,} refunds required; {self.joins:,} seats taken meanwhile in the same campaign:"
            f" p50 {self.join_p50_ms:.1f} ms, p99 {self.join_p99_ms:.1f} ms, max {self.join_max_ms:.1f} ms;"
            f" CPU seconds: {cpu}"
        )


async def campaign(bench: Bench, team_size: int) -> str:
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
    return await bench.publish("group-buys", "group_buy_id", draft)


async def open_teams(teams: Teams, group_buy_id: str, count: int, prefix: str) -> list[str]:
    """Open teams, all at once; returns their ids."""
    opened = await asyncio.gather(*[teams.open(group_buy_id, f"{prefix}{n}", "Bench", None) for n in range(count)])
    return [one.team.team_id for one in opened]


async def requests(bench: Bench, teams: Teams) -> None:
    """Measure the requests of shoppers, each beside its bare server."""
    stack = bench.stack
    large = await open_teams(teams, await campaign(bench, TEAM_SIZE), TEAMS, "leader")
    (full,) = await open_teams(teams, await campaign(bench, 2), 1, "first")
    await teams.join(full, "second", "Bench", None)
    tokens = bench.tokens("joiner", SHOPPERS)
    few = tokens[:1_000]

    def pages(asked: Sequence[bytes]) -> Iterator[bytes]:
        return cycle([request("GET", f"/v1/teams/{full}", token) for token in asked])

    def seats(team_ids: Sequence[str], asked: Sequence[bytes]) -> Iterator[bytes]:
        for number, token in enumerate(asked):
            path = f"/v1/teams/{team_ids[number % len(team_ids)]}/seats"
            yield request("POST", path, token, b'{"nickname":"Bob"}', f"k{number}")

    # As in a crowd, everybody has been seen on the page before they ask for a seat.
    await play(stack.serve.url, Requests(pages(tokens)), WARM_SECONDS)
    bare = await cost("bare ASGI GET", stack.asgi, pages(few))
    await cost("team page", stack.serve, pages(few), beside=bare)
    bare = await cost("bare ASGI POST", stack.asgi, bare_posts(few))
    await cost("full team, refused", stack.serve, cycle(seats([full], few)), beside=bare)
    bare = await cost("bare Litestar POST", stack.litestar, bare_posts(few))
    await cost("seat", stack.serve, seats(large, tokens), beside=bare)


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


async def expiry(bench: Bench, teams: Teams, count: int = EXPIRING_TEAMS) -> Expired:
    """Let `count` teams expire at one moment, of a campaign that goes on, and wait for the worker to end them all."""
    group_buy_id, database = await campaign(bench, 3), bench.database
    expires_at = clock.now() + EXPIRING_IN
    await _seed(database, group_buy_id, count, expires_at)
    await asyncio.sleep(max(0.0, (expires_at - clock.now()).total_seconds()))
    watched = Processes(bench.stack.target.pids)
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
    await bench.holds()
    latencies.sort()
    return Expired(
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


async def measure(*, only_expiry: bool) -> None:
    """Measure everything once, and print it."""
    async with running_bench() as bench:
        teams = Teams(bench.database, Audiences())
        if not only_expiry:
            await requests(bench, teams)
        bench.spread_out()
        say((await expiry(bench, teams)).told())


def main() -> None:
    """Print what was measured."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--expiry", action="store_true", help="leave the rest out")
    run(measure(only_expiry=parser.parse_args().expiry))
