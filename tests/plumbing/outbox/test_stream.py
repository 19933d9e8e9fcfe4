"""The outbox on a Redis Stream: at least once, in commit order, under the same ids, whoever dies in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from growth.embedded import EmbeddedServers, EmbeddedValkey
from growth.embedded.folder import free_port
from growth.plumbing.outbox.outbox import Envelope, Subscription, deliver, emit
from growth.plumbing.outbox.stream import Stream
from growth.plumbing.postgres.database import Database, Tx, connect_postgres
from growth.plumbing.redis.client import AnyRedis, connect_redis
from growth.vocabulary.events.flash_sale import FlashSalePaused
from growth.vocabulary.refusals import Unavailable
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = "events"
POLL_SECONDS = 0.05


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    database = await connect_postgres(postgres_dsn, max_connections=4, acquire_seconds=60, statement_seconds=60)
    yield database
    await database.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[AnyRedis]:
    redis = connect_redis(redis_url, max_connections=4, answer_seconds=60)
    yield redis
    await redis.aclose()


def stream_on(redis: AnyRedis, max_events: int = 100_000) -> Subscription:
    stream = Stream(redis, KEY, max_events=max_events, source="growth.test")
    return Subscription("outbox.stream", None, stream.take)


async def happen(database: Database, *names: object) -> None:
    async with database.transaction() as tx:
        await emit(tx, *(FlashSalePaused(at=NOON, sale_id=str(name)) for name in names))


async def entries(redis: AnyRedis) -> list[dict[str, Any]]:
    told: Any = await redis.xrange(KEY)
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in told]


def subjects(told: list[dict[str, Any]]) -> list[str]:
    return [msgspec.json.decode(entry["event"])["subject"] for entry in told]


async def test_every_event_is_added_once_in_order_as_a_cloud_event(database: Database, redis: AnyRedis) -> None:
    stream = stream_on(redis)
    for start in range(0, 30, 10):
        await happen(database, *range(start, start + 10))
    while await deliver(database, stream, max_events=7):
        pass
    told = await entries(redis)
    assert subjects(told) == [str(number) for number in range(30)]
    assert len({entry["id"] for entry in told}) == 30
    event = msgspec.json.decode(told[0]["event"])
    assert (event["id"], event["type"], event["source"]) == (told[0]["id"], "flash_sale.paused", "growth.test")
    assert told[0]["type"] == "flash_sale.paused"


async def test_killed_between_adding_and_commit_the_same_events_come_again_under_the_same_ids(
    database: Database, redis: AnyRedis, postgres_dsn: str
) -> None:
    await happen(database, "a", "b", "c")
    added = asyncio.Event()
    victim = await connect_postgres(postgres_dsn, max_connections=1, acquire_seconds=60, statement_seconds=60)
    real = stream_on(redis).handle

    async def adds_and_stays(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        await real(tx, envelopes)
        added.set()
        await asyncio.Event().wait()

    dying = asyncio.create_task(deliver(victim, Subscription("outbox.stream", None, adds_and_stays)))
    await added.wait()
    # The process is gone, and Postgres notices: nothing of its transaction stands.
    victim.pool.terminate()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await happen(database, "d")
    while await deliver(database, stream_on(redis)):
        pass
    told = await entries(redis)
    assert subjects(told) == ["a", "b", "c", "a", "b", "c", "d"]
    assert len({entry["id"] for entry in told}) == 4


async def test_while_redis_is_down_the_cursor_stands_still_and_nothing_is_lost(
    database: Database, redis: AnyRedis, servers: EmbeddedServers
) -> None:
    await happen(database, "a")
    servers.valkey.kill()
    try:
        with pytest.raises(Unavailable):
            await deliver(database, stream_on(redis))
    finally:
        servers.ensure_running()
    await happen(database, "b")
    while await deliver(database, stream_on(redis)):
        pass
    assert subjects(await entries(redis)) == ["a", "b"]


async def test_the_stream_is_trimmed_to_about_its_bound(database: Database, redis: AnyRedis) -> None:
    stream = stream_on(redis, max_events=1000)
    for start in range(0, 3000, 500):
        await happen(database, *range(start, start + 500))
        await deliver(database, stream)
    kept = subjects(await entries(redis))
    # Trimmed by whole nodes of the server's tree: a hundred entries, or a few.
    assert 1000 <= len(kept) <= 1200
    assert kept[-1] == "2999"


async def test_a_cluster_takes_it_too(database: Database, tmp_path: Path) -> None:
    node = EmbeddedValkey.start(tmp_path, free_port(beside=10_000), {"cluster-enabled": "yes"}, fast=True)
    try:
        async with Redis.from_url(node.url) as client, asyncio.timeout(PATIENCE_SECONDS):
            await _ask(client, "CLUSTER ADDSLOTSRANGE", 0, 16_383)
            while "'cluster_state': 'ok'" not in await _ask(client, "CLUSTER INFO"):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(POLL_SECONDS)
        scheme, _, rest = node.url.partition("://")
        cluster = connect_redis(f"{scheme}+cluster://{rest}", max_connections=2, answer_seconds=60)
        await happen(database, *range(20))
        assert await deliver(database, stream_on(cluster)) == 20
        assert subjects(await entries(cluster)) == [str(number) for number in range(20)]
        await cluster.aclose()
    finally:
        node.stop()


async def _ask(client: Redis, *command: object) -> str:
    return str(await client.execute_command(*command))  # type: ignore[no-untyped-call]
