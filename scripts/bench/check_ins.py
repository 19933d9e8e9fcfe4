"""What check-ins cost: taps, a month's page, both again among a crowd with years behind it, and a night."""

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import cycle
from time import monotonic

from msgspec import Struct

from growth.mechanics.checkin.streak.day_end.periodic import GRACE, Night
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.work.periodic import Held, Turn
from growth.vocabulary import clock
from scripts.bench.kit import Bench, Requests, bare_posts, cost, play, request, run, running_bench, say

ZONE = "Asia/Shanghai"
WARM_SECONDS = 12.0
SHOPPERS = 60_000
CROWD = 1_000_000
WITH_YEARS, YEARS_OF_DAYS = 2_000, 730
WITH_MONTHS, MONTHS_OF_DAYS = 100_000, 45
"""Of the crowd, who has so many days written; the rest have what follows from theirs. Of these, nine of ten have
checked in today when the night comes."""


class Walked(Struct, frozen=True):
    """One night among a crowd."""

    shoppers: int
    turns: int
    seconds: float
    slowest_ms: float
    broken: int

    def told(self) -> str:
        """Say it in a sentence."""
        return (
            f"a night: {self.shoppers:,} shoppers in {self.turns} transactions, {self.seconds:.1f} s in all, the"
            f" slowest {self.slowest_ms:.0f} ms; {self.broken:,} streaks broken, each told once"
        )


def program(today: date) -> dict[str, object]:
    """Return a program: a point a day, ten on the seventh, two milestones."""
    points = [{"type": "points", "points": 1}]
    return {
        "title": "Bench",
        "from_day": today.isoformat(),
        "rewards": [*[points] * 6, [{"type": "points", "points": 10}]],
        "milestones": [{"days": days, "rewards": points} for days in (7, 30)],
    }


def taps(tokens: Sequence[bytes]) -> Iterator[bytes]:
    """Each checks in."""
    return (request("POST", "/v1/check-ins", token, b"{}") for token in tokens)


async def requests(bench: Bench, tokens: Sequence[bytes], label: str) -> None:
    """Measure shoppers' requests, beside the bare server."""
    few, serve = tokens[:1_000], bench.stack.serve
    months = cycle([request("GET", "/v1/check-ins", token) for token in few])
    bare = await cost("bare Litestar POST", bench.stack.litestar, bare_posts(few))
    await cost(f"check-in{label}", serve, taps(tokens), beside=bare)
    await cost(f"again that day{label}", serve, cycle(taps(tokens)), beside=bare)
    await cost(f"month{label}", serve, months, beside=bare)


async def crowd(bench: Bench, today: date, program_id: str) -> None:
    """Write a crowd: all with a streak up to yesterday, some with all of their days."""
    begin = monotonic()
    first, yesterday = today - timedelta(days=YEARS_OF_DAYS), today - timedelta(days=1)
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
    say(
        f"{CROWD:,} shoppers with streaks of {YEARS_OF_DAYS} days, of whom {WITH_MONTHS:,} have their last"
        f" {MONTHS_OF_DAYS} days written, and {WITH_YEARS:,} all of them: written in {monotonic() - begin:.0f} s"
    )


async def night(bench: Bench, almanacs: Almanacs, today: date) -> Walked:
    """Let today be over, and walk over the crowd: all but those who tapped have missed it."""
    tomorrow = almanacs.zone.begins_at(today + timedelta(days=1)) + GRACE
    async with bench.database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO checkin.walks (walk, day) VALUES ('night', $1)
            ON CONFLICT (walk) DO UPDATE SET day = excluded.day, after_user_id = ''
            """,
            today,
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


async def measure(*, only_taps: bool) -> None:
    """Measure everything once, and print it."""
    async with running_bench() as bench:
        almanacs = Almanacs(ZONE)
        today = almanacs.zone.day(clock.now())
        fresh, old = bench.tokens("fresh", SHOPPERS), bench.tokens("crowd", SHOPPERS)
        # As in a crowd, everybody has been seen before they tap. Here they are refused; there is no program yet.
        await play(bench.stack.serve.url, Requests(cycle(taps([*fresh, *old]))), WARM_SECONDS)
        program_id = await bench.publish("check-in-programs", "program_id", program(today))
        await requests(bench, fresh, "")
        if not only_taps:
            await crowd(bench, today, program_id)
            await requests(bench, old, ", years behind")
            bench.spread_out()
            say((await night(bench, almanacs, today)).told())
        await bench.holds("checkin")


def main() -> None:
    """Print what was measured."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--taps", action="store_true", help="leave the crowd and the night out")
    run(measure(only_taps=parser.parse_args().taps))
