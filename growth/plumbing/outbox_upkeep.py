"""Upkeep of the outbox: its partitions, how far readers are behind, and its order after a restore.

Where it asks whether there is a row, ORDER BY … LIMIT stands in place of EXISTS, for which Postgres prefers to scan the
whole table.
"""

from datetime import UTC, date, datetime, time, timedelta

import structlog
from msgspec import Struct

from growth.plumbing import partitions
from growth.plumbing.postgres import Database, Reader, Tx

log = structlog.get_logger("outbox")

TABLE = "plumbing.outbox"
MAX_LAG_COUNTED = 10_000
"""Beyond that many waiting events the exact number helps nobody."""
MAX_PRUNED_AT_ONCE = 10_000
"""Rows of the default partition deleted in one transaction; days are dropped whole."""


class Lag(Struct, frozen=True):
    """How far a subscriber is behind."""

    subscription: str
    events: int
    """Counted up to `MAX_LAG_COUNTED`."""
    seconds: float
    """Age of the oldest event that waits."""


async def forget(tx: Tx, name: str) -> None:
    """Drop the cursor of a subscriber that is gone for good: as long as it stands, the events behind it are kept."""
    await tx.execute(
        """
        DELETE FROM plumbing.cursors
        WHERE subscription = $1
        """,
        name,
    )


async def lag(reader: Reader) -> list[Lag]:
    """Return how far each subscriber is behind, by name."""
    rows = await reader.fetch(
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
                         LIMIT 1), 0)::float8 AS seconds
        FROM plumbing.cursors AS cursor
        ORDER BY cursor.subscription
        """,
        MAX_LAG_COUNTED,
    )
    return [Lag(row["subscription"], row["events"], max(row["seconds"], 0.0)) for row in rows]


async def prepare(database: Database, now: datetime) -> int:
    """Make the partitions of the days to come, and mend the order after a restore; return how many were made."""
    await mend_after_restore(database)
    return await partitions.make_days(database, TABLE, now)


async def prune(database: Database, now: datetime, keep_days: int) -> int:
    """Drop what is older than `keep_days` whole days and behind every cursor.

    Returns how many partitions were dropped or rows deleted. Raises `Unavailable` if the table could not be locked
    within a moment: ask again later.
    """
    first_kept = now.astimezone(UTC).date() - timedelta(days=keep_days)
    pruned = 0
    for day in await partitions.days(database, TABLE):
        if day >= first_kept:
            break
        async with database.transaction() as tx:
            await partitions.lock_to_drop(tx, TABLE)
            if not await _is_read(tx, day):
                break
            await partitions.drop_day(tx, TABLE, day)
            pruned += 1
    return pruned + await _prune_default(database, first_kept)


async def mend_after_restore(database: Database) -> int:
    """After a restore from a dump, order old events before new ones again; return how many, 0 if nothing was wrong.

    Transaction numbers belong to one Postgres server. On another, which counts from lower ones, old events would seem
    to lie in the future, and new ones before every cursor. No visible row can carry a number that the server has not
    reached, so this is noticed for certain. Everything from before the restore goes under number 1, in its old order,
    and the cursors with it.
    """
    if not await _is_restored(database):
        return 0
    async with database.transaction() as tx:
        await tx.execute("LOCK TABLE plumbing.cursors IN EXCLUSIVE MODE")
        old_until = await tx.fetchval(
            """
            SELECT max(last.at)
            FROM (SELECT written_at AS at
                  FROM plumbing.outbox
                  WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
                  UNION ALL
                  SELECT moved_at
                  FROM plumbing.cursors
                  WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())) AS last
            """
        )
        if old_until is None:
            return 0
        return await _renumber(tx, old_until)


async def _is_restored(reader: Reader) -> bool:
    found = await reader.fetchval(
        """
        SELECT coalesce((SELECT TRUE
                         FROM plumbing.outbox AS event
                         WHERE event.xid >= pg_snapshot_xmax(pg_current_snapshot())
                         ORDER BY event.xid DESC, event.position DESC
                         LIMIT 1), FALSE)
            OR EXISTS (SELECT
                       FROM plumbing.cursors AS cursor
                       WHERE cursor.xid >= pg_snapshot_xmax(pg_current_snapshot()))
        """
    )
    return bool(found)


async def _is_read(tx: Tx, day: date) -> bool:
    """Say whether every subscriber has passed all events of `day`."""
    return not await tx.fetchval(
        """
        SELECT EXISTS (SELECT
                       FROM (SELECT event.xid, event.position
                             FROM plumbing.outbox AS event
                             WHERE event.written_at >= $1
                               AND event.written_at < $2
                             ORDER BY event.xid DESC, event.position DESC
                             LIMIT 1) AS last
                       JOIN plumbing.cursors AS cursor
                            ON (last.xid, last.position) > (cursor.xid, cursor.position))
        """,
        datetime.combine(day, time(), UTC),
        datetime.combine(day + timedelta(days=1), time(), UTC),
    )


async def _prune_default(database: Database, first_kept: date) -> int:
    async with database.transaction() as tx:
        deleted = await tx.fetchval(
            """
            WITH old AS MATERIALIZED (
                SELECT event.ctid AS place
                FROM plumbing.outbox_default AS event
                WHERE event.written_at < $1
                  AND NOT EXISTS (SELECT
                                  FROM plumbing.cursors AS cursor
                                  WHERE (event.xid, event.position) > (cursor.xid, cursor.position))
                LIMIT $2
            ),
            deleted AS (
                DELETE FROM plumbing.outbox_default AS event
                USING old
                WHERE event.ctid = old.place
                RETURNING 1
            )
            SELECT count(*) FROM deleted
            """,
            datetime.combine(first_kept, time(), UTC),
            MAX_PRUNED_AT_ONCE,
        )
    return int(deleted)


async def _renumber(tx: Tx, old_until: datetime) -> int:
    mended = await tx.fetchval(
        """
        WITH old AS MATERIALIZED (
            SELECT event_id, written_at, xid, position, row_number() OVER (ORDER BY xid, position) AS place
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
        ),
        events AS (
            UPDATE plumbing.outbox AS event
            SET xid = '1',
                position = old.place
            FROM old
            WHERE event.event_id = old.event_id
              AND event.written_at = old.written_at
            RETURNING 1
        )
        SELECT count(*) FROM events
        """,
        old_until,
    )
    log.warning("outbox.mended_after_restore", events=mended)
    return int(mended)
