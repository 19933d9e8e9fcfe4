"""What retention costs: counting what is seen, and answering: with ten thousand active days, and with ten million.

Shops are made up by `growth.demo.shop_year`. For the questions their facts are copied in and counted by one statement
each, which the invariants check; for the projection everything goes the way that a worker takes it.
"""

import statistics
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, process_time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from growth.demo.shop_year import YearPlan, lives, sightings
from growth.embedded import EmbeddedServers
from growth.listeners.retention import model
from growth.listeners.retention.model import KINDS, MAX_GAP_DAYS, News
from growth.listeners.retention.report.service import Question, Reports
from growth.listeners.retention.service import MAX_ACTIVITIES_AT_ONCE, RetentionProjection
from growth.listeners.retention.sighting import Sighting
from growth.plumbing.outbox.outbox import Subscription, deliver
from growth.plumbing.postgres.database import Database
from growth.plumbing.postgres.migrate import migrate_up
from growth.shopper.activity.model import LOG, LogEntry
from growth.shopper.activity.store import write
from scripts.bench.kit import connected, holds, run, say

ZONE = "Asia/Shanghai"
LAST_DAY = date(2026, 11, 21)
NOW = datetime.combine(LAST_DAY + timedelta(days=1), time(4), UTC)
DAYS = 365
SMALL, LARGE = 1_200, 1_200_000
"""Shoppers with about ten thousand and ten million active days between them."""
ROUNDS = 3
ASKED = 30
"""Times each question is asked, in each round."""
SEEN = 120_000
"""Things seen in each round of the projection."""
PROJECTING_SHOPPERS = 24_000
WRITTEN_AT_ONCE = 5_000
PASSED_TYPES = {"app": "app.opened", "product": "product.viewed"}


# --- the projection -------------------------------------------------------------------------------------------------


async def project(database: Database, seen: Iterator[Sighting], name: str) -> None:
    """Count what was seen, in batches as a worker reads them, and print how fast that was."""
    projection = RetentionProjection(ZONE)
    rates, costs = [], []
    for _ in range(ROUNDS):
        told = list(islice(seen, SEEN))
        begin, cpu = monotonic(), process_time()
        for start in range(0, len(told), MAX_ACTIVITIES_AT_ONCE):
            async with database.transaction() as tx:
                await projection.see(tx, told[start : start + MAX_ACTIVITIES_AT_ONCE])
        rates.append(len(told) / (monotonic() - begin))
        costs.append(1e6 * (process_time() - cpu) / len(told))
    say(f"{name}: {_spread(rates)} sightings/s, {statistics.median(costs):.1f} µs of CPU each in the worker")


async def project_log(database: Database, seen: Iterator[Sighting]) -> None:
    """The same from the log of activities, with all that reading it takes."""
    projection = RetentionProjection(ZONE)
    listener = Subscription("retention.activities", None, projection.follow, LOG, max_events=MAX_ACTIVITIES_AT_ONCE)
    rates = []
    for number in range(ROUNDS):
        told = list(islice(seen, SEEN))
        for start in range(0, len(told), WRITTEN_AT_ONCE):
            await write(database, [_entry(number, start, one) for one in told[start : start + WRITTEN_AT_ONCE]])
        begin, passed = monotonic(), 0
        while count := await deliver(database, listener):
            passed += count
        rates.append(passed / (monotonic() - begin))
    say(f"from the log of activities, reading it included: {_spread(rates)} events/s")


def _entry(number: int, start: int, one: Sighting) -> LogEntry:
    kind = KINDS[one.kind]
    # A name of its own for each: what counts here is how fast new ones are counted.
    name = f"{number}.{start}.{id(one):x}"
    return LogEntry(name, PASSED_TYPES.get(kind, f"demo.{kind}"), one.user_id, one.at, {})


