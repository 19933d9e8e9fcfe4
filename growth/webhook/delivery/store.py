"""Every statement about deliveries. Batches travel as one JSON text, and find their rows by the whole key.

A batch also says between which times its events happened, so that it opens the days it needs and no others; and it
says `next_try_at IS NOT NULL` where it means pending: by the other word Postgres, when it knows little of a day, would
take the short index of what is due, and read all of it for each row.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows
from growth.webhook.model import Attempt, Delivery, DeliveryDecision, DeliveryFilter, Parcel

_encode = msgspec.json.Encoder().encode


class Fresh(Struct, frozen=True):
    """A delivery to be queued."""

    endpoint_id: str
    event_at: datetime
    event_id: str
    delivery_id: str
    type: str
    body: str


class EndedAttempt(Struct, frozen=True):
    """An attempt that has ended, and what follows, to be written down."""

    parcel: Parcel
    attempt: Attempt
    verdict: DeliveryDecision


DELIVERIES = Rows(row=Delivery, expressions={"request_id": "body::json ->> 'requestid'"})


async def queue(tx: Tx, fresh: Sequence[Fresh], now: datetime) -> None:
    """Queue deliveries; those that are there already stay as they are."""
    await tx.execute(
        """
        INSERT INTO webhook.deliveries
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
        INSERT INTO webhook.deliveries AS known
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
    return await DELIVERIES.fetch_one(
        tx,
        """
        UPDATE webhook.deliveries AS known
        SET state = 'pending',
            attempts = CASE WHEN is_leased AND next_try_at > $3 THEN attempts ELSE 0 END,
            next_try_at = CASE WHEN is_leased AND next_try_at > $3 THEN next_try_at ELSE $3 END,
            fence = CASE WHEN is_leased AND next_try_at > $3 THEN fence ELSE fence + 1 END,
            is_leased = is_leased AND next_try_at > $3,
            queued_at = $3,
            ended_at = NULL
        WHERE endpoint_id = $1
          AND delivery_id = $2
        RETURNING kit.columns
        """,
        endpoint_id,
        delivery_id,
        now,
    )


