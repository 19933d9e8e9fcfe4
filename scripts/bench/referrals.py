"""What referrals cost: bindings, an inviter's page, and a leaderboard of a million inviters."""

import statistics
from collections.abc import Iterator, Sequence
from itertools import cycle
from time import monotonic

from growth.plumbing.postgres.database import Database
from scripts.bench.kit import Bench, Requests, bare_posts, cost, play, request, run, running_bench, say

SHOPPERS = 40_000
INVITERS = 200
LEADERS = 1_000_000
LOOKS = 30
"""Fewer than one shopper may ask at once."""
WARM_SECONDS = 8.0

PROGRAM = {
    "title": "Bench",
    "description": "Bench",
    "level_1": {"type": "percent", "basis_points": 1000},
    "inviter_rewards": [{"type": "points", "points": 10}],
}


def bindings(codes: Sequence[str], tokens: Sequence[bytes]) -> Iterator[bytes]:
    """Each shopper is bound to one of the inviters."""
    for number, token in enumerate(tokens):
        body = f'{{"code":"{codes[number % len(codes)]}","nickname":"Bob"}}'
        yield request("PUT", "/v1/referral/inviter", token, body.encode())


async def requests(bench: Bench) -> None:
    """Measure the requests of shoppers, each beside its bare server."""
    await bench.publish("referral-programs", "program_id", PROGRAM, "?accept_warnings=true")
    inviters, tokens = bench.tokens("inviter", INVITERS), bench.tokens("invitee", SHOPPERS)
    codes = [(await bench.ask("GET", "/v1/referral", token.decode()))["code"] for token in inviters]
    serve = bench.stack.serve
    # As in life, everybody has been seen before they are bound.
    seen = cycle([request("GET", "/v1/group-buys", token) for token in tokens])
    await play(serve.url, Requests(seen), WARM_SECONDS)
    pages = cycle([request("GET", "/v1/referral", token) for token in inviters])
    bare = await cost("bare Litestar POST", bench.stack.litestar, bare_posts(tokens[:1_000]))
    await cost("binding", serve, bindings(codes, tokens), beside=bare)
    await cost("my page", serve, pages, beside=bare)


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


async def leaderboard(bench: Bench) -> None:
    """Measure a leaderboard of a million."""
    await bench.holds()
    await _seed(bench.database)

    async def p50_ms(number: int) -> float:
        token, times = bench.token(f"leader{number}").decode(), []
        for _ in range(LOOKS):
            begin = monotonic()
            await bench.ask("GET", "/v1/referral/leaderboard?limit=100", token)
            times.append(1000 * (monotonic() - begin))
        return statistics.median(times)

    first, middle = await p50_ms(LEADERS), await p50_ms(LEADERS // 2)
    say(f"leaderboard of {LEADERS:,} inviters: {first:.1f} ms for who leads, {middle:.1f} ms for who is in the middle")


async def measure() -> None:
    """Measure everything once, and print it."""
    async with running_bench() as bench:
        await requests(bench)
        await leaderboard(bench)


def main() -> None:
    """Print what was measured."""
    run(measure())
