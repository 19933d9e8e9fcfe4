"""The plumbing on a database of its own; whatever a test does, every invariant holds after it."""

from collections.abc import AsyncIterator

import pytest

from growth.plumbing.postgres.database import Database, connect_postgres
from tests.kit.invariants import violations
from tests.plumbing.postgres_proxy import PostgresProxy


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    database = await connect_postgres(postgres_dsn, max_connections=10, acquire_seconds=60, statement_seconds=60)
    yield database
    broken = await violations(database)
    await database.close()
    assert not broken


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
