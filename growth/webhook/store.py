"""Every statement about endpoints and their secrets."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows
from growth.webhook.model import EndpointDraft, WebhookEndpoint


class SubscribedEndpoint(Struct, frozen=True):
    """An enabled endpoint, as far as what it asked for."""

    endpoint_id: str
    event_types: list[str]


ENDPOINTS = Rows(row=WebhookEndpoint)
SUBSCRIBED = Rows(row=SubscribedEndpoint)


async def add_endpoint(
    tx: Tx, endpoint_id: str, draft: EndpointDraft, limit: int, now: datetime
) -> WebhookEndpoint | None:
    """Keep a new endpoint; None if there are `limit` already."""
    # Two at once count one after the other.
    await tx.execute("LOCK TABLE webhook.endpoints IN SHARE ROW EXCLUSIVE MODE")
    return await ENDPOINTS.fetch_one(
        tx,
        """
        INSERT INTO webhook.endpoints (endpoint_id, url, event_types, description, state, created_at)
        SELECT $1, $2, $3, $4, 'enabled', $6
        WHERE (SELECT count(*) FROM webhook.endpoints) < $5
        RETURNING kit.columns
        """,
        endpoint_id,
        draft.url,
        draft.event_types,
        draft.description,
        limit,
        now,
    )


async def find_endpoint(reader: Reader, endpoint_id: str) -> WebhookEndpoint | None:
    """Return an endpoint."""
    return await ENDPOINTS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM webhook.endpoints
        WHERE endpoint_id = $1
        """,
        endpoint_id,
    )


async def lock_endpoint(tx: Tx, endpoint_id: str) -> WebhookEndpoint | None:
    """Return an endpoint that nobody else changes until the transaction ends."""
    return await ENDPOINTS.fetch_one(
        tx,
        """
        SELECT kit.columns
        FROM webhook.endpoints
        WHERE endpoint_id = $1
        FOR NO KEY UPDATE
        """,
        endpoint_id,
    )


async def page_of_endpoints(
    reader: Reader, *, state: str | None, before: str | None, limit: int
) -> list[WebhookEndpoint]:
    """Return endpoints, newest first."""
    return await ENDPOINTS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM webhook.endpoints
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::uuid IS NULL OR endpoint_id < $2)
        ORDER BY endpoint_id DESC
        LIMIT $3
        """,
        state,
        before,
        limit,
    )


async def change_endpoint(tx: Tx, endpoint_id: str, version: int, draft: EndpointDraft) -> WebhookEndpoint | None:
    """Write an operator's edit if nobody edited since `version`; None if somebody did."""
    return await ENDPOINTS.fetch_one(
        tx,
        """
        UPDATE webhook.endpoints
        SET url = $3, event_types = $4, description = $5, version = version + 1
        WHERE endpoint_id = $1
          AND version = $2
        RETURNING kit.columns
        """,
        endpoint_id,
        version,
        draft.url,
        draft.event_types,
        draft.description,
    )


async def enable(tx: Tx, endpoint_id: str) -> WebhookEndpoint | None:
    """Enable an endpoint, its failures forgotten; None if it is not disabled."""
    return await ENDPOINTS.fetch_one(
        tx,
        """
        UPDATE webhook.endpoints
        SET state = 'enabled', reason = NULL, disabled_at = NULL, failures = 0, failing_since = NULL,
            version = version + 1
        WHERE endpoint_id = $1
          AND state = 'disabled'
        RETURNING kit.columns
        """,
        endpoint_id,
    )


async def disable(
    tx: Tx, endpoint_id: str, reason: str, now: datetime, *, failing_before: datetime | None = None, failures: int = 0
) -> WebhookEndpoint | None:
    """Disable an endpoint; None if it is not enabled.

    With `failing_before` only one through which nothing has come since then, in so many attempts.
    """
    return await ENDPOINTS.fetch_one(
        tx,
        """
        UPDATE webhook.endpoints
        SET state = 'disabled', reason = $2, disabled_at = $3, version = version + 1
        WHERE endpoint_id = $1
          AND state = 'enabled'
          AND ($4::timestamptz IS NULL OR failing_since <= $4)
          AND failures >= $5
        RETURNING kit.columns
        """,
        endpoint_id,
        reason,
        now,
        failing_before,
        failures,
    )


