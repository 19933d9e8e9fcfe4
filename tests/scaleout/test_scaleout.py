"""Scaled out, the same laws hold: through a proxy, a pooler and a cluster, whichever part of it dies mid-sale."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import asyncpg
import pytest

from growth.plumbing.http import operators
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests.faults.crowd import Crowd
from tests.faults.houses import until
from tests.faults.story import withstands
from tests.kit.invariants import violations
from tests.scaleout.estate import Estate, estate

pytestmark = [pytest.mark.anyio, pytest.mark.long]

AWAY_SECONDS = 2.0


@pytest.fixture(scope="module")
async def house(anyio_backend: Any) -> AsyncIterator[Estate]:
    async with estate() as house:
        yield house
        assert await violations(house.database) == []


async def nothing(_: Crowd) -> None:
    """The day on which everything works."""


async def test_a_sale_through_proxy_pooler_and_cluster(house: Estate) -> None:
    crowd = await withstands(house, "nothing dies", nothing)
    backends = await house.database.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'growth' AND datname = 'growth'"
    )
    assert backends <= 35, "the pooler shares connections"
    assert crowd.sale.units_total


async def test_an_api_process_killed_mid_sale_loses_nothing(house: Estate) -> None:
    async def one_dies(_: Crowd) -> None:
        house.apis[0].kill()
        await asyncio.sleep(AWAY_SECONDS)
        house.apis[0].start()

    await withstands(house, "one of three api processes killed", one_dies)


async def test_a_worker_killed_mid_sale_loses_nothing(house: Estate) -> None:
    async def one_dies(_: Crowd) -> None:
        house.workers[0].kill()
        await asyncio.sleep(AWAY_SECONDS)
        house.workers[0].start()

    await withstands(house, "one of two workers killed", one_dies)


@pytest.mark.parametrize("number", range(3))
async def test_a_cluster_node_killed_with_its_data_mid_sale_loses_nothing(house: Estate, number: int) -> None:
    async def node_dies(_: Crowd) -> None:
        node = house.nodes[number]
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(AWAY_SECONDS)
        await asyncio.to_thread(node.restart)

    await withstands(house, f"cluster node {number} killed, back empty", node_dies)


async def test_postgres_restarted_behind_the_pooler_loses_nothing(house: Estate) -> None:
    await withstands(house, "Postgres restarted behind the pooler", lambda _: asyncio.to_thread(house.primary.restart))


async def test_a_replica_that_is_away_stops_reports_and_nothing_else(house: Estate) -> None:
    async def replica_away(_: Crowd) -> None:
        await asyncio.to_thread(house.replica.kill)
        await asyncio.sleep(AWAY_SECONDS)
        await asyncio.to_thread(house.replica.restart)

    await withstands(house, "replica killed", replica_away)


async def test_reports_come_from_the_replica_and_decisions_never_do(house: Estate) -> None:
    async def follows() -> bool:
        sent = await house.database.fetchval("SELECT pg_current_wal_lsn()::text")
        replica = await asyncpg.connect(house.replica.dsn_of("growth"))
        try:
            return bool(await replica.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", sent))
        finally:
            await replica.close()

    await until("the replica follows", follows)
    async with house.database.transaction() as tx:
        key = await operators.add(tx, "reader", Role.VIEWER, now())
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for path in ("/admin/v1/liabilities", "/admin/v1/retention?cohort=day&from=2026-11-01&to=2026-11-07"):
            assert await _get(session, f"{house.proxy}{path}") == 200
    assert await _names(house.replica.dsn_of("growth")) == {"growth-reports"}
    assert "growth-reports" not in await _names(house.dsn)


async def _names(dsn: str) -> set[str]:
    """Return who is connected there."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            """
            SELECT DISTINCT application_name
            FROM pg_stat_activity
            WHERE datname = 'growth'
              AND backend_type = 'client backend'
              AND pid <> pg_backend_pid()
            """
        )
    finally:
        await connection.close()
    return {row["application_name"] for row in rows}


async def test_the_proxy_spreads_shoppers_over_all_processes(house: Estate) -> None:
    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*[_get(session, f"{house.proxy}/readyz") for _ in range(60)])
    assert set(answers) == {200}


async def _get(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        return answer.status
