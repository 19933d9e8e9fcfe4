"""Every statement on tasks. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from growth.mechanics.task.model import MAX_PUBLISHED, Task, TaskDraft
from growth.plumbing.postgres.database import Reader, Record, Tx


def _task(row: Record) -> Task:
    return msgspec.convert(dict(row), Task)


def _fields(draft: TaskDraft) -> list[object]:
    return [getattr(draft, name) for name in TaskDraft.__struct_fields__]


async def add_task(tx: Tx, task_id: str, draft: TaskDraft, now: datetime) -> Task:
    """Insert a draft."""
    row = await tx.fetchrow(
        """
        INSERT INTO task.tasks (
            task_id, created_at, title, description, event_type, filter, distinct_by, count, period, reward,
            undo_on_refund, opens_at, closes_at, budget)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        RETURNING task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        """,
        task_id,
        now,
        *_fields(draft),
    )
    assert row is not None
    return _task(row)


async def find_tasks(reader: Reader, task_ids: Sequence[str]) -> dict[str, Task]:
    """Return those of `task_ids` that exist."""
    rows = await reader.fetch(
        """
        SELECT task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        FROM task.tasks
        WHERE task_id = ANY ($1::uuid[])
        """,
        list(task_ids),
    )
    return {row["task_id"]: _task(row) for row in rows}


async def lock_task(tx: Tx, task_id: str) -> Task | None:
    """Return one task, locked against other operators' changes until `tx` ends."""
    row = await tx.fetchrow(
        """
        SELECT task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        FROM task.tasks
        WHERE task_id = $1
        FOR NO KEY UPDATE
        """,
        task_id,
    )
    return None if row is None else _task(row)


async def visible_tasks(reader: Reader, ended_after: datetime) -> list[Task]:
    """Return what shoppers may see: published, paused, and ended since `ended_after`."""
    rows = await reader.fetch(
        """
        SELECT task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        FROM task.tasks
        WHERE state IN ('published', 'paused')
           OR (state = 'ended' AND published_at IS NOT NULL AND ended_at > $1)
        ORDER BY (state = 'ended'), opens_at, task_id
        LIMIT $2
        """,
        ended_after,
        2 * MAX_PUBLISHED,
    )
    return [_task(row) for row in rows]


async def page_of_tasks(reader: Reader, *, state: str | None, before: str | None, limit: int) -> list[Task]:
    """Return operators' tasks, newest first, those made before the id `before`."""
    rows = await reader.fetch(
        """
        SELECT task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        FROM task.tasks
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::uuid IS NULL OR task_id < $2)
        ORDER BY task_id DESC
        LIMIT $3
        """,
        state,
        before,
        limit,
    )
    return [_task(row) for row in rows]


async def change_task(tx: Tx, task_id: str, version: int, draft: TaskDraft) -> Task | None:
    """Write an operator's edit if nobody edited since `version`; None if somebody did."""
    row = await tx.fetchrow(
        """
        UPDATE task.tasks
        SET title = $3, description = $4, event_type = $5, filter = $6, distinct_by = $7, count = $8, period = $9,
            reward = $10, undo_on_refund = $11, opens_at = $12, closes_at = $13, budget = $14, version = version + 1
        WHERE task_id = $1
          AND version = $2
          AND state <> 'ended'
        RETURNING task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        """,
        task_id,
        version,
        *_fields(draft),
    )
    return None if row is None else _task(row)


async def lock_publishing(tx: Tx) -> None:
    """Let one task at a time be published: `move_task` counts those that are."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('task.publish', 0))")


async def count_published(tx: Tx) -> int:
    """Return how many tasks are published or paused."""
    found: int = await tx.fetchval("SELECT count(*) FROM task.tasks WHERE state IN ('published', 'paused')")
    return found


async def move_task(tx: Tx, task_id: str, from_states: Sequence[str], to_state: str, now: datetime) -> Task | None:
    """Take one step of the state machine; None if the task is in none of `from_states`."""
    row = await tx.fetchrow(
        """
        UPDATE task.tasks
        SET state = $3,
            version = version + 1,
            published_at = CASE WHEN $3 = 'published' THEN coalesce(published_at, $4) ELSE published_at END,
            ended_at = CASE WHEN $3 = 'ended' THEN $4 ELSE ended_at END
        WHERE task_id = $1
          AND state = ANY ($2)
        RETURNING task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        """,
        task_id,
        list(from_states),
        to_state,
        now,
    )
    return None if row is None else _task(row)


async def end_closed_tasks(tx: Tx, closed_before: datetime, limit: int) -> list[Task]:
    """End tasks whose window has closed."""
    rows = await tx.fetch(
        """
        UPDATE task.tasks
        SET state = 'ended', ended_at = closes_at, version = version + 1
        WHERE task_id IN (
            SELECT task_id
            FROM task.tasks
            WHERE state IN ('published', 'paused')
              AND closes_at < $1
            ORDER BY closes_at
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        """,
        closed_before,
        limit,
    )
    return [_task(row) for row in rows]


async def remembered_tasks(reader: Reader) -> list[Task]:
    """Return all tasks that have, or may get, rows of progress."""
    rows = await reader.fetch(
        """
        SELECT task_id, title, description, event_type, filter, distinct_by, count, period, reward, undo_on_refund,
            opens_at, closes_at, budget, state, version, created_at, published_at, ended_at
        FROM task.tasks
        WHERE published_at IS NOT NULL
          AND forgotten_at IS NULL
        ORDER BY task_id
        """
    )
    return [_task(row) for row in rows]


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
