"""Every SQL statement of the log that is not the outbox reader's own."""

from collections.abc import Sequence

import msgspec

from growth.events.model import Entry
from growth.plumbing.postgres import Reader

_encode = msgspec.json.Encoder().encode


async def write(database: Reader, entries: Sequence[Entry]) -> frozenset[int]:
    """Write what is new of `entries` with one statement; return the places, from 0, of those that were there already.

    Of two alike among `entries` the first is new. A statement is its own transaction: given the pool, what it wrote is
    committed when this returns; given a transaction, it must be the only call in it.
    """
    row = await database.fetchrow(
        """
        WITH told AS (
            SELECT (told.at AT TIME ZONE 'UTC')::date AS day, told.*
            FROM ROWS FROM (
                json_to_recordset($1::json)
                    AS (event_id text, type text, subject text, at timestamptz, data json)
            ) WITH ORDINALITY AS told (event_id, type, subject, at, data, place)
        ),
        written AS (
            INSERT INTO events.log (day, position, event_id, type, subject, at, data)
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
    )
    assert row is not None
    if row["new"] == len(entries):
        return frozenset()
    return frozenset(range(len(entries))) - {place - 1 for place in row["places"] or ()}
