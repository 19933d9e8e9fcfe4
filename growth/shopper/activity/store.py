"""Every SQL statement of the log that is not the outbox reader's own."""

from collections.abc import Sequence

import msgspec

from growth.plumbing.postgres.database import Reader, Tx
from growth.shopper.activity.model import Activity, Departure, LogEntry, read_activity

_encode = msgspec.json.Encoder().encode


async def write(
    database: Reader, entries: Sequence[LogEntry], stripes: Sequence[int] = (), known: int = 0
) -> frozenset[int]:
    """Write what is new of `entries` (deduplication); return the places, from 0, of those that were there already.

    Of duplicates within the batch the first is new. A statement is its own transaction: given the pool, what it wrote
    is committed when this returns; given a transaction, it must be the only call in it.

    `stripes` and `known` are what `plumbing.enter` shares the shoppers' locks by: it looks anew once it has them, so
    that nothing is committed under an id that changed hands.
    """
    row = await database.fetchrow(
        """
        WITH entered AS MATERIALIZED (
            SELECT activity.enter($3::integer[], $4)
        ),
        told AS (
            SELECT (told.at AT TIME ZONE 'UTC')::date AS day, told.*
            FROM ROWS FROM (
                json_to_recordset($1::json)
                    AS (event_id text, type text, subject text, at timestamptz, data json)
            ) WITH ORDINALITY AS told (event_id, type, subject, at, data, place)
            CROSS JOIN entered
        ),
        written AS (
            INSERT INTO activity.log (day, position, event_id, type, subject, at, data)
            SELECT day, place, event_id, type, subject, at, data
            FROM told
            -- The same order in every process: two that tell the same wait for each other, never in a circle.
            ORDER BY subject, event_id, day, place
            ON CONFLICT (subject, event_id, day) DO NOTHING
            RETURNING position
        )
        SELECT count(*) AS new,
               CASE WHEN count(*) < $2 THEN array_agg(position) END AS places
        FROM written
        """,
        # One argument: the driver looks at each item of an array in Python.
        _encode(entries).decode(),
        len(entries),
        stripes,
        known,
    )
    assert row is not None
    if row["new"] == len(entries):
        return frozenset()
    return frozenset(range(len(entries))) - {place - 1 for place in row["places"] or ()}


async def newest(reader: Reader, user_id: str, limit: int) -> list[Activity]:
    """Return what is kept of a shopper, newest first."""
    rows = await reader.fetch(
        """
        SELECT event_id, type, subject, at, written_at, data::text AS data
        FROM activity.log
        WHERE subject = $1
        ORDER BY at DESC, event_id
        LIMIT $2
        """,
        user_id,
        limit,
    )
    return [read_activity(row) for row in rows]


async def ask_departure(tx: Tx, departure: Departure) -> None:
    """Note that a shopper's activities are to be erased or moved, and with them those on their way to the shopper."""
    await tx.execute(
        """
        UPDATE activity.departures
        SET successor = $2
        WHERE successor = $1
          AND subject IS DISTINCT FROM $2
        """,
        departure.user_id,
        departure.successor,
    )
    # If B was merged into A, and A is now merged into B, cancel B's own move.
    await tx.execute("DELETE FROM activity.departures WHERE subject = $1", departure.successor)
    await tx.execute(
        """
        INSERT INTO activity.departures (subject, successor)
        VALUES ($1, $2)
        ON CONFLICT (subject) DO UPDATE
        SET successor = EXCLUDED.successor
        """,
        departure.user_id,
        departure.successor,
    )


async def next_departure(tx: Tx) -> Departure | None:
    """Return the departure that waits longest, locked until the transaction ends."""
    row = await tx.fetchrow(
        """
        SELECT subject, successor
        FROM activity.departures
        ORDER BY asked_at, subject
        LIMIT 1
        FOR UPDATE SKIP LOCKED
        """
    )
    return Departure(row["subject"], row["successor"]) if row else None


async def depart(tx: Tx, departure: Departure, limit: int) -> int:
    """Erase up to `limit` of a shopper's activities, or make them the successor's, where they stand; return how many.

    What the successor has under the same name stays as it is.
    """
    gone: int = await tx.fetchval(
        """
        WITH chosen AS MATERIALIZED (
            SELECT event_id, day
            FROM activity.log
            WHERE subject = $1
            LIMIT $3
        ),
        gone AS (
            DELETE FROM activity.log AS entry
            USING chosen
            WHERE entry.subject = $1
              AND entry.event_id = chosen.event_id
              AND entry.day = chosen.day
            RETURNING entry.*
        ),
        moved AS (
            INSERT INTO activity.log (day, xid, position, event_id, type, subject, at, written_at, data)
            SELECT day, xid, position, event_id, type, $2, at, written_at, data
            FROM gone
            WHERE $2::text IS NOT NULL
            ORDER BY event_id, day
            ON CONFLICT (subject, event_id, day) DO NOTHING
        )
        SELECT count(*)
        FROM gone
        """,
        departure.user_id,
        departure.successor,
        limit,
    )
    return gone


async def end_departure(tx: Tx, user_id: str) -> None:
    """Delete the departure of a shopper of whom nothing is left in the log."""
    await tx.execute("DELETE FROM activity.departures WHERE subject = $1", user_id)
