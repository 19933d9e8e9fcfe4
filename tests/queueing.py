"""Acts that wait for one row, in the order told: each has begun before the one ahead of it ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from growth.plumbing.postgres.database import Database
from tests.patience import PATIENCE_SECONDS


async def queued(database: Database, lock: str, args: list[object], *acts: Coroutine[Any, Any, Any]) -> list[Any]:
    """Hold the row that the SELECT `lock` locks until all `acts` stand in line for it; return what each returns.

    The second sees the row as it was before the first, and gets it when the first has committed.
    """
    begun: list[asyncio.Task[Any]] = []
    async with database.transaction() as tx:
        assert await tx.fetch(lock, *args)
        for act in acts:
            begun.append(asyncio.create_task(act))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await _in_line(database) < len(begun):
                    assert not any(task.done() for task in begun), "it does not need the row"
                    await asyncio.sleep(0.01)
    return list(await asyncio.gather(*begun))


async def _in_line(database: Database) -> int:
    found: int = await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return found
