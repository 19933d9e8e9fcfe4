"""Every statement by which names in Redis are compared."""

from collections.abc import Sequence
from datetime import datetime

from growth.plumbing.postgres.database import Reader


async def holdings_of(reader: Reader, sale_id: str, user_ids: Sequence[str]) -> dict[str, int]:
    """Return the units that each of `user_ids` occupies in a sale, 0 for who gave all back; strangers are left out."""
    rows = await reader.fetch(
        """
        SELECT user_id, units
        FROM flash_sale.holdings
        WHERE sale_id = $1
          AND user_id = ANY($2::text[])
        """,
        sale_id,
        user_ids,
    )
    return {row["user_id"]: row["units"] for row in rows}


async def allowed_of(reader: Reader, sale_id: str, user_ids: Sequence[str]) -> set[str]:
    """Return those of `user_ids` who are on a sale's allow-list."""
    rows = await reader.fetch(
        """
        SELECT user_id
        FROM flash_sale.allowed
        WHERE sale_id = $1
          AND user_id = ANY($2::text[])
        """,
        sale_id,
        user_ids,
    )
    return {row["user_id"] for row in rows}


async def lapses_of(reader: Reader, user_ids: Sequence[str]) -> list[tuple[str, int, datetime]]:
    """Return those of `user_ids` with lapsed holds: user id, how many, when the last."""
    rows = await reader.fetch(
        """
        SELECT user_id, lapses, last_lapsed_at
        FROM flash_sale.lapses
        WHERE user_id = ANY($1::text[])
        """,
        user_ids,
    )
    return [(row["user_id"], row["lapses"], row["last_lapsed_at"]) for row in rows]


async def lapses_after(reader: Reader, after: tuple[datetime, str], limit: int) -> list[tuple[str, int, datetime]]:
    """Return a page of shoppers with lapsed holds past `after` (when, who): user id, how many, when the last."""
    rows = await reader.fetch(
        """
        SELECT user_id, lapses, last_lapsed_at
        FROM flash_sale.lapses
        WHERE (last_lapsed_at, user_id) > ($1, $2)
        ORDER BY last_lapsed_at, user_id
        LIMIT $3
        """,
        *after,
        limit,
    )
    return [(row["user_id"], row["lapses"], row["last_lapsed_at"]) for row in rows]
