"""Every SQL statement on the shoppers that the shop registered."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from growth.plumbing.postgres.database import Reader, Tx
from growth.shop.order.hooks import RegisteredData
from growth.shop.order.model import Registration


async def register(tx: Tx, data: RegisteredData) -> bool:
    """Keep a shopper who was not known. Return whether this is so."""
    is_new = await tx.fetchval(
        """
        INSERT INTO shop.shoppers (user_id, registered_at, source, device_id, address)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_id) DO NOTHING
        RETURNING true
        """,
        data.user_id,
        data.registered_at,
        data.source,
        data.device_id,
        data.address,
    )
    return bool(is_new)


async def reregister(tx: Tx, data: RegisteredData) -> datetime | None:
    """Keep another telling of a known shopper if it is the earliest. Return the time that was known before, if so."""
    was_registered_at: datetime | None = await tx.fetchval(
        """
        WITH known AS (
            SELECT registered_at, source, device_id, address
            FROM shop.shoppers
            WHERE user_id = $1
            FOR UPDATE
        )
        UPDATE shop.shoppers AS shopper
        SET registered_at = $2, source = $3, device_id = $4, address = $5
        FROM known
        WHERE shopper.user_id = $1
          -- The rest decides where two tell of the same instant, so that the order of arrival does not.
          AND ($2, coalesce($3, ''), coalesce($4, ''), coalesce($5, ''))
            < (known.registered_at, coalesce(known.source, ''), coalesce(known.device_id, ''),
               coalesce(known.address, ''))
        RETURNING known.registered_at
        """,
        data.user_id,
        data.registered_at,
        data.source,
        data.device_id,
        data.address,
    )
    return was_registered_at


async def registration(reader: Reader, user_ids: Sequence[str]) -> Mapping[str, Registration]:
    """Return all that the shop told of each shopper's registration; those it never told of are missing."""
    rows = await reader.fetch(
        """
        SELECT user_id, registered_at, source, device_id, address
        FROM shop.shoppers
        WHERE user_id = ANY ($1::text[])
        """,
        user_ids,
    )
    return {
        row["user_id"]: Registration(row["registered_at"], row["source"], row["device_id"], row["address"])
        for row in rows
    }


async def registered_at(reader: Reader, user_ids: Sequence[str]) -> Mapping[str, datetime]:
    """Return when each shopper registered; those the shop never told of are missing."""
    rows = await reader.fetch(
        """
        SELECT user_id, registered_at
        FROM shop.shoppers
        WHERE user_id = ANY ($1::text[])
        """,
        user_ids,
    )
    return {row["user_id"]: row["registered_at"] for row in rows}
