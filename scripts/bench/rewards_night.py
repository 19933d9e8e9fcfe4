"""The night in which lots end, as a worker of its own: so that it can be killed.

`python -m scripts.bench.rewards_night <dsn>` prints a line for each batch (shoppers, milliseconds) and ends by itself.
"""

import asyncio
import random
import statistics
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic

from growth.load.processes import others_cores
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.periodic import Periodic, PeriodicTask, Turn
from growth.rewards.ledger.service import Ledger
from growth.vocabulary import clock
from scripts.bench.kit import connected, holds, say
from scripts.bench.kit import run as run_bench
from scripts.bench.rewards_cost import SEEN, WARM_SECONDS, Measured, Meter
from scripts.bench.stack import Stack

AHEAD = timedelta(hours=2)
"""What ends tonight has ended by then."""
MARK = b"batch"
"""Begins a line for each batch; the others are the log's."""
LEASE = "bench.expire_points"


async def night(meter: Meter, database: Database, shoppers: int) -> None:
    """Let a worker expire what ends tonight, kill it half-way, let another go on, and see that all adds up."""
    until = clock.now() + timedelta(hours=2)
    due = await _due(database, until)
    users = [f"shopper{number}" for number in random.sample(range(shoppers), min(SEEN, shoppers))]
    alone = await meter.read("/v1/points", users, 1)
    before = meter.watched.sample()
    beside = asyncio.create_task(_beside(meter, users))
    first = await _walk(meter.stack, due // 2)
    left = await _due(database, until)
    second = await _walk(meter.stack, None)
    meanwhile, after = await _ended(beside), meter.watched.sample()
    # Not the first of each worker: it had to start, and to wait for the lease.
    batches = [*first[1:], *second[1:]]
    seconds = sum(took for took, _, _ in batches)
    rates = [lots / took for took, _, lots in batches if lots] or [0.0]
    third = max(1, len(rates) // 3)
    ms = [one for _, one, _ in batches]
    say(
        f"a night: {due:,} lots, killed with {left:,} left; {second[0][0]:.0f} s until another worker went on;"
        f" {seconds:.0f} s besides, {due / seconds:,.0f} lots/s ({statistics.median(rates[:third]):,.0f} in the"
        f" first third, {statistics.median(rates[-third:]):,.0f} in the last); a batch {statistics.median(ms):.0f}"
        f" ms, the longest {max(ms):.0f} ms; CPU of Postgres"
        f" {after.seconds['postgres'] - before.seconds['postgres']:.0f} s; others had"
        f" {others_cores([before, after]):.1f} cores"
    )
    say(f"GET /v1/points alone {alone.told()}, meanwhile {meanwhile.told()}")
    await _adds_up(database, due, until)


async def _walk(stack: Stack, until_done: int | None) -> list[tuple[float, float, int]]:
    """Run a worker to its end, or kill it once so many are done.

    Returns of each batch the seconds since the last one (of the first: since it began), its milliseconds, lots.
    """
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.bench.rewards_night", stack.postgres_dsn),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert worker.stdout is not None
    found, done, at = [], 0, monotonic()
    async for line in worker.stdout:
        if not line.startswith(MARK):
            continue
        lots, ms = line.decode().split()[1:]
        found.append((monotonic() - at, float(ms), int(lots)))
        at, done = monotonic(), done + int(lots)
        if len(found) % 100 == 0:
            say(f"{done:,} lots")
        if until_done is not None and done >= until_done:
            worker.kill()
            break
    await worker.wait()
    return found


async def _beside(meter: Meter, users: Sequence[str]) -> Measured:
    found = Measured(p50_ms=[], p99_ms=[], cpu_us={})
    try:
        while True:
            one = await meter.read("/v1/points", users, 1)
            found.p50_ms += one.p50_ms
            found.p99_ms += one.p99_ms
            for name, values in one.cpu_us.items():
                found.cpu_us.setdefault(name, []).extend(values)
            await asyncio.sleep(WARM_SECONDS)
    except asyncio.CancelledError:
        return found


async def _due(database: Database, until: datetime) -> int:
    due: int = await database.fetchval(
        "SELECT count(*) FROM ledger.lots WHERE remaining > 0 AND expires_at <= $1", until
    )
    return due


async def _adds_up(database: Database, due: int, until: datetime) -> None:
    assert await _due(database, until) == 0
    moved = await database.fetchrow(
        "SELECT count(*), count(DISTINCT subject) FROM ledger.transfers WHERE reason = 'points.expired'"
    )
    assert moved is not None
    assert tuple(moved) == (due, due), moved
    wrong = await database.fetchval(
        """
        SELECT count(*)
        FROM ledger.accounts AS account
        FULL JOIN (
            SELECT owner, sum(remaining) AS remaining FROM ledger.lots WHERE remaining > 0 GROUP BY owner
        ) AS held USING (owner)
        WHERE coalesce(account.posted, 0) <> coalesce(held.remaining, 0)
        """
    )
    assert wrong == 0, wrong
    asked = await holds(database, "ledger", "granting")
    say(f"{due:,} lots expired once each; every balance is what its lots hold; {asked} invariants hold")


async def _ended(task: asyncio.Task[Measured]) -> Measured:
    task.cancel()
    return await task


async def run(dsn: str) -> None:
    """Expire what is due, the way that the schedule does."""
    database = await connected(dsn)
    ledger, stop = Ledger(database, database, "Asia/Shanghai"), asyncio.Event()

    async def batch(turn: Turn) -> int:
        turn.now += AHEAD
        begin = monotonic()
        done = await ledger.expire_due(turn)
        sys.stdout.write(f"{MARK.decode()} {done} {(monotonic() - begin) * 1000:.1f}\n")
        sys.stdout.flush()
        if not done:
            stop.set()
        return done

    await Periodic(database, [PeriodicTask(LEASE, 1, batch, 1)]).run(stop)
    await database.close()


def main() -> None:
    """Run it to its end."""
    run_bench(run(sys.argv[1]))


if __name__ == "__main__":
    main()
