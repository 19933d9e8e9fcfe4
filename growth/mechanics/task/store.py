"""Every statement on tasks. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime

from growth.kit.campaign import store as campaigns
from growth.mechanics.task.model import MAX_PUBLISHED, TASKS, Task
from growth.plumbing.postgres.database import Reader, Tx


async def find_tasks(reader: Reader, task_ids: Sequence[str]) -> dict[str, Task]:
    """Return those of `task_ids` that exist."""
    return await campaigns.find(reader, TASKS, task_ids)


async def visible_tasks(reader: Reader, ended_after: datetime) -> list[Task]:
    """Return what shoppers may see: published, paused, and ended since `ended_after`."""
    return await TASKS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM task.tasks
        WHERE state IN ('published', 'paused')
           OR (state = 'ended' AND published_at IS NOT NULL AND ended_at > $1)
        ORDER BY (state = 'ended'), opens_at, task_id
        LIMIT $2
        """,
        ended_after,
        2 * MAX_PUBLISHED,
    )


async def lock_publishing(tx: Tx) -> None:
    """Let one task at a time be published: `move_task` counts those that are."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('task.publish', 0))")


async def count_published(tx: Tx) -> int:
    """Return how many tasks are published or paused."""
    found: int = await tx.fetchval("SELECT count(*) FROM task.tasks WHERE state IN ('published', 'paused')")
    return found


async def remembered_tasks(reader: Reader) -> list[Task]:
    """Return all tasks that have, or may get, rows of progress."""
    return await TASKS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM task.tasks
        WHERE published_at IS NOT NULL
          AND forgotten_at IS NULL
        ORDER BY task_id
        """,
    )


async def mark_forgotten(tx: Tx, task_id: str, now: datetime) -> None:
    """Note that an ended task has no rows of progress any more."""
    await tx.execute(
        """
        UPDATE task.tasks
        SET forgotten_at = $2
        WHERE task_id = $1
          AND state = 'ended'
        """,
        task_id,
        now,
    )
