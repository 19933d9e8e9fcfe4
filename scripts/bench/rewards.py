"""What rewards cost in a small shop and in one a hundred times larger: pages, grants, spending, and a night's expiry.

It prints what was measured at 1 % of the size and at all of it. The night is walked at the end, and killed half-way.
"""

import os
import random
import signal
import statistics
from argparse import ArgumentParser
from datetime import timedelta
from functools import partial
from itertools import cycle
from time import monotonic

from msgspec import Struct

from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.http.answers import encode_cursor
from growth.plumbing.watch.invariants import Invariant, all_invariants, violations
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Grant
from growth.rewards.ledger.spending.service import Spending
from growth.rewards.ledger.store import entries as ledger_store
from growth.rewards.ledger.store.lots import expiring_by_month
from growth.vocabulary import clock
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.ids import new_id
from growth.vocabulary.rewards import PointsReward
from scripts.bench.kit import Bench, run, running_bench, say
from scripts.bench.rewards_cost import SEEN, Measured, Meter
from scripts.bench.rewards_night import night
from scripts.bench.rewards_rows import FACTS, Campaigns, RewardCrowd, drop_indexes, make_books, make_pages, settle

ZONE = "Asia/Shanghai"
ENTRIES, SHOPPERS, LOTS = 10_000_000, 1_000_000, 1_000_000
SMALL_SHARE = 100
ENTRIES_AT_LEAST = 6
"""Of a shopper: less, and no lot would be left."""
DEEP, DEEP_ENTRIES = 8, 10_000
SAVERS, SAVED_LOTS = 8, 3_650
"""Shoppers with so many entries, and with a point or ten saved each day for ten years."""
GRANTED = (100, 500)
GRANTS, SPENDS = 20, 40
"""Times each is done."""


class Size(Struct, frozen=True, kw_only=True):
    """How large a shop is."""

    entries: int
    shoppers: int
    lots: int


class RewardsBench:
    """The shop in a stack."""

    def __init__(self, bench: Bench, meter: Meter) -> None:
        self.bench = bench
        self.database = bench.database
        self.today = Almanacs(ZONE).zone.day(clock.now())
        self.shoppers = 0
        self._meter = meter

    async def publish(self) -> Campaigns:
        """Publish a coupon, a check-in program and three tasks."""
        now = clock.now()
        points = [{"type": "points", "points": 1}]
        template = {
            "title": "Bench",
            "discount": {"type": "fixed", "off_fen": 1000},
            "validity": {"type": "days", "days": 30},
            "units_total": 100_000_000,
        }
        first = self.today - timedelta(days=60)
        program = {"title": "Bench", "from_day": self.today.isoformat(), "rewards": [points] * 7, "milestones": []}
        task = {
            "title": "Bench",
            "event_type": "product.viewed",
            "count": 3,
            "reward": points,
            "opens_at": rfc3339(now - timedelta(days=1)),
            "closes_at": rfc3339(now + timedelta(days=90)),
        }
        program_id = await self.bench.publish("check-in-programs", "program_id", program)
        await self.database.fetchval(
            "UPDATE checkin.programs SET from_day = $2, closures = '[]', version = version + 1 WHERE program_id = $1",
            *(program_id, first),
        )
        return Campaigns(
            template_id=await self.bench.publish("coupon-templates", "template_id", template),
            program_id=program_id,
            task_ids=[await self.bench.publish("tasks", "task_id", task) for _ in range(3)],
        )

    # --- rows -------------------------------------------------------------------------------------------------------

    async def grow(self, size: Size, campaigns: Campaigns) -> None:
        """Write rows until the shop is as large as `size`."""
        now, begin = clock.now(), monotonic()
        is_first = not self.shoppers
        each = size.entries // size.shoppers
        ending = max(0, size.lots - self.shoppers)
        name, first, shoppers = "shopper", self.shoppers, size.shoppers - self.shoppers
        crowd = RewardCrowd(name=name, first=first, shoppers=shoppers, each=each, ending=min(ending, shoppers))
        if is_first:
            for special in (
                RewardCrowd(name="deep", first=0, shoppers=DEEP, each=DEEP_ENTRIES),
                RewardCrowd(name="saver", first=0, shoppers=SAVERS, each=SAVED_LOTS, spends=False),
            ):
                await make_books(self.database, special, now, say)
        indexes = [] if is_first else await drop_indexes(self.database)
        await make_books(self.database, crowd, now, say)
        await make_pages(self.database, crowd, campaigns, self.today, now)
        say(f"pages made, {monotonic() - begin:.0f} s")
        await settle(self.database, indexes)
        self.shoppers = size.shoppers
        say(f"{size.entries:,} entries of {size.shoppers:,} shoppers in all, {monotonic() - begin:.0f} s")

    # --- pages ------------------------------------------------------------------------------------------------------

    async def pages(self) -> dict[str, Measured]:
        """Measure what shoppers read."""
        some = [f"shopper{number}" for number in random.sample(range(self.shoppers), min(SEEN, self.shoppers))]
        deep = [f"deep{number}" for number in range(DEEP)]
        savers = [f"saver{number}" for number in range(SAVERS)]
        position = await self.database.fetchval(
            "SELECT position FROM ledger.transfers WHERE credit = 'deep0' ORDER BY position OFFSET $1 LIMIT 1",
            DEEP_ENTRIES // 2,
        )
        inside = f"/v1/points/entries?cursor={encode_cursor(position)}"
        asked = {
            "GET /v1/points": ("/v1/points", some),
            f"GET /v1/points, {SAVED_LOTS:,} lots": ("/v1/points", savers),
            "GET /v1/points/entries": ("/v1/points/entries", some),
            f"… of {DEEP_ENTRIES:,}, in the middle": (inside, deep),
            "GET /v1/check-ins": ("/v1/check-ins", some),
            "GET /v1/coupons": ("/v1/coupons", some),
            "GET /v1/tasks": ("/v1/tasks", some),
        }
        return {name: await self._meter.read(path, users) for name, (path, users) in asked.items()}

    # --- writes, and what the clock and operators ask -----------------------------------------------------------------

    async def writes(self) -> dict[str, Measured]:
        """Measure grants in batches (for each batch), and spending, in a process like the api's."""
        spending = Spending()

        async def grant(size: int) -> None:
            now, users = clock.now(), random.sample(range(self.shoppers), min(size, self.shoppers))
            grants = [
                Grant(
                    user_id=f"shopper{number}",
                    reward=PointsReward(points=5),
                    reason="bench.day",
                    key=f"bench:{new_id(now)}",
                )
                for number in users
            ]
            async with self.database.transaction() as tx:
                await granting.grant(tx, grants, now)

        async def spend(user_id: str) -> None:
            now = clock.now()
            async with self.database.transaction() as tx:
                assert not await spending.spend(tx, f"bench-{new_id(now)}", user_id, 5, now)

        found = {f"{size} grants": await self._meter.timed(partial(grant, size), GRANTS) for size in GRANTED}
        found["points spent"] = await self._meter.timed(
            lambda: spend(f"shopper{random.randrange(self.shoppers)}"), SPENDS
        )
        savers = cycle([f"saver{number}" for number in range(SAVERS)])
        found[f"points spent, {SAVED_LOTS:,} lots"] = await self._meter.timed(lambda: spend(next(savers)), SPENDS)
        return found

    async def asked(self) -> dict[str, Measured]:
        """Measure what operators read and what is checked every five minutes."""
        found = {
            "liabilities": await self._meter.timed(lambda: ledger_store.liabilities(self.database), 1),
            "points that end, by month": await self._meter.timed(
                lambda: expiring_by_month(self.database, clock.now(), "Asia/Shanghai"), 1
            ),
        }
        for one in all_invariants():
            if one.room in {"ledger", "granting"}:
                found[f"invariant: {one.name}"[:64]] = await self._meter.timed(partial(self._holds, one), 1)
        return found

    async def _holds(self, invariant: Invariant) -> None:
        assert not await violations(self.database, (invariant,)), invariant.name


