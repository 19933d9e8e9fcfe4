"""Every statement about deliveries.

Rows are found by their whole key, one statement a row: what Postgres believes of a table that grows by the minute must
not decide whether it reads an index or a fortnight.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from growth.plumbing.postgres import Reader, Record, Tx
from growth.shop.webhook.model import Attempt, Delivery, Parcel

_encode = msgspec.json.Encoder().encode


class Fresh(Struct, frozen=True):
    """A delivery to be queued."""

    endpoint_id: str
    event_at: datetime
    event_id: str
    delivery_id: str
    type: str
    body: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What an attempt came to, to be written down."""

    parcel: Parcel
    attempt: Attempt
    state: str
    next_try_at: datetime | None


def _delivery(row: Record) -> Delivery:
    return msgspec.convert(dict(row), Delivery)


async def queue(tx: Tx, fresh: Sequence[Fresh], now: datetime) -> None:
    """Queue deliveries; those that are there already stay as they are."""
    await tx.execute(
        """
        INSERT INTO shop.webhook_deliveries
            (endpoint_id, event_at, event_id, delivery_id, type, body, next_try_at, queued_at)
        SELECT fresh.endpoint_id, fresh.event_at, fresh.event_id, fresh.delivery_id, fresh.type, fresh.body, $2, $2
        FROM json_to_recordset($1::json)
             AS fresh (endpoint_id uuid, event_at timestamptz, event_id uuid, delivery_id uuid, type text, body text)
        ON CONFLICT (endpoint_id, event_at, event_id) DO NOTHING
        """,
        _encode(fresh).decode(),
        now,
    )


async def queue_again(tx: Tx, fresh: Sequence[Fresh], now: datetime) -> int:
    """Queue deliveries, also those that have ended or wait; return how many. What is being sent right now is left."""
    queued = await tx.fetch(
        """
        INSERT INTO shop.webhook_deliveries AS known
            (endpoint_id, event_at, event_id, delivery_id, type, body, next_try_at, queued_at)
        SELECT fresh.endpoint_id, fresh.event_at, fresh.event_id, fresh.delivery_id, fresh.type, fresh.body, $2, $2
        FROM json_to_recordset($1::json)
             AS fresh (endpoint_id uuid, event_at timestamptz, event_id uuid, delivery_id uuid, type text, body text)
        ON CONFLICT (endpoint_id, event_at, event_id) DO UPDATE
        SET state = 'pending', attempts = 0, next_try_at = $2, queued_at = $2, ended_at = NULL, is_leased = FALSE,
            fence = known.fence + 1
        WHERE NOT (known.is_leased AND known.next_try_at > $2)
        RETURNING known.event_id
        """,
        _encode(fresh).decode(),
        now,
    )
    return len(queued)


async def requeue(tx: Tx, endpoint_id: str, delivery_id: str, now: datetime) -> Delivery | None:
    """Queue one delivery again, unless it is being sent right now; None if there is none."""
    row = await tx.fetchrow(
        """
        UPDATE shop.webhook_deliveries AS known
        SET state = 'pending',
            attempts = CASE WHEN is_leased AND next_try_at > $3 THEN attempts ELSE 0 END,
            next_try_at = CASE WHEN is_leased AND next_try_at > $3 THEN next_try_at ELSE $3 END,
            fence = CASE WHEN is_leased AND next_try_at > $3 THEN fence ELSE fence + 1 END,
            is_leased = is_leased AND next_try_at > $3,
            queued_at = $3,
            ended_at = NULL
        WHERE endpoint_id = $1
          AND delivery_id = $2
        RETURNING delivery_id, event_id, type, event_at, state, attempts, next_try_at, queued_at, ended_at, log
        """,
        endpoint_id,
        delivery_id,
        now,
    )
    return None if row is None else _delivery(row)


async def lease(
    tx: Tx, busy: Mapping[str, int], slots: int, limit: int, now: datetime, until: datetime
) -> list[Parcel]:
    """Take what is due, up to `slots` for each enabled endpoint less those that are `busy`, as ours until `until`."""
    rows = await tx.fetch(
        """
        SELECT due.endpoint_id, due.event_at, due.event_id, due.type, due.body, due.attempts, due.fence + 1 AS fence,
            endpoint.url,
            ARRAY(SELECT known.secret
                  FROM shop.webhook_secrets AS known
                  WHERE known.endpoint_id = endpoint.endpoint_id
                    AND (known.good_until IS NULL OR known.good_until > $4)
                  ORDER BY known.made_at DESC) AS secrets
        FROM shop.webhook_endpoints AS endpoint
        LEFT JOIN json_each_text($1::json) AS busy
               ON busy.key = endpoint.endpoint_id::text
        CROSS JOIN LATERAL (
            SELECT delivery.endpoint_id, delivery.event_at, delivery.event_id, delivery.type, delivery.body,
                delivery.attempts, delivery.fence
            FROM shop.webhook_deliveries AS delivery
            WHERE delivery.endpoint_id = endpoint.endpoint_id
              AND delivery.state = 'pending'
              AND delivery.next_try_at <= $4
            ORDER BY delivery.next_try_at
            LIMIT greatest($2 - coalesce(busy.value::int, 0), 0)
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS due
        WHERE endpoint.state = 'enabled'
        LIMIT $3
        """,
        _encode(busy).decode(),
        slots,
        limit,
        now,
    )
    await tx.executemany(
        """
        UPDATE shop.webhook_deliveries
        SET fence = $4, next_try_at = $5, is_leased = TRUE
        WHERE endpoint_id = $1
          AND event_at = $2
          AND event_id = $3
        """,
        [(row["endpoint_id"], row["event_at"], row["event_id"], row["fence"], until) for row in rows],
    )
    return [Parcel(**row) for row in rows]


