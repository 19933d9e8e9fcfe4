"""Upkeep of the outbox and of other logs of its form: partitions, how far readers are behind, order after a restore.

Where it asks whether there is a row, ORDER BY … LIMIT stands in place of EXISTS, for which Postgres prefers to scan the
whole table.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import structlog
from msgspec import Struct

from growth.plumbing.postgres import partitions
from growth.plumbing.postgres.database import Database, Reader, Record, Tx

logger = structlog.get_logger("outbox")

OUTBOX_TABLE = "plumbing.outbox"
MAX_LAG_COUNTED = 10_000
"""Beyond that many waiting events the exact number helps nobody."""
MAX_PRUNED_AT_ONCE = 10_000
"""Rows of the default partition deleted in one transaction; days are dropped whole."""


class Log(Struct, frozen=True):
    """A table that is read in commit-safe order, each subscriber with a cursor of its own.

    It has the outbox' columns `xid`, `position`, `event_id`, `type`, `subject`, `at`, `written_at` and `data`, an index
    of (xid, position), and is partitioned by days (see `partitions`), of whichever column.
    """

    table: str
    """`schema.name`."""
    read: Callable[[Record], Any]
    """Makes what handlers get of a row: `event_id`, `type`, `subject`, `at`, `request_id`, and `data` as text."""

    def __post_init__(self) -> None:
        """Names cannot be parameters of statements."""
        assert partitions.is_table(self.table), self.table

    def sql(self, statement: str, table: str | None = None) -> str:
        """Return `statement`, which is written for the outbox, for this log; or for `table`, one partition of it."""
        if self.table != OUTBOX_TABLE:
            # Only the outbox knows of requests.
            statement = statement.replace("event.request_id", "NULL::text AS request_id")
        return statement.replace(OUTBOX_TABLE, table or self.table)


class Lag(Struct, frozen=True):
    """How far a subscriber is behind."""

    log: str
    """The table it reads."""
    subscription: str
    events: int
    """Counted up to `MAX_LAG_COUNTED`."""
    seconds: float
    """Age of the oldest event that waits."""
    failed: int
    """Dead letters that wait for a person."""
    unread: int
    """Those that wait for a newer release."""


async def forget(tx: Tx, name: str) -> None:
    """Drop the cursor of a subscriber that is gone for good, and what it could not handle.

    As long as the cursor stands, the events behind it are kept.
    """
    await tx.execute(
        """
        WITH letters AS (
            DELETE FROM plumbing.dead_letters
            WHERE subscription = $1
        )
        DELETE FROM plumbing.cursors
        WHERE subscription = $1
        """,
        name,
    )


async def lag(reader: Reader, log: Log) -> list[Lag]:
    """Return how far each subscriber of `log` is behind, by name."""
    rows = await reader.fetch(
        log.sql(
            """
            SELECT cursor.subscription,
                   (SELECT count(*)
                    FROM (SELECT
                          FROM plumbing.outbox AS waiting
                          WHERE (waiting.xid, waiting.position) > (cursor.xid, cursor.position)
                          ORDER BY waiting.xid, waiting.position
                          LIMIT $1) AS counted) AS events,
                   coalesce((SELECT extract(epoch FROM clock_timestamp() - waiting.written_at)
                             FROM plumbing.outbox AS waiting
                             WHERE (waiting.xid, waiting.position) > (cursor.xid, cursor.position)
                             ORDER BY waiting.xid, waiting.position
                             LIMIT 1), 0)::float8 AS seconds,
                   (SELECT count(*)
                    FROM plumbing.dead_letters AS letter
                    WHERE letter.subscription = cursor.subscription
                      AND letter.reason = 'failed') AS failed,
                   (SELECT count(*)
                    FROM plumbing.dead_letters AS letter
                    WHERE letter.subscription = cursor.subscription
                      AND letter.reason = 'unread') AS unread
            FROM plumbing.cursors AS cursor
            WHERE cursor.log = $2
            ORDER BY cursor.subscription
            """
        ),
        MAX_LAG_COUNTED,
        log.table,
    )
    return [
        Lag(log.table, row["subscription"], row["events"], max(row["seconds"], 0.0), row["failed"], row["unread"])
        for row in rows
    ]


async def prepare(database: Database, now: datetime, log: Log) -> int:
    """Make the partitions of the days to come, and mend the order after a restore; return how many were made."""
    await mend_after_restore(database, log)
    return await partitions.make_days(database, log.table, now)


async def prune(database: Database, now: datetime, keep_days: int, log: Log) -> int:
    """Drop what is older than `keep_days` whole days and behind every cursor.

    Returns how many partitions were dropped or rows deleted. Raises `Unavailable` if the table could not be locked
    within a moment: ask again later.
    """
    first_kept = now.astimezone(UTC).date() - timedelta(days=keep_days)
    pruned = 0
    for day in await partitions.days(database, log.table):
        if day >= first_kept:
            break
        async with database.transaction() as tx:
            await partitions.lock_to_drop(tx, log.table)
            if not await _is_read(tx, day, log):
                break
            await partitions.drop_day(tx, log.table, day)
            pruned += 1
    return pruned + await _prune_default(database, first_kept, log)


async def mend_after_restore(database: Database, log: Log) -> int:
    """After a restore from a dump, order old events before new ones again; return how many, 0 if nothing was wrong.

    Transaction numbers belong to one Postgres server. On another, which counts from lower ones, old events would seem
    to lie in the future, and new ones before every cursor. No visible row can carry a number that the server has not
    reached, so this is noticed for certain. Everything from before the restore goes under number 1, in its old order,
    and the cursors with it.
    """
    if not await _is_restored(database, log):
        return 0
    async with database.transaction() as tx:
        await tx.execute("LOCK TABLE plumbing.cursors IN EXCLUSIVE MODE")
        old_until = await tx.fetchval(
            log.sql(
                """
                SELECT max(last.at)
                FROM (SELECT written_at AS at
                      FROM plumbing.outbox
                      WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
                      UNION ALL
                      SELECT moved_at
                      FROM plumbing.cursors
                      WHERE log = $1
                        AND xid >= pg_snapshot_xmax(pg_current_snapshot())) AS last
                """
            ),
            log.table,
        )
        if old_until is None:
            return 0
        return await _renumber(tx, old_until, log)


async def _is_restored(reader: Reader, log: Log) -> bool:
    found = await reader.fetchval(
        log.sql(
            """
            SELECT coalesce((SELECT TRUE
                             FROM plumbing.outbox AS event
                             WHERE event.xid >= pg_snapshot_xmax(pg_current_snapshot())
                             ORDER BY event.xid DESC, event.position DESC
                             LIMIT 1), FALSE)
                OR EXISTS (SELECT
                           FROM plumbing.cursors AS cursor
                           WHERE cursor.log = $1
                             AND cursor.xid >= pg_snapshot_xmax(pg_current_snapshot()))
            """
        ),
        log.table,
    )
    return bool(found)


async def _is_read(tx: Tx, day: date, log: Log) -> bool:
    """Say whether every subscriber has passed all events of `day`."""
    return not await tx.fetchval(
        log.sql(
            """
            SELECT EXISTS (SELECT
                           FROM (SELECT event.xid, event.position
                                 FROM plumbing.outbox AS event
                                 ORDER BY event.xid DESC, event.position DESC
                                 LIMIT 1) AS last
                           JOIN plumbing.cursors AS cursor
                                ON cursor.log = $1
                               AND (last.xid, last.position) > (cursor.xid, cursor.position))
            """,
            partitions.name_of(log.table, day),
        ),
        log.table,
    )


async def _prune_default(database: Database, first_kept: date, log: Log) -> int:
    async with database.transaction() as tx:
        deleted = await tx.fetchval(
            log.sql(
                """
                WITH old AS MATERIALIZED (
                    SELECT event.ctid AS place
                    FROM plumbing.outbox_default AS event
                    WHERE event.written_at < $1
                      AND NOT EXISTS (SELECT
                                      FROM plumbing.cursors AS cursor
                                      WHERE cursor.log = $3
                                        AND (event.xid, event.position) > (cursor.xid, cursor.position))
                    LIMIT $2
                ),
                deleted AS (
                    DELETE FROM plumbing.outbox_default AS event
                    USING old
                    WHERE event.ctid = old.place
                    RETURNING 1
                )
                SELECT count(*) FROM deleted
                """
            ),
            datetime.combine(first_kept, time(), UTC),
            MAX_PRUNED_AT_ONCE,
            log.table,
        )
    return int(deleted)


async def _renumber(tx: Tx, old_until: datetime, log: Log) -> int:
    mended = await tx.fetchval(
        log.sql(
            """
            WITH old AS MATERIALIZED (
                SELECT tableoid AS part, ctid AS spot, xid, position,
                       row_number() OVER (ORDER BY xid, position) AS place
                FROM plumbing.outbox
                WHERE written_at <= $1
                   OR xid >= pg_snapshot_xmax(pg_current_snapshot())
            ),
            cursors AS (
                UPDATE plumbing.cursors AS cursor
                SET xid = '1',
                    position = (SELECT count(*)
                                FROM old
                                WHERE (old.xid, old.position) <= (cursor.xid, cursor.position))
                WHERE cursor.log = $2
            ),
            events AS (
                UPDATE plumbing.outbox AS event
                SET xid = '1',
                    position = old.place
                FROM old
                WHERE event.tableoid = old.part
                  AND event.ctid = old.spot
                RETURNING 1
            )
            SELECT count(*) FROM events
            """
        ),
        old_until,
        log.table,
    )
    logger.warning("outbox.mended_after_restore", log=log.table, events=mended)
    return int(mended)
