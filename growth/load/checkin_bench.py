"""What check-ins cost on this machine: taps, a month's page, both again among a crowd with years behind it, a night.

`python -m growth.load.checkin_bench [--taps]` starts servers of its own and prints what was measured, beside a bare
server on the same core; `--taps` leaves the crowd and the night out.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import cycle
from time import monotonic

import aiohttp
import uvloop
from msgspec import Struct

from growth.load.bench_stack import Stack, running_stack
from growth.load.engine import Engine
from growth.load.group_buy_bench import RequestCost, Requests, cost, request
from growth.load.processes import Processes, cores
from growth.load.tokens import shopper_token
from growth.load.wire import ServiceEndpoint
from growth.mechanics.checkin.streak.day_end.periodic import GRACE, Night
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.invariants import violations
from growth.plumbing.work.periodic import Held, Turn
from growth.vocabulary import clock

ZONE = "Asia/Shanghai"
CONNECTIONS = 128
WARM_SECONDS = 12.0
SHOPPERS = 60_000
CROWD = 1_000_000
WITH_YEARS, YEARS_OF_DAYS = 2_000, 730
WITH_MONTHS, MONTHS_OF_DAYS = 100_000, 45
"""Of the crowd, who has so many days written; the rest have what follows from theirs. Of these, nine of ten have
checked in today when the night comes."""
WAIT_SECONDS = 30.0
SEED_SECONDS = 900.0
POOL = 4


class Walked(Struct, frozen=True):
    """One night among a crowd."""

    shoppers: int
    turns: int
    seconds: float
    slowest_ms: float
    broken: int


class CheckinBench:
    """The operator and the shoppers of a stack."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession, database: Database) -> None:
        self.stack = stack
        self.database = database
        self._session = session
        self.today = Almanacs(ZONE).zone.day(clock.now())

    def tokens(self, prefix: str, count: int) -> list[bytes]:
        """Return tokens of shoppers."""
        now = clock.now()
        return [shopper_token(self.stack.target.jwt_secret, f"{prefix}{number}", now) for number in range(count)]

    async def program(self) -> str:
        """Publish a program: a point a day, ten on the seventh, two milestones."""
        points = [{"type": "points", "points": 1}]
        draft = {
            "title": "Bench",
            "from_day": self.today.isoformat(),
            "rewards": [*[points] * 6, [{"type": "points", "points": 10}]],
            "milestones": [{"days": days, "rewards": points} for days in (7, 30)],
        }
        made = await self._ask("/admin/v1/check-in-programs", draft)
        await self._ask(f"/admin/v1/check-in-programs/{made['program_id']}/publish", None)
        return made["program_id"]

    async def _ask(self, path: str, body: object) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self.stack.target.operator_key}"}
        url = self.stack.target.base_url + path
        async with self._session.post(url, json=body, headers=headers) as told:
            answer: dict[str, str] = await told.json(content_type=None)
            assert told.ok, answer
            return answer


async def warm(url: str, tokens: Sequence[bytes]) -> None:
    """As in a crowd: everybody has been seen before they tap. Here they are refused; there is no program yet."""
    seen = cycle([request("POST", "/v1/check-ins", token, b"{}") for token in tokens])
    engine = Engine(ServiceEndpoint(url), CONNECTIONS, Requests(seen))
    await engine.open()
    await engine.play_closed(WARM_SECONDS)
    await engine.close()


async def taps(bench: CheckinBench, tokens: Sequence[bytes], label: str) -> list[RequestCost]:
    """Measure shoppers' requests, beside the bare server."""
    stack = bench.stack
    url, pid = stack.target.base_url, stack.target.pids["serve"]
    assert isinstance(pid, int)
    few = tokens[:1_000]
    claims = "/v1/flash-sales/00000000-0000-7000-8000-000000000000/claims"
    posts = cycle([request("POST", claims, token, b'{"units":1}', "k") for token in few])

    def fresh() -> Iterator[bytes]:
        return (request("POST", "/v1/check-ins", token, b"{}") for token in tokens)

    bare = await cost("bare Litestar POST", stack.litestar.url, stack.litestar.pid, posts)
    first = await cost(f"check-in{label}", url, pid, fresh())
    again = await cost(f"again that day{label}", url, pid, cycle(fresh()))
    month = await cost(f"month{label}", url, pid, cycle([request("GET", "/v1/check-ins", token) for token in few]))
    return [bare, first, again, month]


