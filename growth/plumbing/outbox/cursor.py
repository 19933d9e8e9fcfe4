"""How far a subscriber of a log has read, and what comes next."""

from collections.abc import Sequence

from growth.plumbing.outbox.upkeep import Log
from growth.plumbing.postgres.database import Database, Reader, Record, Tx


async def news(reader: Reader, name: str, log: Log) -> Record:
    """Look without a lock: asking in vain costs no transaction number.

    ORDER BY … LIMIT stands in place of EXISTS, for which Postgres prefers to scan all that was read.
    """
    news = await reader.fetchrow(
        log.sql(
            """
            SELECT cursor.subscription IS NOT NULL AS known,
                   coalesce(cursor.xid >= pg_snapshot_xmax(pg_current_snapshot()), FALSE) AS restored,
                   coalesce((SELECT TRUE
                             FROM plumbing.outbox AS event
                             WHERE (event.xid, event.position)
                                 > (coalesce(cursor.xid, '0'), coalesce(cursor.position, 0))
                               AND event.xid < pg_snapshot_xmin(pg_current_snapshot())
                             ORDER BY event.xid, event.position
                             LIMIT 1), FALSE) AS waiting
            FROM (SELECT) AS always
            LEFT JOIN plumbing.cursors AS cursor
                   ON cursor.subscription = $1
            """
        ),
        name,
    )
    assert news is not None, "the left side always has a row"
    return news


async def introduce(database: Database, name: str, log: Log) -> None:
    """Make the cursor of a new subscription; committed by itself, so that nobody waits for a delivery to end."""
    await database.fetchval(
        """
        INSERT INTO plumbing.cursors (subscription, log)
        VALUES ($1, $2)
        ON CONFLICT (subscription) DO NOTHING
        """,
        name,
        log.table,
    )


async def lock_cursor(tx: Tx, name: str) -> Record | None:
    """Return the cursor, ours until the transaction ends; None while another process has it."""
    return await tx.fetchrow(
        """
        SELECT xid, position, parked_in_a_row, tries_alone
        FROM plumbing.cursors
        WHERE subscription = $1
        FOR UPDATE SKIP LOCKED
        """,
        name,
    )


async def read(tx: Tx, cursor: Record, types: frozenset[str] | None, max_events: int, log: Log) -> Sequence[Record]:
    """Read on, in order. Events that the subscriber did not ask for come without data: the cursor passes them too."""
    return await tx.fetch(
        log.sql(
            """
            SELECT xid,
                   position,
                   event_id,
                   type,
                   subject,
                   at,
                   written_at,
                   CASE WHEN $3::text[] IS NULL OR type = ANY ($3) THEN data::text END AS data,
                   event.request_id
            FROM plumbing.outbox AS event
            WHERE (xid, position) > ($1::xid8, $2)
              AND xid < pg_snapshot_xmin(pg_current_snapshot())
            ORDER BY xid, position
            LIMIT $4
            """
        ),
        cursor["xid"],
        cursor["position"],
        None if types is None else list(types),
        max_events,
    )


async def look_ahead(
    tx: Tx, cursor: Record, types: frozenset[str] | None, max_events: int, log: Log
) -> Sequence[Record]:
    """Read events that the subscriber asked for and that come behind the next one, as `read` does."""
    return await tx.fetch(
        log.sql(
            """
            SELECT xid,
                   position,
                   event_id,
                   type,
                   subject,
                   at,
                   written_at,
                   data::text AS data,
                   event.request_id
            FROM plumbing.outbox AS event
            WHERE (xid, position) > ($1::xid8, $2)
              AND xid < pg_snapshot_xmin(pg_current_snapshot())
              AND ($3::text[] IS NULL OR type = ANY ($3))
            ORDER BY xid, position
            OFFSET 1
            LIMIT $4
            """
        ),
        cursor["xid"],
        cursor["position"],
        None if types is None else list(types),
        max_events,
    )


async def count_try_alone(reader: Reader, name: str, cursor: Record) -> int:
    """Count a try of the one event behind `cursor`; return how many there were, 0 if another process is at it."""
    tries = await reader.fetchval(
        """
        WITH ours AS MATERIALIZED (
            SELECT subscription
            FROM plumbing.cursors
            WHERE subscription = $1
              AND xid = $2
              AND position = $3
            FOR UPDATE SKIP LOCKED
        )
        UPDATE plumbing.cursors AS cursor
        SET tries_alone = cursor.tries_alone + 1
        FROM ours
        WHERE cursor.subscription = ours.subscription
        RETURNING cursor.tries_alone
        """,
        name,
        cursor["xid"],
        cursor["position"],
    )
    return tries or 0


async def move_cursor(tx: Tx, name: str, last: Record, parked_in_a_row: int) -> None:
    """Pass all up to `last`."""
    await tx.execute(
        """
        UPDATE plumbing.cursors
        SET xid = $2,
            position = $3,
            parked_in_a_row = $4,
            tries_alone = 0,
            moved_at = now()
        WHERE subscription = $1
        """,
        name,
        last["xid"],
        last["position"],
        parked_in_a_row,
    )
