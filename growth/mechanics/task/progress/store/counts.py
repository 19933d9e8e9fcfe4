"""Every statement on what counted and on progress. Functions never commit; services do."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

import msgspec
from msgspec import Struct

from growth.mechanics.task.model import ProgressState
from growth.mechanics.task.progress.model import CountedProgress, Counting, Key
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows
from growth.vocabulary.ids import new_ids

PROGRESS = Rows(row=CountedProgress)

_encode = msgspec.json.Encoder().encode


class DecidedProgress(Struct, frozen=True, kw_only=True):
    """What was decided about one row of progress."""

    user_id: str
    period_on: date
    task_id: str
    was: str
    """The state that it was decided in."""
    state: str
    coupons: dict[str, str]
    kept: list[int]


class Uncounted(Struct, frozen=True):
    """Something that had counted, and is to be decided anew."""

    key: Key
    undo_key: str
    at: datetime


class Mine(Struct, frozen=True, kw_only=True):
    """One shopper's progress, as told to the shopper."""

    done: int
    state: ProgressState


async def lock(tx: Tx) -> None:
    """Let one transaction at a time count, undo and merge: rows are recomputed, and two would not see each other's.

    And have its statements planned for tables as they are: a plan kept from when they were small reads all of them.
    """
    await tx.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended('task.progress', 0)),
            set_config('plan_cache_mode', 'force_custom_plan', TRUE)
        """
    )


class Live(Struct, frozen=True, kw_only=True):
    """What may follow from an event told now."""

    now: datetime
    """By Postgres' clock."""
    versions: Mapping[str, int]
    """Id → version of the tasks that may still count something."""
    is_undoable: bool
    """Whether a refund may take something back, from any task whose progress is kept."""


async def live(reader: Reader, late_seconds: float) -> Live:
    """Return what may count. An ended task may for as long as what happened before its end may be heard of."""
    rows = await reader.fetch(
        """
        SELECT clock_timestamp() AS now,
            EXISTS (
                SELECT
                FROM task.tasks
                WHERE undo_on_refund <> 'no'
                  AND published_at IS NOT NULL
                  AND forgotten_at IS NULL
            ) AS is_undoable,
            task.task_id,
            task.version
        FROM (SELECT) AS always
        LEFT JOIN task.tasks AS task
               ON task.state = 'published'
               OR (task.state = 'ended'
                   AND task.published_at IS NOT NULL
                   AND task.ended_at > now() - make_interval(secs => $1))
        """,
        late_seconds,
    )
    return Live(
        now=rows[0]["now"],
        versions={row["task_id"]: row["version"] for row in rows if row["task_id"] is not None},
        is_undoable=rows[0]["is_undoable"],
    )


async def remember_refunds(tx: Tx, undo_keys: Sequence[str], now: datetime) -> None:
    """Note refunds, for what they undo and is told later."""
    await tx.execute(
        """
        INSERT INTO task.refunds (undo_key, at)
        SELECT DISTINCT undo_key, $2::timestamptz
        FROM json_array_elements_text($1::json) AS told (undo_key)
        ON CONFLICT (undo_key) DO NOTHING
        """,
        _encode(undo_keys).decode(),
        now,
    )


async def undo(tx: Tx, undo_keys: Sequence[str], now: datetime) -> list[Key]:
    """Take back what counted under `undo_keys`; return whose progress that changes."""
    rows = await tx.fetch(
        """
        UPDATE task.counted AS counted
        SET undone_at = $2
        FROM json_array_elements_text($1::json) AS told (undo_key)
        WHERE counted.undo_key = told.undo_key
          AND counted.undone_at IS NULL
        RETURNING counted.user_id, counted.period_on, counted.task_id
        """,
        _encode(undo_keys).decode(),
        now,
    )
    return [Key(row["user_id"], row["period_on"], row["task_id"]) for row in rows]


async def uncount(tx: Tx, undo_keys: Sequence[str]) -> list[Uncounted]:
    """Forget what had counted under `undo_keys`, and their refunds, to be decided anew; return what it was."""
    rows = await tx.fetch(
        """
        WITH told AS (
            SELECT undo_key
            FROM json_array_elements_text($1::json) AS told (undo_key)
        ),
        forgotten AS (
            DELETE FROM task.refunds AS refund
            USING told
            WHERE refund.undo_key = told.undo_key
        )
        DELETE FROM task.counted AS counted
        USING told
        WHERE counted.undo_key = told.undo_key
        RETURNING counted.user_id, counted.period_on, counted.task_id, counted.undo_key, counted.at
        """,
        _encode(undo_keys).decode(),
    )
    return [
        Uncounted(Key(row["user_id"], row["period_on"], row["task_id"]), row["undo_key"], row["at"]) for row in rows
    ]


