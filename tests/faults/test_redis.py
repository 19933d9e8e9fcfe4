"""Redis admits, and may lose everything at any moment."""

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from tests.faults.crowd import Crowd
from tests.faults.houses import House
from tests.faults.story import withstands

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

OUTAGE_SECONDS = 1.0
FREEZE_SECONDS = 5.0


@pytest.fixture(autouse=True)
def no_dump_is_left(house: House) -> Iterator[None]:
    """A Redis that is killed comes back empty, unless the test saved what it knew."""
    yield
    (house.servers.valkey.data_dir / "data" / "dump.rdb").unlink(missing_ok=True)


async def die_and_come_back(house: House) -> None:
    await asyncio.to_thread(house.servers.valkey.kill)
    await asyncio.sleep(OUTAGE_SECONDS)
    await asyncio.to_thread(house.servers.valkey.restart)


async def test_redis_killed_with_its_data_mid_sale_oversells_and_loses_nothing(house: House) -> None:
    await withstands(house, "Redis killed with its data", lambda _: die_and_come_back(house))


async def test_redis_flushed_mid_sale_oversells_and_loses_nothing(house: House) -> None:
    async def flushed(_: Crowd) -> None:
        await house.redis.flushall()
        await house.redis.script_flush()

    await withstands(house, "Redis flushed", flushed)


async def test_redis_back_as_it_was_earlier_oversells_and_loses_nothing(house: House) -> None:
    """As after a failover to a replica that was behind."""

    async def stale(crowd: Crowd) -> None:
        async with Redis.from_url(house.servers.valkey.url) as client:
            await client.save()
        # Sold, given back and lapsed since: all of it is forgotten.
        await crowd.has_won(60)
        await die_and_come_back(house)

    await withstands(house, "Redis back with an older copy of its data", stale)


async def test_redis_frozen_mid_sale_oversells_and_loses_nothing(house: House) -> None:
    async def frozen(_: Crowd) -> None:
        house.servers.valkey.freeze()
        await asyncio.sleep(FREEZE_SECONDS)
        house.servers.valkey.thaw()

    crowd = await withstands(house, "Redis frozen for 5 s", frozen)
    assert crowd.answers["claim 503"], "nobody noticed the fault"