async def crowd(bench: CheckinBench, program_id: str) -> float:
    """Write a crowd: all with a streak up to yesterday, some with all of their days; return the seconds it took."""
    begin = monotonic()
    first, yesterday = bench.today - timedelta(days=YEARS_OF_DAYS), bench.today - timedelta(days=1)
    async with bench.database.transaction() as tx:
        await tx.execute("SET LOCAL statement_timeout = 0")
        await tx.execute("SELECT checkin.make_months($1, $2)", first, YEARS_OF_DAYS // 30 + 2)
        await tx.execute(
            "UPDATE checkin.programs SET from_day = $2, closures = '[]' WHERE program_id = $1", program_id, first
        )
        await tx.execute(
            """
            INSERT INTO checkin.states (user_id, last_day, last_counted, program_id, streak, run, position, longest,
                best, total)
            SELECT 'crowd' || number, seen.day, seen.day, $1::uuid, $4::int, $4, 3, $4, $4, $4
            FROM generate_series(0, $3::int - 1) AS number
            CROSS JOIN LATERAL (
                SELECT $2::date + CASE WHEN number >= $5 AND number % 10 > 0 THEN 1 ELSE 0 END AS day
            ) AS seen
            """,
            program_id,
            yesterday,
            CROWD,
            YEARS_OF_DAYS,
            WITH_MONTHS,
        )
        await tx.execute(
            """
            INSERT INTO checkin.days (user_id, day, terms_id, streak, position, paid, kind)
            SELECT 'crowd' || number, $1::date + offset_days, program.terms_id, offset_days + 1, 3, 3, 1
            FROM generate_series(0, $2::int - 1) AS number
            CROSS JOIN LATERAL generate_series(CASE WHEN number < $5::int THEN 0 ELSE $3::int - $6::int END, $3 - 1)
                AS offset_days
            CROSS JOIN (SELECT terms_id FROM checkin.programs WHERE program_id = $4) AS program
            """,
            first,
            WITH_MONTHS,
            YEARS_OF_DAYS,
            program_id,
            WITH_YEARS,
            MONTHS_OF_DAYS,
        )
        # Any change that processes notice: what they remember of the program is of before.
        await tx.execute("UPDATE checkin.programs SET version = version + 1 WHERE program_id = $1", program_id)
    return monotonic() - begin


async def night(bench: CheckinBench) -> Walked:
    """Let today be over, and walk over the crowd: all but those who tapped have missed it."""
    almanacs = Almanacs(ZONE)
    tomorrow = almanacs.zone.begins_at(bench.today + timedelta(days=1)) + GRACE
    async with bench.database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO checkin.walks (walk, day) VALUES ('night', $1)
            ON CONFLICT (walk) DO UPDATE SET day = excluded.day, after_user_id = ''
            """,
            bench.today,
        )
        fence = await tx.fetchval(
            "INSERT INTO plumbing.leases (name, holder, fence, expires_at) VALUES ('bench', $1, 1, 'infinity')"
            " RETURNING fence",
            "00000000-0000-0000-0000-000000000001",
        )
    turn = Turn(bench.database, "bench", Held("00000000-0000-0000-0000-000000000001", fence, tomorrow))
    walk, slowest, turns, begin = Night(almanacs), 0.0, 0, monotonic()
    while True:
        started = monotonic()
        if not await walk.end_days(turn):
            break
        turns, slowest = turns + 1, max(slowest, monotonic() - started)
    return Walked(
        shoppers=await bench.database.fetchval("SELECT count(*) FROM checkin.states"),
        turns=turns,
        seconds=monotonic() - begin,
        slowest_ms=slowest * 1000,
        broken=await bench.database.fetchval(
            "SELECT count(*) FROM plumbing.outbox WHERE type = 'checkin.streak_broken'"
        ),
    )


def told(costs: Sequence[RequestCost], seeded: float | None, walked: Walked | None) -> str:
    """Say it to a person."""
    lines = [
        f"{one.name:34} {one.per_second:9,.0f}/s  {one.cpu_us:6.1f} µs CPU"
        f" ({one.spread_us[0]:.1f} to {one.spread_us[1]:.1f})  {one.statuses}"
        for one in costs
    ]
    bare = costs[0]
    lines += [f"{one.name}: {bare.cpu_us / one.cpu_us:.2f} x {bare.name}" for one in costs if one.name != bare.name]
    if walked is not None:
        lines.append(
            f"{CROWD:,} shoppers with streaks of {YEARS_OF_DAYS} days, of whom {WITH_MONTHS:,} have their last"
            f" {MONTHS_OF_DAYS} days written, and {WITH_YEARS:,} all of them: written in {seeded:.0f} s"
        )
        lines.append(
            f"a night: {walked.shoppers:,} shoppers in {walked.turns} transactions, {walked.seconds:.1f} s in all, the"
            f" slowest {walked.slowest_ms:.0f} ms; {walked.broken:,} streaks broken, each told once"
        )
    return "\n".join(lines)


async def measure() -> str:
    """Measure everything once."""
    async with running_stack() as stack, aiohttp.ClientSession() as session:
        stack.pin()
        database = await connect_postgres(
            stack.postgres_dsn, max_connections=POOL, acquire_seconds=WAIT_SECONDS, statement_seconds=SEED_SECONDS
        )
        bench = CheckinBench(stack, session, database)
        fresh, old = bench.tokens("fresh", SHOPPERS), bench.tokens("crowd", SHOPPERS)
        await warm(stack.target.base_url, [*fresh, *old])
        program_id = await bench.program()
        costs = await taps(bench, fresh, "")
        seeded, walked = None, None
        if "--taps" not in sys.argv:
            seeded = await crowd(bench, program_id)
            costs += (await taps(bench, old, ", years behind"))[1:]
            Processes(stack.target.pids).pin(set(cores()))
            walked = await night(bench)
        broken = [one for one in await violations(database) if one.room == "checkin"]
        assert not broken, broken
        await database.close()
    return told(costs, seeded, walked)


def main() -> None:
    """Print what was measured."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(runner.run(measure()) + "\n")


if __name__ == "__main__":
    main()
