"""Every statement on all of one shopper's progress. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec
from msgspec import Struct

from growth.mechanics.task.progress.model import CountedProgress
from growth.mechanics.task.progress.store.counts import PROGRESS
from growth.plumbing.person import owned
from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows

OWNED = Owned("task.progress")
COUNTED = Owned(
    "task.counted",
    key=("period_on", "task_id", "value", "occurrence_id"),
    carries=("at", "undo_key", "undone_at"),
)

_encode = msgspec.json.Encoder().encode


class TaskProgressKnown(Struct, frozen=True, kw_only=True):
    """Progress in one period of one task."""

    task_id: str
    period_on: date
    done: int
    state: str
    undone: int
    reached_at: datetime | None
    changed_at: datetime


class TaskCountedKnown(Struct, frozen=True, kw_only=True):
    """Something that counted."""

    task_id: str
    value: str
    at: datetime
    undone_at: datetime | None


PROGRESS_KNOWN = Rows(row=TaskProgressKnown)
COUNTED_KNOWN = Rows(row=TaskCountedKnown)


async def progress_of(reader: Reader, user_id: str, limit: int) -> list[TaskProgressKnown]:
    """Return a shopper's progress, newest first."""
    return await PROGRESS_KNOWN.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM task.progress
        WHERE user_id = $1
        ORDER BY changed_at DESC
        LIMIT $2
        """,
        user_id,
        limit,
    )


async def done_of(reader: Reader, user_id: str, late_seconds: float) -> list[tuple[str, date]]:
    """Return the tasks that a shopper did, and in which period, where that could be done again.

    A period is a week at most, and begins up to a day earlier or later than Postgres' day; `late_seconds` after its end
    a task counts nothing any more.
    """
    rows = await reader.fetch(
        """
        SELECT progress.task_id, progress.period_on
        FROM task.progress AS progress
        JOIN task.tasks AS task USING (task_id)
        WHERE progress.user_id = $1
          AND progress.state <> 'open'
          AND (task.period = 'once' OR progress.period_on >= current_date - 8)
          AND (task.state <> 'ended' OR task.ended_at > now() - make_interval(secs => $2))
        """,
        user_id,
        late_seconds,
    )
    return [(row["task_id"], row["period_on"]) for row in rows]


async def counted_of(reader: Reader, user_id: str, limit: int) -> list[TaskCountedKnown]:
    """Return what counted for a shopper, newest first."""
    return await COUNTED_KNOWN.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM task.counted
        WHERE user_id = $1
        ORDER BY at DESC
        LIMIT $2
        """,
        user_id,
        limit,
    )


async def standings(tx: Tx, user_id: str) -> list[CountedProgress]:
    """Return all progress of a shopper."""
    return await PROGRESS.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM task.progress
        WHERE user_id = $1
        ORDER BY period_on, task_id
        """,
        user_id,
    )


async def drop(tx: Tx, standings: Sequence[CountedProgress]) -> None:
    """Delete rows of progress; what they counted stays."""
    await tx.execute(
        """
        DELETE FROM task.progress AS progress
        USING json_to_recordset($1::json) AS told (user_id text, period_on date, task_id uuid)
        WHERE progress.user_id = told.user_id
          AND progress.period_on = told.period_on
          AND progress.task_id = told.task_id
        """,
        _encode(standings).decode(),
    )


async def rename(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make all that is under one id another's; what both have is the other's."""
    await owned.rename(tx, COUNTED, old_user_id, user_id)
    await tx.execute(
        """
        DELETE FROM task.progress AS progress
        WHERE progress.user_id = $1
          AND EXISTS (
              SELECT
              FROM task.progress AS other
              WHERE other.user_id = $2
                AND other.period_on = progress.period_on
                AND other.task_id = progress.task_id)
        """,
        old_user_id,
        user_id,
    )
    await owned.rename(tx, OWNED, old_user_id, user_id)