def told(small: dict[str, Measured], large: dict[str, Measured]) -> str:
    """Say both sizes side by side, with what grew."""
    lines = [f"{'ms p50, p99; CPU µs of server, Postgres':64} {'1 %':>35} {'100 %':>35} {'CPU':>6}"]
    for name, one in small.items():
        other = large[name]
        cpu = [sum(statistics.median(values) for values in each.cpu_us.values()) for each in (one, other)]
        lines.append(f"{name:64} {one.told()} {other.told()} {cpu[1] / max(cpu[0], 1):5.2f}x")
    return "\n".join(lines)


async def measure(size: Size, runs: int) -> None:
    """Measure everything once, and print it."""
    async with running_bench(pinned=False) as bench:
        meter, database = Meter(bench.stack, runs), bench.database
        shop = RewardsBench(bench, meter)
        async with database.pool.acquire() as connection:
            # What any shop of this size would have set.
            await connection.execute("ALTER SYSTEM SET max_wal_size = '8GB'")
            await connection.execute("SELECT pg_reload_conf()")
            await connection.execute(FACTS)
        # The night is ours, and what else a worker does is not measured here.
        worker = bench.stack.target.pids["worker"]
        assert isinstance(worker, int)
        os.kill(worker, signal.SIGTERM)
        campaigns = await shop.publish()
        found: list[dict[str, Measured]] = []
        for part in (SMALL_SHARE, 1):
            shoppers = max(1, size.shoppers // part)
            entries = shoppers * (size.entries // size.shoppers)
            await shop.grow(Size(entries=entries, shoppers=shoppers, lots=size.lots // part), campaigns)
            found.append(await shop.pages() | await shop.writes() | await shop.asked())
        say(told(*found))
        await night(meter, database, size.shoppers)


def main() -> None:
    """Print what was measured."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--shoppers", type=int, default=SHOPPERS)
    parser.add_argument("--lots", type=int, default=LOTS, help="that end in one night; one of a shopper")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    if asked.entries < ENTRIES_AT_LEAST * asked.shoppers or asked.lots > asked.shoppers:
        parser.error(f"each shopper has {ENTRIES_AT_LEAST} entries at least, and one lot that ends at most")
    run(measure(Size(entries=asked.entries, shoppers=asked.shoppers, lots=asked.lots), asked.runs))
