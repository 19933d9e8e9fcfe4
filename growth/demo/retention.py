"""Visitors of the demo shop: two months of a small shop that was made up, counted as if they had been seen."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from growth.bootstrap import Growth
from growth.demo.shop_year import YearPlan, sightings
from growth.listeners.retention import person as shopper
from growth.listeners.retention.service import RetentionProjection
from growth.listeners.retention.sighting import Sighting
from growth.plumbing.watch.audit import Act

SHOPPERS, DAYS = 1_200, 60
BATCH = 2_000
FIRST_VISITOR = "demo-0000000"


async def put(growth: Growth, act: Act) -> list[str]:
    """Visitors until yesterday, unless there are some."""
    if await shopper.export(growth.database, FIRST_VISITOR) is None:
        await put_visitors(growth, act.now, SHOPPERS, DAYS)
    return [f"who returns   growth report retention (a made-up shop of {SHOPPERS:,} visitors)"]


async def put_visitors(growth: Growth, now: datetime, shoppers: int, days: int) -> int:
    """Count what so many shoppers did in as many days until yesterday; returns how many things that was.

    Past the log of events: that takes only what happened just now. Into a room that has no others made up, please: the
    same ids would be other people's.
    """
    zone = ZoneInfo(growth.settings.zone)
    yesterday = now.astimezone(zone).date() - timedelta(days=1)
    acts = sightings(YearPlan(shoppers=shoppers, days=days, last_day=yesterday, zone=zone))
    seen = 0
    while batch := _next(acts):
        async with growth.database.transaction() as tx:
            await growth.of(RetentionProjection).see(tx, batch)
        seen += len(batch)
    return seen


def _next(acts: Iterator[Sighting]) -> Sequence[Sighting]:
    return list(islice(acts, BATCH))