async def lease(
    tx: Tx, busy: Mapping[str, int], slots: int, limit: int, now: datetime, until: datetime
) -> list[Parcel]:
    """Take what is due, up to `slots` for each enabled endpoint less those that are `busy`, as ours until `until`."""
    rows = await tx.fetch(
        """
        SELECT due.endpoint_id, due.event_at, due.event_id, due.type, due.body, due.attempts, due.fence + 1 AS fence,
            endpoint.url,
            ARRAY(SELECT known.secret
                  FROM webhook.secrets AS known
                  WHERE known.endpoint_id = endpoint.endpoint_id
                    AND (known.good_until IS NULL OR known.good_until > $4)
                  ORDER BY known.made_at DESC) AS secrets
        FROM webhook.endpoints AS endpoint
        LEFT JOIN json_each_text($1::json) AS busy
               ON busy.key = endpoint.endpoint_id::text
        CROSS JOIN LATERAL (
            SELECT delivery.endpoint_id, delivery.event_at, delivery.event_id, delivery.type, delivery.body,
                delivery.attempts, delivery.fence
            FROM webhook.deliveries AS delivery
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
    parcels = [Parcel(**row) for row in rows]
    if not parcels:
        return []
    await tx.execute(
        """
        UPDATE webhook.deliveries AS delivery
        SET fence = taken.fence, next_try_at = $2, is_leased = TRUE
        FROM json_to_recordset($1::json) AS taken (endpoint_id uuid, event_at timestamptz, event_id uuid, fence int)
        WHERE delivery.endpoint_id = taken.endpoint_id
          AND delivery.event_at = taken.event_at
          AND delivery.event_id = taken.event_id
          AND delivery.event_at BETWEEN $3 AND $4
        """,
        _places(parcels),
        until,
        *_span(parcels),
    )
    return parcels


async def write_down(tx: Tx, outcomes: Sequence[EndedAttempt], max_log: int) -> None:
    """Keep what attempts came to; one whose lease is somebody else's by now changes nothing."""
    await tx.execute(
        """
        UPDATE webhook.deliveries AS delivery
        SET state = told.state,
            next_try_at = told.next_try_at,
            ended_at = CASE WHEN told.state = 'pending' THEN NULL ELSE told.at END,
            attempts = delivery.attempts + 1,
            is_leased = FALSE,
            log = CASE WHEN jsonb_array_length(delivery.log) >= $2 THEN delivery.log - 0 ELSE delivery.log END
                || told.attempt
        FROM json_to_recordset($1::json)
             AS told (endpoint_id uuid, event_at timestamptz, event_id uuid, fence int, state text,
                      next_try_at timestamptz, at timestamptz, attempt jsonb)
        WHERE delivery.endpoint_id = told.endpoint_id
          AND delivery.event_at = told.event_at
          AND delivery.event_id = told.event_id
          AND delivery.event_at BETWEEN $3 AND $4
          AND delivery.next_try_at IS NOT NULL
          AND delivery.fence = told.fence
        """,
        _encode(
            [
                _place(outcome.parcel)
                | {
                    "state": outcome.verdict.state,
                    "next_try_at": outcome.verdict.next_try_at,
                    "at": outcome.attempt.at,
                    "attempt": outcome.attempt,
                }
                for outcome in outcomes
            ]
        ).decode(),
        max_log,
        *_span([outcome.parcel for outcome in outcomes]),
    )


async def give_back(tx: Tx, parcels: Sequence[Parcel], now: datetime) -> None:
    """Make what was taken and not sent due again at once."""
    await tx.execute(
        """
        UPDATE webhook.deliveries AS delivery
        SET next_try_at = $2, is_leased = FALSE
        FROM json_to_recordset($1::json) AS given (endpoint_id uuid, event_at timestamptz, event_id uuid, fence int)
        WHERE delivery.endpoint_id = given.endpoint_id
          AND delivery.event_at = given.event_at
          AND delivery.event_id = given.event_id
          AND delivery.event_at BETWEEN $3 AND $4
          AND delivery.is_leased
          AND delivery.fence = given.fence
        """,
        _places(parcels),
        now,
        *_span(parcels),
    )


def _span(parcels: Sequence[Parcel]) -> tuple[datetime, datetime]:
    """Return when the first and the last of their events happened."""
    return min(parcel.event_at for parcel in parcels), max(parcel.event_at for parcel in parcels)


def _place(parcel: Parcel) -> dict[str, object]:
    return {name: getattr(parcel, name) for name in ("endpoint_id", "event_at", "event_id", "fence")}


def _places(parcels: Sequence[Parcel]) -> str:
    """Return the keys of parcels as JSON: one argument, since the driver looks at each item of an array in Python."""
    return _encode([_place(parcel) for parcel in parcels]).decode()


async def page_of_deliveries(
    reader: Reader, endpoint_id: str, which: DeliveryFilter, before: tuple[datetime, str] | None, limit: int
) -> list[Delivery]:
    """Return deliveries of an endpoint, by when their events happened, newest first."""
    before_at, before_id = before or (None, None)
    return await DELIVERIES.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM webhook.deliveries
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
        which.state,
        which.type,
        which.since,
        which.until,
        before_at,
        before_id,
        limit,
    )


async def waiting(reader: Reader, now: datetime, max_counted: int) -> tuple[int, float]:
    """Return how many deliveries of enabled endpoints wait (up to `max_counted`) and how overdue the oldest is, in s.

    What waits for its next try is counted, and is not overdue.
    """
    row = await reader.fetchrow(
        """
        SELECT coalesce(sum(queue.deliveries), 0)::int AS deliveries,
               coalesce(extract(epoch FROM $1 - min(queue.oldest)), 0)::float8 AS seconds
        FROM webhook.endpoints AS endpoint
        CROSS JOIN LATERAL (
            SELECT count(*) AS deliveries, min(counted.next_try_at) FILTER (WHERE NOT counted.is_leased) AS oldest
            FROM (
                SELECT delivery.next_try_at, delivery.is_leased
                FROM webhook.deliveries AS delivery
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
        DELETE FROM webhook.deliveries_default
        WHERE ctid = ANY (ARRAY(
            SELECT ctid
            FROM webhook.deliveries_default
            WHERE event_at < $1
            LIMIT $2))
        RETURNING event_id
        """,
        before,
        limit,
    )
    return len(gone)
