"""Postgres decides: without it nothing is acknowledged, and what was acknowledged is there when it is back."""

import asyncio

import pytest

from tests.faults.crowd import Crowd
from tests.faults.houses import House
from tests.faults.story import withstands

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

OUTAGE_SECONDS = 1.0
FREEZE_SECONDS = 5.0


async def test_postgres_restarted_mid_sale_oversells_and_loses_nothing(house: House) -> None:
    await withstands(house, "Postgres restarted", lambda _: asyncio.to_thread(house.servers.postgres.restart))


async def test_postgres_killed_mid_sale_oversells_and_loses_nothing(house: House) -> None:
    async def killed(_: Crowd) -> None:
        await asyncio.to_thread(house.servers.postgres.kill)
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(house.servers.postgres.restart)

    await withstands(house, "Postgres killed", killed)


async def test_postgres_frozen_mid_sale_oversells_and_loses_nothing(house: House) -> None:
    async def frozen(_: Crowd) -> None:
        house.servers.postgres.freeze()
        await asyncio.sleep(FREEZE_SECONDS)
        house.servers.postgres.thaw()

    await withstands(house, "Postgres frozen for 5 s", frozen)