async def count(tx: Tx, countings: Sequence[Counting], now: datetime) -> list[Key]:
    """Note what counts, each occurrence, or each value, once; return whose progress that changes.

    What was refunded before it was told is noted as undone. Where no refund can take anything back, nothing is noted
    beyond what is enough.
    """
    rows = await tx.fetch(
        """
        INSERT INTO task.counted (user_id, period_on, task_id, value, occurrence_id, at, undo_key, undone_at)
        SELECT told.user_id,
            told.period_on,
            told.task_id,
            told.value,
            told.occurrence_id,
            told.at,
            told.undo_key,
            CASE WHEN refund.undo_key IS NOT NULL THEN $2::timestamptz END
        FROM json_to_recordset($1::json) AS told (
            user_id text, period_on date, task_id uuid, value text, occurrence_id text, at timestamptz,
            undo_key text, enough integer)
        LEFT JOIN task.refunds AS refund USING (undo_key)
        LEFT JOIN task.progress AS progress
               ON progress.user_id = told.user_id
              AND progress.period_on = told.period_on
              AND progress.task_id = told.task_id
        WHERE told.enough IS NULL
           OR progress.done IS NULL
           OR progress.done < told.enough
        ON CONFLICT (user_id, period_on, task_id, value, occurrence_id) DO NOTHING
        RETURNING user_id, period_on, task_id
        """,
        _encode(countings).decode(),
        now,
    )
    return [Key(row["user_id"], row["period_on"], row["task_id"]) for row in rows]


async def recount(tx: Tx, keys: Sequence[Key], now: datetime) -> list[CountedProgress]:
    """Compute progress anew, and begin it where there is none; return all of `keys`, whether they changed or not.

    An upsert: it finds its rows by their key, whatever Postgres believes of the table.
    """
    return await PROGRESS.fetch_all(
        tx,
        """
        INSERT INTO task.progress AS progress (user_id, period_on, task_id, grant_id, done, changed_at)
        SELECT wanted.user_id, wanted.period_on, wanted.task_id, wanted.grant_id, found.done, $2
        FROM json_to_recordset($1::json) AS wanted (user_id text, period_on date, task_id uuid, grant_id uuid)
        CROSS JOIN LATERAL (
            SELECT count(DISTINCT counted.value) AS done
            FROM task.counted AS counted
            WHERE counted.user_id = wanted.user_id
              AND counted.period_on = wanted.period_on
              AND counted.task_id = wanted.task_id
              AND counted.undone_at IS NULL
        ) AS found
        ON CONFLICT (user_id, period_on, task_id) DO UPDATE
        SET done = excluded.done,
            changed_at = CASE WHEN progress.done = excluded.done THEN progress.changed_at ELSE $2 END
        RETURNING kit.columns
        """,
        _encode(
            [
                {
                    "user_id": key.user_id,
                    "period_on": key.period_on,
                    "task_id": key.task_id,
                    "grant_id": grant_id,
                }
                for key, grant_id in zip(keys, new_ids(now, len(keys)), strict=True)
            ]
        ).decode(),
        now,
    )


async def decide(tx: Tx, decided: Sequence[DecidedProgress], now: datetime) -> int:
    """Write what was granted or taken back; return how many rows still were in the state that it was decided in."""
    rows = await tx.fetch(
        """
        UPDATE task.progress AS progress
        SET state = told.state,
            attempt = progress.attempt + (told.was = 'open')::integer,
            undone = progress.undone + (told.state = 'open')::integer,
            coupons = told.coupons,
            kept = told.kept,
            others = CASE WHEN told.state = 'open' THEN '[]' ELSE progress.others END,
            reached_at = CASE WHEN told.state = 'open' THEN NULL ELSE $2::timestamptz END,
            changed_at = $2
        FROM json_to_recordset($1::json) AS told (
            user_id text, period_on date, task_id uuid, was text, state text, coupons jsonb, kept jsonb)
        WHERE progress.user_id = told.user_id
          AND progress.period_on = told.period_on
          AND progress.task_id = told.task_id
          AND progress.state = told.was
        RETURNING 1
        """,
        _encode(decided).decode(),
        now,
    )
    return len(rows)


async def put_others(tx: Tx, standings: Sequence[CountedProgress]) -> None:
    """Write what rows gave besides, and which places of the reward list are not given again."""
    await tx.execute(
        """
        UPDATE task.progress AS progress
        SET kept = told.kept,
            others = told.others
        FROM json_to_recordset($1::json) AS told (user_id text, period_on date, task_id uuid, kept jsonb, others jsonb)
        WHERE progress.user_id = told.user_id
          AND progress.period_on = told.period_on
          AND progress.task_id = told.task_id
        """,
        _encode(standings).decode(),
    )


async def of_shopper(reader: Reader, user_id: str, periods: Sequence[date]) -> dict[tuple[date, str], Mine]:
    """Return one shopper's progress in `periods`, by period and task: one read along one index."""
    rows = await reader.fetch(
        """
        SELECT period_on, task_id, done, state
        FROM task.progress
        WHERE user_id = $1
          AND period_on = ANY ($2::date[])
        """,
        user_id,
        list(periods),
    )
    return {(row["period_on"], row["task_id"]): Mine(done=row["done"], state=row["state"]) for row in rows}


async def has_value(reader: Reader, counting: Counting) -> bool:
    """Say whether such a row is there already."""
    found: bool | None = await reader.fetchval(
        """
        SELECT TRUE
        FROM task.counted
        WHERE user_id = $1
          AND period_on = $2
          AND task_id = $3
          AND value = $4
          AND occurrence_id = $5
        """,
        counting.user_id,
        counting.period_on,
        counting.task_id,
        counting.value,
        counting.occurrence_id,
    )
    return found is not None