def regulars(shoppers: int, seed: int) -> Iterator[Sighting]:
    """Yield what any of very many known shoppers do on the days after: three things a visit."""
    dice, day = Random(seed), 0
    while True:
        day += 1
        midnight = datetime.combine(LAST_DAY + timedelta(days=day), time(), ZoneInfo(ZONE)).astimezone(UTC)
        visits = [
            (dice.randrange(86_000), f"demo-{dice.randrange(shoppers):07d}") for _ in range(max(10, shoppers // 40))
        ]
        acts = [(second + later, user_id) for second, user_id in visits for later in (0, 20, 50)]
        for second, user_id in sorted(acts):
            yield Sighting(user_id=user_id, at=midnight + timedelta(seconds=second), kind=KINDS.index("app"))


# --- questions ------------------------------------------------------------------------------------------------------


async def seed(database: Database, shoppers: int) -> int:
    """Copy the facts of a made-up shop in, and count them; returns how many active days there are."""
    plan = YearPlan(shoppers=shoppers, days=DAYS, last_day=LAST_DAY, zone=ZoneInfo(ZONE))
    names = ["", "other", "wechat", "friend", "search", "poster", "campaign"]
    opening = model.from_date(plan.first_day)
    days: list[tuple[int, date, int]] = []
    rows: list[tuple[Any, ...]] = []
    count = 0
    async with database.pool.acquire() as connection:

        async def copy() -> None:
            await connection.copy_records_to_table("shoppers", schema_name="retention", records=rows)
            await connection.copy_records_to_table("active_days", schema_name="retention", records=days)
            rows.clear()
            days.clear()

        await connection.execute("INSERT INTO retention.zone (name) VALUES ($1)", ZONE)
        await connection.executemany(
            "INSERT INTO retention.sources (source, name) VALUES ($1, $2)", list(enumerate(names))[2:]
        )
        for life in lives(plan):
            number = life.number + 1
            rows.append(_row(number, life.user_id, names.index(life.source), life.inviter, opening, life.days))
            days.extend((number, model.to_date(opening + day), kinds) for day, kinds in life.days)
            count += len(life.days)
            if len(rows) >= WRITTEN_AT_ONCE:
                await copy()
        await copy()
    await _count(database)
    return count


def _row(
    number: int, user_id: str, source: int, inviter: str | None, opening: int, days: Sequence[tuple[int, int]]
) -> tuple[Any, ...]:
    first = datetime.combine(model.to_date(opening + days[0][0]), time(4), UTC)
    met = next(
        (
            (first + timedelta(days=day - days[0][0]), model.mechanic_of(bit))
            for day, kinds in days
            for bit in range(len(KINDS))
            if kinds >> bit & 1 and model.mechanic_of(bit)
        ),
        None,
    )
    news = News(
        days={opening + day: kinds for day, kinds in days},
        registered=(first, source),
        met=met,
        bound=(first, inviter) if inviter else None,
        viewed_at=first,
    )
    shopper = model.told(None, news, number, user_id, ZoneInfo(ZONE)).shopper
    values = msgspec.structs.asdict(shopper)
    values["first_day"], values["last_day"] = model.to_date(shopper.first_day), model.to_date(shopper.last_day)
    return tuple(values.values())


async def _count(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            """
            UPDATE retention.sources AS known
            SET shoppers = (SELECT count(*) FROM retention.shoppers AS shopper WHERE shopper.source = known.source)
            """
        )
        await tx.execute("SET LOCAL work_mem = '256MB'")
        await tx.execute(
            """
            INSERT INTO retention.cells (segment, n, cohort_day, active, returned)
            SELECT member.segment, active.day - shopper.first_day, shopper.first_day, count(*),
                   count(*) FILTER (WHERE active.day < shopper.last_day)
            FROM retention.shoppers AS shopper
            JOIN retention.active_days AS active USING (shopper_id)
            CROSS JOIN LATERAL unnest(shopper.segments) AS member (segment)
            GROUP BY member.segment, active.day - shopper.first_day, shopper.first_day
            -- As they would have come to be.
            ORDER BY shopper.first_day + (active.day - shopper.first_day), shopper.first_day
            """
        )
        await tx.execute(
            """
            INSERT INTO retention.returns (day, gap, shoppers)
            SELECT day, least(coalesce(day - before, $1::integer), $1), count(*)
            FROM (
                SELECT day, lag(day) OVER (PARTITION BY shopper_id ORDER BY day) AS before
                FROM retention.active_days
            ) AS seen
            GROUP BY 1, 2
            """,
            MAX_GAP_DAYS,
        )
        await tx.execute(
            """
            INSERT INTO retention.funnel_steps (funnel, step, start_day, after_days, shoppers)
            SELECT 0, 0, (viewed_at AT TIME ZONE 'Asia/Shanghai')::date, 0, count(*)
            FROM retention.shoppers
            GROUP BY 3
            UNION ALL
            SELECT 1, step, (invited_at AT TIME ZONE 'Asia/Shanghai')::date, 0, count(*)
            FROM retention.shoppers
            CROSS JOIN generate_series(0, 1) AS step
            WHERE bound_at IS NOT NULL
            GROUP BY step, 3
            """
        )
        await tx.execute(
            "SELECT setval('retention.shoppers_shopper_id_seq', (SELECT max(shopper_id) FROM retention.shoppers))"
        )
    for table in ("shoppers", "active_days", "cells", "returns", "funnel_steps"):
        async with database.pool.acquire() as connection:
            await connection.execute(f"VACUUM ANALYZE retention.{table}")


def questions(reports: Reports) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what an operator asks."""
    year: Any = {"first": LAST_DAY - timedelta(days=DAYS - 1), "last": LAST_DAY}
    matrices: dict[str, Question] = {
        "matrix, 90 days x D0 to D30": Question(first=LAST_DAY - timedelta(days=89), last=LAST_DAY),
        "the same, on or after": Question(first=LAST_DAY - timedelta(days=89), last=LAST_DAY, metric="on_or_after"),
        "matrix, 365 days x D0 to D30": Question(**year),
        "52 weeks x D0 to D90": Question(cohort="week", days=90, **year),
        "52 weeks x D0 to D13, by source": Question(cohort="week", days=13, split="source", **year),
        "90 days x D0 to D30, by source": Question(first=LAST_DAY - timedelta(days=89), last=LAST_DAY, split="source"),
        "90 days, of one source and mechanic": Question(
            first=LAST_DAY - timedelta(days=89), last=LAST_DAY, source="wechat", mechanic="checkin"
        ),
    }
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        name: (lambda question=question: reports.matrix(question, NOW))  # type: ignore[misc]
        for name, question in matrices.items()
    }
    return asked | {
        "effects on day 30, a year": lambda: reports.effects(metric="on", day=30, within_days=7, now=NOW, **year),
        "funnels, 52 weeks": lambda: reports.funnels(cohort="week", within_days=30, now=NOW, **year),
        "actives, 90 days": lambda: reports.actives(first=LAST_DAY - timedelta(days=89), last=LAST_DAY, now=NOW),
        "actives, a year": lambda: reports.actives(now=NOW, **year),
    }


async def ask(database: Database) -> dict[str, list[float]]:
    """Return milliseconds, until the answer is bytes, of each question."""
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, question in questions(Reports(database, ZONE)).items():
            for number in range(ASKED + 1):
                begin = monotonic()
                msgspec.json.encode(await question())
                if number:
                    found.setdefault(name, []).append(1000 * (monotonic() - begin))
    return found


# --- all of it ------------------------------------------------------------------------------------------------------


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


async def _fresh(servers: EmbeddedServers, name: str) -> Database:
    admin = await connected(servers.postgres.dsn)
    async with admin.pool.acquire() as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    await admin.close()
    dsn = servers.postgres.dsn_of(name)
    await migrate_up(dsn)
    return await connected(dsn)


async def _check(database: Database) -> None:
    begin = monotonic()
    asked = await holds(database, "retention")
    say(f"its {asked} invariants hold, looked at in {1000 * (monotonic() - begin):,.0f} ms")


async def measure(servers: EmbeddedServers, large: int) -> None:
    """Measure everything once, and print it."""
    plan = YearPlan(shoppers=PROJECTING_SHOPPERS, days=60, last_day=LAST_DAY, zone=ZoneInfo(ZONE))
    database = await _fresh(servers, "bench_projection")
    await project(database, sightings(plan), f"a young shop, {PROJECTING_SHOPPERS:,} shoppers in two months")
    await _check(database)
    await database.close()
    database = await _fresh(servers, "bench_log")
    await project_log(database, sightings(plan))
    await database.close()
    answers: list[dict[str, list[float]]] = []
    sizes = []
    for shoppers in (SMALL, large):
        database = await _fresh(servers, f"bench_{shoppers}")
        begin = monotonic()
        sizes.append(await seed(database, shoppers))
        say(f"{shoppers:,} shoppers with {sizes[-1]:,} active days made in {monotonic() - begin:,.0f} s")
        await _check(database)
        answers.append(await ask(database))
        if shoppers == large:
            await project(database, regulars(shoppers, 1), f"with {sizes[-1]:,} active days there, any shopper")
            await _check(database)
        await database.close()
    say(f"{'milliseconds, median (99 of 100)':40} {sizes[0]:>18,} days {sizes[1]:>18,} days")
    for name in answers[0]:
        told = [f"{statistics.median(one[name]):8.1f} ({sorted(one[name])[-2]:.1f})" for one in answers]
        say(f"{name:40} {told[0]:>23} {told[1]:>23}")


def main() -> None:
    """Print what was measured."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--shoppers", type=int, default=LARGE)
    large = parser.parse_args().shoppers
    with TemporaryDirectory(prefix="growth-bench-") as folder, EmbeddedServers.start(Path(folder)) as servers:
        run(measure(servers, large))
