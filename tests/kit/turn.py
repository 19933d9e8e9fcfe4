"""A turn of a periodic task, at a moment of the test's choice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.work.periodic import Held, Turn


class _Unleased(Turn):
    @asynccontextmanager
    async def transaction(self, *, everyone: bool = False) -> AsyncIterator[Tx]:
        async with self._database.transaction(everyone=everyone) as tx:
            yield tx


def turn_at(database: Database, moment: datetime) -> Turn:
    """A turn that needs no lease."""
    return _Unleased(database, "test", Held("test", 1, moment))


async def leading_at(database: Database, moment: datetime) -> Turn:
    """A turn of a worker that holds the lease."""
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO plumbing.leases (name, holder, fence, expires_at)
            VALUES ('test', 'test', 1, now() + INTERVAL '1 hour')
            ON CONFLICT (name) DO NOTHING
            """
        )
    return Turn(database, "test", Held("test", 1, moment))
