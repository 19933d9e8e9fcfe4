"""Every statement on periods as a whole. Functions never commit; services do."""

from datetime import date, datetime

from msgspec import Struct

from growth.mechanics.task.model import Task
from growth.plumbing.postgres.database import Reader, Tx


class PeriodTally(Struct, frozen=True, kw_only=True):
    """One period of a task in numbers."""

    period_on: date
    shoppers_open: int
    """Who began, and is not done."""
    shoppers_done: int
    """Who did it, and got nothing: the budget was spent."""
    shoppers_rewarded: int
    undone: int
    """How often a refund took a reward back."""


async def tally(reader: Reader, task_id: str) -> list[PeriodTally]:
    """Return a task's periods in numbers, newest first: those that are kept, and what the others came to."""
    rows = await reader.fetch(
        """
        SELECT period_on,
            sum(shoppers_open)::bigint AS shoppers_open,
            sum(shoppers_done)::bigint AS shoppers_done,
            sum(shoppers_rewarded)::bigint AS shoppers_rewarded,
            sum(undone)::bigint AS undone
        FROM (
            SELECT period_on,
                count(*) FILTER (WHERE state = 'open') AS shoppers_open,
                count(*) FILTER (WHERE state = 'done') AS shoppers_done,
                count(*) FILTER (WHERE state = 'rewarded') AS shoppers_rewarded,
                sum(undone) AS undone
            FROM task.progress
            WHERE task_id::text = $1::uuid::text
            GROUP BY period_on
            UNION ALL
            SELECT period_on, shoppers_open, shoppers_done, shoppers_rewarded, undone
            FROM task.past
            WHERE task_id = $1
        ) AS known
        GROUP BY period_on
        ORDER BY period_on DESC
        """,
        task_id,
    )
    return [PeriodTally(**dict(row)) for row in rows]


async def forget_refunds(tx: Tx, before: datetime, limit: int) -> int:
    """Forget refunds told before then."""
    rows = await tx.fetch(
        """
        DELETE FROM task.refunds
        WHERE undo_key IN (
            SELECT undo_key
            FROM task.refunds
            WHERE at < $1
            ORDER BY at
            LIMIT $2
            FOR UPDATE SKIP LOCKED)
        RETURNING 1
        """,
        before,
        limit,
    )
    return len(rows)


async def forget_progress(tx: Tx, task: Task, before_period: date, limit: int) -> int:
    """Delete up to `limit` rows of one task's periods before then, with what they counted, and add them to the past."""
    rows = await tx.fetch(
        """
        WITH old AS MATERIALIZED (
            SELECT user_id, period_on, task_id
            FROM task.progress
            WHERE task_id::text = $1::uuid::text
              AND period_on < $2
            ORDER BY period_on
            LIMIT $3
            FOR UPDATE
        ),
        emptied AS (
            DELETE FROM task.counted AS counted
            USING old
            WHERE counted.user_id = old.user_id
              AND counted.period_on = old.period_on
              AND counted.task_id = old.task_id
        ),
        gone AS (
            DELETE FROM task.progress AS progress
            USING old
            WHERE progress.user_id = old.user_id
              AND progress.period_on = old.period_on
              AND progress.task_id = old.task_id
            RETURNING progress.period_on, progress.state, progress.undone
        )
        INSERT INTO task.past AS past (task_id, period_on, shoppers_open, shoppers_done, shoppers_rewarded, undone)
        SELECT $1,
            period_on,
            count(*) FILTER (WHERE state = 'open'),
            count(*) FILTER (WHERE state = 'done'),
            count(*) FILTER (WHERE state = 'rewarded'),
            sum(undone)
        FROM gone
        GROUP BY period_on
        ON CONFLICT (task_id, period_on) DO UPDATE
        SET shoppers_open = past.shoppers_open + excluded.shoppers_open,
            shoppers_done = past.shoppers_done + excluded.shoppers_done,
            shoppers_rewarded = past.shoppers_rewarded + excluded.shoppers_rewarded,
            undone = past.undone + excluded.undone
        RETURNING (SELECT count(*) FROM gone) AS gone
        """,
        task.task_id,
        before_period,
        limit,
    )
    return rows[0]["gone"] if rows else 0
