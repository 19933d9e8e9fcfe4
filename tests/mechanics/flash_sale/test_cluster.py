"""A sale on Redis Cluster: every script stays within one hash tag, whichever nodes the sales fall on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from growth.embedded import EmbeddedValkey
from growth.embedded.folder import free_port
from growth.plumbing.http.limits import Limiter
from growth.plumbing.redis.client import AnyRedis, connect_redis
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.mechanics.flash_sale.conftest import assemble
from tests.patience import PATIENCE_SECONDS

NODES = 3
SLOTS = 16_384
OPTIONS = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", "requirepass": "one-for-all"}
POLL_SECONDS = 0.05


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EmbeddedValkey]]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    started = [
        EmbeddedValkey.start(folder / str(n), free_port(beside=10_000), OPTIONS, fast=True) for n in range(NODES)
    ]
    yield started
    for node in started:
        node.stop()


@pytest.fixture
async def cluster(nodes: list[EmbeddedValkey]) -> AsyncIterator[AnyRedis]:
    await _join(nodes)
    scheme, _, rest = nodes[0].url.partition("://")
    client = connect_redis(f"{scheme}+cluster://{rest}", max_connections=2, answer_seconds=60)
    yield client
    await client.aclose()


async def _ask(client: Redis, *command: object) -> bytes:
    return _bytes(await client.execute_command(*command))  # type: ignore[no-untyped-call]


async def _join(nodes: list[EmbeddedValkey]) -> None:
    """Give each node its share of the slots and introduce them, unless that was done."""
    clients = [Redis.from_url(node.url) for node in nodes]
    try:
        share = SLOTS // NODES
        for n, client in enumerate(clients):
            if b"cluster_slots_assigned:0" in await _ask(client, "CLUSTER", "INFO"):
                last = SLOTS - 1 if n == NODES - 1 else (n + 1) * share - 1
                await _ask(client, "CLUSTER", "ADDSLOTSRANGE", n * share, last)
                if n:
                    await _ask(client, "CLUSTER", "SET-CONFIG-EPOCH", n + 1)
                    await _ask(clients[0], "CLUSTER", "MEET", "127.0.0.1", nodes[n].port)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for client in clients:
                while b"cluster_state:ok" not in await _ask(client, "CLUSTER", "INFO"):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
    finally:
        for client in clients:
            await client.aclose()


def _bytes(info: object) -> bytes:
    if isinstance(info, dict):
        return "\n".join(f"{name}:{value}" for name, value in info.items()).encode()
    return info if isinstance(info, bytes) else str(info).encode()


async def test_sales_on_three_nodes_sell_exactly_their_units_over_two_connections(
    cluster: AnyRedis, postgres_dsn: str
) -> None:
    async with world.stores(postgres_dsn, "redis://127.0.0.1:1/0") as (database, _):
        room = assemble(database, cluster)
        sales = [await world.put_sale(database, sku=f"tea-{n}", units_total=5) for n in range(12)]
        got = await asyncio.gather(
            *[room.claim(sale.sale_id, f"u{n}") for sale in sales for n in range(20)], return_exceptions=True
        )
        refused = [answer for answer in got if isinstance(answer, Refusal)]
        assert len(got) - len(refused) == 60
        assert {answer.kind.code for answer in refused} == {"flash_sale.sold_out"}
        for sale in sales:
            assert (await room.stock.glance(sale.sale_id, 0)).taken == 5
            assert not await room.loader.differences(sale.sale_id, now())
            await room.stock.forget(sale.sale_id)
            await room.loader.load(sale.sale_id)
            assert (await room.stock.glance(sale.sale_id, 0)).taken == 5
        await room.claims.drain()
        await room.loader.close()


async def test_limits_work_on_a_cluster(cluster: AnyRedis) -> None:
    limiter = Limiter(cluster, "cluster-test", per_second=0.1, burst=2)
    verdicts = [await limiter.ask(f"key-{n % 5}") for n in range(15)]
    assert sum(verdict.allowed for verdict in verdicts) == 10