async def write_down(tx: Tx, outcomes: Sequence[Outcome], max_log: int) -> None:
    """Keep what attempts came to; one whose lease is somebody else's by now changes nothing."""
    await tx.executemany(
        """
        UPDATE shop.webhook_deliveries
        SET state = $5,
            next_try_at = $6,
            ended_at = CASE WHEN $5 = 'pending' THEN NULL ELSE $7::timestamptz END,
            attempts = attempts + 1,
            is_leased = FALSE,
            log = CASE WHEN jsonb_array_length(log) >= $9 THEN log - 0 ELSE log END || $8::jsonb
        WHERE endpoint_id = $1
          AND event_at = $2
          AND event_id = $3
          AND state = 'pending'
          AND fence = $4
        """,
        [
            (
                outcome.parcel.endpoint_id,
                outcome.parcel.event_at,
                outcome.parcel.event_id,
                outcome.parcel.fence,
                outcome.state,
                outcome.next_try_at,
                outcome.attempt.at,
                [outcome.attempt],
                max_log,
            )
            for outcome in outcomes
        ],
    )


async def give_back(tx: Tx, parcels: Sequence[Parcel], now: datetime) -> None:
    """Make what was taken and not sent due again at once."""
    await tx.executemany(
        """
        UPDATE shop.webhook_deliveries
        SET next_try_at = $5, is_leased = FALSE
        WHERE endpoint_id = $1
          AND event_at = $2
          AND event_id = $3
          AND state = 'pending'
          AND fence = $4
          AND is_leased
        """,
        [(parcel.endpoint_id, parcel.event_at, parcel.event_id, parcel.fence, now) for parcel in parcels],
    )


async def page_of_deliveries(
    reader: Reader,
    endpoint_id: str,
    *,
    state: str | None,
    type_: str | None,
    since: datetime | None,
    until: datetime | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[Delivery]:
    """Return deliveries of an endpoint, by when their events happened, newest first."""
    before_at, before_id = before or (None, None)
    rows = await reader.fetch(
        """
        SELECT delivery_id, event_id, type, event_at, state, attempts, next_try_at, queued_at, ended_at, log
        FROM shop.webhook_deliveries
        WHERE endpoint_id = $1
          AND ($2::text IS NULL OR state = $2)
          AND ($3::text IS NULL OR type = $3)
          AND ($4::timestamptz IS NULL OR event_at >= $4)
          AND ($5::timestamptz IS NULL OR event_at < $5)
          AND ($6::timestamptz IS NULL OR (event_at, event_id) < ($6, $7::uuid))
        ORDER BY event_at DESC, event_id DESC
        LIMIT $8
        """,
        endpoint_id,
        state,
        type_,
        since,
        until,
        before_at,
        before_id,
        limit,
    )
    return [_delivery(row) for row in rows]


async def waiting(reader: Reader, now: datetime, max_counted: int) -> tuple[int, float]:
    """Return how many deliveries of enabled endpoints wait (up to `max_counted`) and how overdue the oldest is, in s.

    What waits for its next try is counted, and is not overdue.
    """
    row = await reader.fetchrow(
        """
        SELECT coalesce(sum(queue.deliveries), 0)::int AS deliveries,
               coalesce(extract(epoch FROM $1 - min(queue.oldest)), 0)::float8 AS seconds
        FROM shop.webhook_endpoints AS endpoint
        CROSS JOIN LATERAL (
            SELECT count(*) AS deliveries, min(counted.next_try_at) FILTER (WHERE NOT counted.is_leased) AS oldest
            FROM (
                SELECT delivery.next_try_at, delivery.is_leased
                FROM shop.webhook_deliveries AS delivery
                WHERE delivery.endpoint_id = endpoint.endpoint_id
                  AND delivery.state = 'pending'
                ORDER BY delivery.next_try_at
                LIMIT $2
            ) AS counted
        ) AS queue
        WHERE endpoint.state = 'enabled'
        """,
        now,
        max_counted,
    )
    assert row is not None, "an aggregate has a row"
    return row["deliveries"], max(row["seconds"], 0.0)


async def prune_default(tx: Tx, before: datetime, limit: int) -> int:
    """Forget old deliveries that are in no day's partition; return how many."""
    gone = await tx.fetch(
        """
        DELETE FROM shop.webhook_deliveries_default
        WHERE ctid = ANY (ARRAY(
            SELECT ctid
            FROM shop.webhook_deliveries_default
            WHERE event_at < $1
            LIMIT $2))
        RETURNING event_id
        """,
        before,
        limit,
    )
    return len(gone)
