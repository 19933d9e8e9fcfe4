"""Events in, on a database of its own; whatever a test does, every invariant holds after it."""

from collections.abc import AsyncIterator

import pytest

from growth.plumbing.http.limits import Limiter
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.redis.client import AnyRedis, connect_redis
from growth.shopper.activity.service import Events
from tests.kit.invariants import violations
from tests.plumbing.postgres_proxy import PostgresProxy
from tests.shopper.activity.telling import NO_LIMIT


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    database = await connect_postgres(postgres_dsn, max_connections=10, acquire_seconds=60, statement_seconds=60)
    yield database
    broken = await violations(database)
    await database.close()
    assert not broken


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[AnyRedis]:
    client = connect_redis(redis_url, max_connections=8, answer_seconds=60)
    yield client
    await client.aclose()


@pytest.fixture
def limiter(redis: AnyRedis) -> Limiter:
    return Limiter(redis, "events", per_second=0, burst=NO_LIMIT)


@pytest.fixture
def events(database: Database, limiter: Limiter) -> Events:
    return Events(database, limiter)


@pytest.fixture
async def proxy(postgres_dsn: str) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(postgres_dsn) as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: PostgresProxy) -> AsyncIterator[Database]:
    """The same database as `database`, reached through `proxy` over few connections, with little patience."""
    database = await connect_postgres(proxy.dsn, max_connections=2, acquire_seconds=2, statement_seconds=3)
    yield database
    await database.close()
