"""Every statement of the walks. Functions never commit; services do."""

from datetime import date

from growth.mechanics.checkin.streak.model import FEWEST_DAYS
from growth.mechanics.checkin.streak.store import CheckinShopper, shopper_of
from growth.plumbing.postgres.database import Tx


async def lock_walk(tx: Tx, walk: str, first: date) -> tuple[date, str]:
    """Return the day that a walk is at and the last shopper it looked at, locked; a new walk begins at `first`."""
    row = await tx.fetchrow(
        """
        INSERT INTO checkin.walks (walk, day)
        VALUES ($1, $2)
        ON CONFLICT (walk) DO UPDATE
        SET day = walks.day
        RETURNING day, after_user_id
        """,
        walk,
        first,
    )
    assert row is not None
    return row["day"], row["after_user_id"]


async def move_walk(tx: Tx, walk: str, day: date, after_user_id: str) -> None:
    """Note how far a walk has come."""
    await tx.execute(
        """
        UPDATE checkin.walks
        SET day = $2, after_user_id = $3
        WHERE walk = $1
        """,
        walk,
        day,
        after_user_id,
    )


async def end_of_page(tx: Tx, after_user_id: str, limit: int) -> tuple[str, int]:
    """Return the last of the next `limit` shoppers, and how many there are."""
    row = await tx.fetchrow(
        """
        SELECT coalesce(max(page.user_id), '') AS last, count(*) AS shoppers
        FROM (
            SELECT user_id
            FROM checkin.states
            WHERE user_id > $1
            ORDER BY user_id
            LIMIT $2
        ) AS page
        """,
        after_user_id,
        limit,
    )
    assert row is not None
    return row["last"], row["shoppers"]


async def end_of_page_to_remind(tx: Tx, after_user_id: str, limit: int) -> tuple[str, int]:
    """Return the last of the next `limit` shoppers who want to be reminded, and how many there are."""
    row = await tx.fetchrow(
        """
        SELECT coalesce(max(page.user_id), '') AS last, count(*) AS shoppers
        FROM (
            SELECT user_id
            FROM checkin.states
            WHERE user_id > $1
              AND wants_reminder
            ORDER BY user_id
            LIMIT $2
        ) AS page
        """,
        after_user_id,
        limit,
    )
    assert row is not None
    return row["last"], row["shoppers"]


async def lock_lapsing(
    tx: Tx, after: str, until: str, last_day_from: date, last_day_before: date
) -> list[CheckinShopper]:
    """Return shoppers of a page whose streak has its last day in a range, locked until `tx` ends."""
    rows = await tx.fetch(
        """
        SELECT user_id, last_day, last_counted, program_id, streak, run, position, longest, best, total, answer,
            answer_key, answered_at, judged_terms_id, wants_reminder, make_up_month, make_ups_used
        FROM checkin.states
        WHERE user_id > $1
          AND user_id <= $2
          AND streak >= $5
          AND last_day >= $3
          AND last_day < $4
        ORDER BY user_id
        FOR NO KEY UPDATE
        """,
        after,
        until,
        last_day_from,
        last_day_before,
        FEWEST_DAYS,
    )
    return [shopper_of(row) for row in rows]


async def at_risk(tx: Tx, after: str, until: str, last_day_from: date, today: date) -> list[CheckinShopper]:
    """Return shoppers of a page who want to be reminded, and whose streak does not have today yet."""
    rows = await tx.fetch(
        """
        SELECT user_id, last_day, last_counted, program_id, streak, run, position, longest, best, total, answer,
            answer_key, answered_at, judged_terms_id, wants_reminder, make_up_month, make_ups_used
        FROM checkin.states
        WHERE user_id > $1
          AND user_id <= $2
          AND wants_reminder
          AND streak >= $5
          AND last_day >= $3
          AND last_day < $4
        ORDER BY user_id
        """,
        after,
        until,
        last_day_from,
        today,
        FEWEST_DAYS,
    )
    return [shopper_of(row) for row in rows]
