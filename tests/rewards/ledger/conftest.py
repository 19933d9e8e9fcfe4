"""A database for the ledger, and its books held to their sentences after each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.invariants import read_invariants
from tests.kit.invariants import violations

ROOM = Path(__file__).parents[3] / "growth" / "rewards" / "ledger"


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    opened = await connect_postgres(postgres_dsn, max_connections=16, acquire_seconds=20, statement_seconds=20)
    yield opened
    assert await violations(opened, tuple(read_invariants(ROOM / "invariants.sql", "ledger"))) == []
    await opened.close()
