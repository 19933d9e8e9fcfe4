"""Every statement about all that one shopper has in flash sales."""

from collections.abc import Sequence

from growth.plumbing.person import owned
from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.database import Reader, Record, Tx

CLAIMS = Owned("flash_sale.claims")
HOLDINGS = Owned("flash_sale.holdings", key=("sale_id",), adds=("units",))
ENTRIES = Owned("flash_sale.draw_entries")
REMINDERS = Owned("flash_sale.reminders", key=("sale_id",), carries=("asked_at", "sent_at"))
ALLOWED = Owned("flash_sale.allowed", key=("sale_id",))


async def is_busy(tx: Tx, user_id: str) -> bool:
    """Say whether the shopper has a stake in a sale that goes on: Redis knows it under this name."""
    is_busy: bool = await tx.fetchval(
        """
        SELECT EXISTS (
            SELECT
            FROM flash_sale.claims AS claim
            JOIN flash_sale.sales AS sale USING (sale_id)
            WHERE claim.user_id = $1
              AND (claim.state = 'held' OR claim.state = 'paid' AND sale.state <> 'ended')
        ) OR EXISTS (
            SELECT
            FROM flash_sale.draw_entries AS entry
            JOIN flash_sale.sales AS sale USING (sale_id)
            WHERE entry.user_id = $1
              AND sale.drawn_at IS NULL
              AND sale.state <> 'ended'
        )
        """,
        user_id,
    )
    return is_busy


async def claims(reader: Reader, user_id: str, limit: int) -> Sequence[Record]:
    """Return the shopper's claims, newest first."""
    return await reader.fetch(
        """
        SELECT claim_id, sale_id, sku, units, state, held_at, order_id, paid_at, ended_at
        FROM flash_sale.claims
        WHERE user_id = $1
        ORDER BY claim_id DESC
        LIMIT $2
        """,
        user_id,
        limit,
    )


async def reminders(reader: Reader, user_id: str, limit: int) -> list[str]:
    """Return the sales that the shopper waits to be reminded of."""
    rows = await reader.fetch(
        """
        SELECT sale_id
        FROM flash_sale.reminders
        WHERE user_id = $1
          AND sent_at IS NULL
        ORDER BY sale_id
        LIMIT $2
        """,
        user_id,
        limit,
    )
    return [row["sale_id"] for row in rows]


async def forget(tx: Tx, user_id: str) -> None:
    """Delete what need not stay: reminders, places on allow-lists, lapses."""
    await tx.execute(
        """
        WITH reminders AS (
            DELETE FROM flash_sale.reminders
            WHERE user_id = $1
        ),
        allowed AS (
            DELETE FROM flash_sale.allowed
            WHERE user_id = $1
        )
        DELETE FROM flash_sale.lapses
        WHERE user_id = $1
        """,
        user_id,
    )


async def rename(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make the shopper's claims, and what they occupy, another's. Of two entries to one draw the one that won stays."""
    await owned.rename(tx, HOLDINGS, old_user_id, user_id)
    await owned.rename(tx, CLAIMS, old_user_id, user_id)
    await tx.execute(
        """
        DELETE FROM flash_sale.draw_entries AS entry
        USING flash_sale.draw_entries AS other
        WHERE entry.sale_id = other.sale_id
          AND (entry.user_id = $1 AND other.user_id = $2 AND (entry.place IS NULL OR other.place IS NOT NULL)
               OR entry.user_id = $2 AND other.user_id = $1 AND entry.place IS NULL AND other.place IS NOT NULL)
        """,
        old_user_id,
        user_id,
    )
    await owned.rename(tx, ENTRIES, old_user_id, user_id)


async def pass_on(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make reminders, places on allow-lists and lapses another's, each once."""
    await owned.rename(tx, REMINDERS, old_user_id, user_id)
    await owned.rename(tx, ALLOWED, old_user_id, user_id)
    await tx.execute(
        """
        WITH old AS (
            DELETE FROM flash_sale.lapses
            WHERE user_id = $1
            RETURNING lapses, last_lapsed_at
        )
        INSERT INTO flash_sale.lapses AS known (user_id, lapses, last_lapsed_at)
        SELECT $2, lapses, last_lapsed_at
        FROM old
        ON CONFLICT (user_id) DO UPDATE
        SET lapses = known.lapses + excluded.lapses,
            last_lapsed_at = greatest(known.last_lapsed_at, excluded.last_lapsed_at)
        """,
        old_user_id,
        user_id,
    )
