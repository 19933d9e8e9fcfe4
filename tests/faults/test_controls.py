"""Negative controls: with the mender switched off, or a guard taken out, the same faults do harm."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from growth.embedded import EmbeddedServers
from tests.faults import houses
from tests.faults.crowd import CLAIM, CREATED, Crowd, Shares
from tests.faults.houses import SHORT, House, faults, until
from tests.faults.launcher import Death
from tests.faults.laws import broken_laws, differing, drop_check_on_taken, told_to

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

STOCK = "growth.mechanics.flash_sale.stock:Stock"
NO_RECONCILER = [
    "growth.mechanics.flash_sale.claim.periodic:ClaimKeeper.reconcile",
    "growth.mechanics.flash_sale.claim.redis_sync:Loader._look_into",
]
WIN = "growth.mechanics.flash_sale.claim.store:win"
GRACE_SECONDS = float(SHORT.get("grace_seconds", 15))
NOBODY_COMES_BACK = Shares(pay=0, give_back=0, forget=0, pay_late=0, leave=1, ask_again=0, grab=0)
UNITS = 20
MORE = 10


@pytest.fixture
async def house(anyio_backend: Any, mortal_servers: EmbeddedServers) -> AsyncIterator[House]:
    async with houses.house(mortal_servers) as house:
        yield house


async def test_without_the_reconciler_units_admitted_by_a_process_that_died_stay_stranded(house: House) -> None:
    blind = faults(does_nothing=NO_RECONCILER)
    dying = faults(death=Death(f"{STOCK}.claim", "after", nth=5), does_nothing=NO_RECONCILER)
    house.add_apis(blind)
    (blind_worker,) = house.add_workers(blind)
    doomed = house.process("serve", dying)
    await house.ready([*house.apis, doomed])
    sale = await house.put_sale()
    crowd = Crowd(house, sale, shoppers=60, over_seconds=1, shares=NOBODY_COMES_BACK, first={CLAIM: doomed.address})
    async with crowd.shopping():
        await doomed.died_as_planned()
        await crowd.gone()
        stranded = await differing(house.database, house.redis, sale.sale_id)
        assert stranded
        # Long after its turn would have come.
        await asyncio.sleep(GRACE_SECONDS + 2)
        assert await differing(house.database, house.redis, sale.sale_id) == stranded
        assert "stranded" in str(await broken_laws(house.database, house.redis, sale.sale_id, told_to(crowd)))
        # And it is the reconciler that mends it.
        blind_worker.kill()
        house.add_workers(faults())

        async def none_is_stranded() -> bool:
            return not await differing(house.database, house.redis, sale.sale_id)

        await until("the reconciler has mended it", none_is_stranded)


async def test_without_the_guard_on_stock_a_redis_that_came_back_older_oversells(house: House) -> None:
    guard = "taken + won_units.units <= units_total"
    (api,) = house.add_apis(faults(without=[(WIN, guard, "TRUE")]))
    await drop_check_on_taken(house.database)
    await house.ready()
    crowd = Crowd(house, await house.put_sale(units_total=UNITS), shoppers=0)
    async with crowd.shopping():
        await crowd.newcomer()
        async with Redis.from_url(house.servers.valkey.url) as client:
            await client.save()
        await asyncio.gather(*[crowd.newcomer() for _ in range(UNITS - 1)])
        await asyncio.to_thread(house.servers.valkey.kill)
        await asyncio.to_thread(house.servers.valkey.restart)
        (house.servers.valkey.data_dir / "data" / "dump.rdb").unlink()
        # For a moment the process remembers that all were gone, and says so.
        await until("the process sees units", lambda: crowd.is_open_at(api.address))
        answers = await asyncio.gather(*[crowd.newcomer() for _ in range(MORE)])
        assert [answer.status for answer in answers] == [CREATED] * MORE
        broken = await broken_laws(house.database, house.redis, crowd.sale.sale_id, told_to(crowd))
    assert f"oversold: {UNITS + MORE} units occupied" in str(broken)