async def delete_endpoint(tx: Tx, endpoint_id: str) -> None:
    """Forget an endpoint and its secrets. What was on its way to it stays until its day is dropped."""
    await tx.execute(
        """
        DELETE FROM webhook.endpoints
        WHERE endpoint_id = $1
        """,
        endpoint_id,
    )


async def note_failures(tx: Tx, endpoint_id: str, failures: int, since: datetime) -> None:
    """Count attempts that failed, the first of them at `since`."""
    await tx.execute(
        """
        UPDATE webhook.endpoints
        SET failures = failures + $2,
            failing_since = coalesce(failing_since, $3)
        WHERE endpoint_id = $1
        """,
        endpoint_id,
        failures,
        since,
    )


async def note_success(tx: Tx, endpoint_ids: Sequence[str]) -> None:
    """Something came through: nothing is written about endpoints that are well."""
    await tx.execute(
        """
        UPDATE webhook.endpoints
        SET failures = 0, failing_since = NULL
        WHERE endpoint_id IN (
            SELECT endpoint_id
            FROM webhook.endpoints
            WHERE endpoint_id = ANY ($1::uuid[])
              AND failing_since IS NOT NULL
            ORDER BY endpoint_id
            FOR NO KEY UPDATE)
        """,
        endpoint_ids,
    )


async def listeners(reader: Reader) -> list[SubscribedEndpoint]:
    """Return every enabled endpoint, and what it asked for."""
    return await SUBSCRIBED.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM webhook.endpoints
        WHERE state = 'enabled'
        ORDER BY endpoint_id
        """,
    )


async def add_secret(tx: Tx, endpoint_id: str, secret: str, now: datetime) -> None:
    """Keep the first secret of an endpoint."""
    await tx.execute(
        """
        INSERT INTO webhook.secrets (endpoint_id, made_at, secret)
        VALUES ($1, $2, $3)
        """,
        endpoint_id,
        now,
        secret,
    )


async def rotate_secret(
    tx: Tx, endpoint_id: str, secret: str, keep_until: datetime, max_secrets: int, now: datetime
) -> bool:
    """Put a secret in place of the current one, which stays good until `keep_until`; False if too many would be.

    The caller has locked the endpoint.
    """
    await tx.execute(
        """
        DELETE FROM webhook.secrets
        WHERE endpoint_id = $1
          AND (good_until <= $2 OR $3 <= $2)
        """,
        endpoint_id,
        now,
        keep_until,
    )
    await tx.execute(
        """
        UPDATE webhook.secrets
        SET good_until = $2
        WHERE endpoint_id = $1
          AND good_until IS NULL
        """,
        endpoint_id,
        keep_until,
    )
    added: Any = await tx.fetchval(
        """
        INSERT INTO webhook.secrets (endpoint_id, made_at, secret)
        SELECT $1, greatest($3, (SELECT max(made_at) + interval '1 microsecond'
                                 FROM webhook.secrets
                                 WHERE endpoint_id = $1)), $2
        WHERE (SELECT count(*) FROM webhook.secrets WHERE endpoint_id = $1) < $4
        RETURNING TRUE
        """,
        endpoint_id,
        secret,
        now,
        max_secrets,
    )
    return added is not None


async def first_secret(reader: Reader, endpoint_id: str) -> str | None:
    """Return the secret that an endpoint was made with, as long as it is the current one."""
    secret: str | None = await reader.fetchval(
        """
        SELECT known.secret
        FROM webhook.secrets AS known
        JOIN webhook.endpoints AS endpoint
             ON endpoint.endpoint_id = known.endpoint_id
            AND endpoint.created_at = known.made_at
        WHERE known.endpoint_id = $1
          AND known.good_until IS NULL
        """,
        endpoint_id,
    )
    return secret


async def secrets_of(reader: Reader, endpoint_id: str, now: datetime) -> list[str]:
    """Return the secrets that are good, the current one first."""
    rows = await reader.fetch(
        """
        SELECT secret
        FROM webhook.secrets
        WHERE endpoint_id = $1
          AND (good_until IS NULL OR good_until > $2)
        ORDER BY made_at DESC
        """,
        endpoint_id,
        now,
    )
    return [row["secret"] for row in rows]
