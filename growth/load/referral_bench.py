"""What referrals cost on this machine: a binding, the shopper's page, and a leaderboard of a million inviters.

`python -m growth.load.referral_bench` starts servers of its own and prints what was measured, beside bare servers on
the same core.
"""

import asyncio
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import cycle
from time import monotonic

import aiohttp
import uvloop
from msgspec import Struct

from growth.load.bench_stack import Stack, running_stack
from growth.load.engine import Engine
from growth.load.group_buy_bench import RequestCost, Requests, cost, request
from growth.load.tokens import shopper_token
from growth.load.wire import ServiceEndpoint
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.invariants import violations
from growth.vocabulary import clock

SHOPPERS = 40_000
INVITERS = 200
LEADERS = 1_000_000
LOOKS = 30
"""Fewer than one shopper may ask at once."""
CONNECTIONS = 128
WARM_SECONDS = 8.0
SEEDING, WAIT_SECONDS, SEED_SECONDS = 2, 30.0, 300.0

PROGRAM = {
    "title": "Bench",
    "description": "Bench",
    "level_1": {"type": "percent", "basis_points": 1000},
    "inviter_rewards": [{"type": "points", "points": 10}],
}


class LeaderboardCost(Struct, frozen=True):
    """How long a leaderboard takes, from request to answer."""

    inviters: int
    first_p50_ms: float
    """Of a shopper who leads."""
    middle_p50_ms: float
    """Of one beyond the places that are told."""


class ReferralShop:
    """The operator and the shoppers of a stack."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._session = session

    def token(self, user_id: str) -> bytes:
        """Return a shopper's token."""
        return shopper_token(self._stack.target.jwt_secret, user_id, clock.now())

    async def ask(self, method: str, path: str, token: str, body: object = None) -> dict[str, str]:
        """Ask the service; the answer must be good."""
        url = self._stack.target.base_url + path
        async with self._session.request(method, url, json=body, headers={"authorization": f"Bearer {token}"}) as told:
            answer: dict[str, str] = await told.json(content_type=None)
            assert told.ok, answer
            return answer

    async def publish(self) -> None:
        """Let a program go live."""
        key = self._stack.target.operator_key
        made = await self.ask("POST", "/admin/v1/referral-programs", key, PROGRAM)
        path = f"/admin/v1/referral-programs/{made['program_id']}/publish?accept_warnings=true"
        await self.ask("POST", path, key)

    async def codes(self, count: int) -> list[str]:
        """Return the codes of some inviters."""
        pages = [await self.ask("GET", "/v1/referral", self.token(f"inviter{n}").decode()) for n in range(count)]
        return [page["code"] for page in pages]


def bindings(codes: Sequence[str], tokens: Sequence[bytes]) -> Iterator[bytes]:
    """Each shopper is bound to one of the inviters."""
    for number, token in enumerate(tokens):
        body = f'{{"code":"{codes[number % len(codes)]}","nickname":"Bob"}}'
        yield request("PUT", "/v1/referral/inviter", token, body.encode())


async def ceilings(stack: Stack, shop: ReferralShop) -> list[RequestCost]:
    """Measure the requests of shoppers, each beside its bare server."""
    url, pid = stack.target.base_url, stack.target.pids["serve"]
    assert isinstance(pid, int)
    await shop.publish()
    codes = await shop.codes(INVITERS)
    tokens = [shop.token(f"invitee{n}") for n in range(SHOPPERS)]
    inviters = [shop.token(f"inviter{n}") for n in range(INVITERS)]
    # As in life, everybody has been seen before they are bound.
    warm = Engine(
        ServiceEndpoint(url),
        CONNECTIONS,
        Requests(cycle([request("GET", "/v1/group-buys", token) for token in tokens])),
    )
    await warm.open()
    await warm.play_closed(WARM_SECONDS)
    await warm.close()
    claims = "/v1/flash-sales/00000000-0000-7000-8000-000000000000/claims"
    posts = [request("POST", claims, token, b'{"units":1}', "k") for token in tokens[:1_000]]
    pages = [request("GET", "/v1/referral", token) for token in inviters]
    return [
        await cost("bare Litestar POST", stack.litestar.url, stack.litestar.pid, cycle(posts)),
        await cost("binding", url, pid, bindings(codes, tokens)),
        await cost("my page", url, pid, cycle(pages)),
    ]


async def _seed(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO referral.inviter_months (inviter_id, month, people, money_fen)
            SELECT 'leader' || number, date_trunc('month', now() AT TIME ZONE 'Asia/Shanghai')::date, number, number
            FROM generate_series(1, $1::int) AS number
            """,
            LEADERS,
        )
        await tx.execute("ANALYZE referral.inviter_months")


async def board(stack: Stack, shop: ReferralShop) -> LeaderboardCost:
    """Measure a leaderboard of a million."""
    database = await connect_postgres(
        stack.postgres_dsn, max_connections=SEEDING, acquire_seconds=WAIT_SECONDS, statement_seconds=SEED_SECONDS
    )
    broken = await violations(database)
    assert not broken, broken
    await _seed(database)
    await database.close()

    async def p50_ms(user_id: str) -> float:
        token, times = shop.token(user_id).decode(), []
        for _ in range(LOOKS):
            begin = monotonic()
            await shop.ask("GET", "/v1/referral/leaderboard?limit=100", token)
            times.append(1000 * (monotonic() - begin))
        return statistics.median(times)

    return LeaderboardCost(LEADERS, await p50_ms(f"leader{LEADERS}"), await p50_ms(f"leader{LEADERS // 2}"))


def told(costs: Sequence[RequestCost], found: LeaderboardCost) -> str:
    """Say it to a person."""
    by_name = {one.name: one for one in costs}
    lines = [
        f"{one.name:20} {one.per_second:9,.0f}/s  {one.cpu_us:6.1f} µs CPU"
        f" ({one.spread_us[0]:.1f} to {one.spread_us[1]:.1f})  {one.statuses}"
        for one in costs
    ]
    ratio = by_name["bare Litestar POST"].cpu_us / by_name["binding"].cpu_us
    lines.append(f"binding: {ratio:.2f} x bare Litestar POST")
    lines.append(
        f"leaderboard of {found.inviters:,} inviters: {found.first_p50_ms:.1f} ms for who leads,"
        f" {found.middle_p50_ms:.1f} ms for who is in the middle"
    )
    return "\n".join(lines)


async def measure() -> str:
    """Measure everything once."""
    async with running_stack() as stack, aiohttp.ClientSession() as session:
        stack.pin()
        shop = ReferralShop(stack, session)
        costs = await ceilings(stack, shop)
        return told(costs, await board(stack, shop))


def main() -> None:
    """Print what was measured."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(runner.run(measure()) + "\n")


if __name__ == "__main__":
    main()
