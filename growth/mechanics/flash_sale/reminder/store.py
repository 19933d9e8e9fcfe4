"""Every statement on reminders. Functions never commit; the service does."""

from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from growth.mechanics.flash_sale.reminder.model import MAX_LATE, MAX_WAITING, Reminder
from growth.plumbing.postgres.database import Reader, Tx


class DueReminder(Struct, frozen=True):
    """One shopper to be told."""

    sale_id: str
    user_id: str
    opens_at: datetime


async def lock_shopper(tx: Tx, user_id: str) -> None:
    """Let one shopper ask for one reminder at a time, so that each counts those before; ends with `tx`."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('flash_sale.reminders:' || $1, 0))", user_id)


async def add(tx: Tx, sale_id: str, user_id: str, now: datetime) -> bool:
    """Ask for a reminder of a sale that is yet to open, within the shopper's limit; False if that did not add one."""
    added = await tx.fetchval(
        """
        INSERT INTO flash_sale.reminders (sale_id, user_id, asked_at)
        SELECT sale.sale_id, $2, $3
        FROM flash_sale.sales AS sale
        WHERE sale.sale_id = $1
          AND sale.state IN ('published', 'paused')
          AND sale.opens_at > $3
          AND (SELECT count(*)
               FROM flash_sale.reminders AS waiting
               JOIN flash_sale.sales AS awaited USING (sale_id)
               WHERE waiting.user_id = $2
                 AND waiting.sent_at IS NULL
                 AND awaited.state IN ('published', 'paused')
                 AND awaited.opens_at > $3) < $4
        ON CONFLICT (sale_id, user_id) DO NOTHING
        RETURNING sale_id
        """,
        sale_id,
        user_id,
        now,
        MAX_WAITING,
    )
    return added is not None


async def remove(tx: Tx, sale_id: str, user_id: str) -> bool:
    """Take a waiting reminder back; False if there is none. One that was sent stays, so that it is sent once."""
    removed = await tx.fetchval(
        """
        DELETE FROM flash_sale.reminders
        WHERE sale_id = $1
          AND user_id = $2
          AND sent_at IS NULL
        RETURNING sale_id
        """,
        sale_id,
        user_id,
    )
    return removed is not None


async def find(reader: Reader, sale_id: str, user_id: str) -> Reminder | None:
    """Return what there is of one shopper and one sale; None for a sale that shoppers do not know of."""
    row = await reader.fetchrow(
        """
        SELECT sale.state, sale.opens_at, sale.reminder_lead_seconds AS lead_seconds, reminder.asked_at,
            reminder.sent_at
        FROM flash_sale.sales AS sale
        LEFT JOIN flash_sale.reminders AS reminder ON reminder.sale_id = sale.sale_id
                                                  AND reminder.user_id = $2
        WHERE sale.sale_id = $1
          AND sale.state <> 'draft'
        """,
        sale_id,
        user_id,
    )
    return None if row is None else msgspec.convert(dict(row), Reminder)


async def send_due(tx: Tx, now: datetime, limit: int) -> list[DueReminder]:
    """Mark those whose time has come as sent and return them, the soonest to open first."""
    rows = await tx.fetch(
        """
        WITH due AS MATERIALIZED (
            SELECT reminder.sale_id, reminder.user_id, sale.opens_at
            FROM flash_sale.sales AS sale
            JOIN flash_sale.reminders AS reminder USING (sale_id)
            WHERE sale.state = 'published'
              AND sale.opens_at > $2
              AND sale.closes_at > $1
              AND sale.opens_at <= $1 + make_interval(secs => sale.reminder_lead_seconds)
              AND reminder.sent_at IS NULL
            ORDER BY sale.opens_at, reminder.sale_id, reminder.user_id
            LIMIT $3
            FOR UPDATE OF reminder SKIP LOCKED
        )
        UPDATE flash_sale.reminders AS reminder
        SET sent_at = $1
        FROM due
        WHERE reminder.sale_id = due.sale_id
          AND reminder.user_id = due.user_id
          AND reminder.sent_at IS NULL
        RETURNING due.sale_id, due.user_id, due.opens_at
        """,
        now,
        now - MAX_LATE,
        limit,
    )
    return [DueReminder(row["sale_id"], row["user_id"], row["opens_at"]) for row in rows]


async def forget(tx: Tx, now: datetime, keep: timedelta, limit: int) -> int:
    """Delete reminders of sales that ended longer ago than `keep`; return how many."""
    forgotten: int = await tx.fetchval(
        """
        WITH old AS MATERIALIZED (
            SELECT reminder.sale_id, reminder.user_id
            FROM flash_sale.sales AS sale
            JOIN flash_sale.reminders AS reminder USING (sale_id)
            WHERE sale.state = 'ended'
              AND sale.closes_at < $1
              AND sale.ended_at < $1
            LIMIT $2
        ),
        forgotten AS (
            DELETE FROM flash_sale.reminders AS reminder
            USING old
            WHERE reminder.sale_id = old.sale_id
              AND reminder.user_id = old.user_id
            RETURNING 1
        )
        SELECT count(*) FROM forgotten
        """,
        now - keep,
        limit,
    )
    return forgotten
