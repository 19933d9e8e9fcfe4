"""The rooms of money on a database of their own; whatever a test does, every invariant holds after it."""

from collections.abc import AsyncIterator

import pytest

from growth.plumbing.postgres.database import connect_postgres
from tests.mechanics.referral.commission.money import Till, assemble, broken_laws


@pytest.fixture
async def till(postgres_dsn: str) -> AsyncIterator[Till]:
    """A process of its own, with an empty database."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    yield assemble(database)
    broken = await broken_laws(database)
    await database.close()
    assert not broken
