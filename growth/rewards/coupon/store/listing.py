"""Every statement that lists and counts coupons."""

from datetime import date, datetime

from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.coupon.model import Coupon, CouponFilter
from growth.rewards.coupon.store.coupons import COUPONS


async def usable_coupons(reader: Reader, user_id: str, now: datetime, limit: int) -> list[Coupon]:
    """Return coupons that a shopper could use at `now`, the soonest to end first."""
    return await COUPONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM coupon.coupons
        WHERE user_id = $1
          AND state = 'issued'
          AND valid_from <= $2
          AND valid_until > $2
        ORDER BY valid_until, coupon_id
        LIMIT $3
        """,
        user_id,
        now,
        limit,
    )


async def coupons_of_shopper(
    reader: Reader,
    user_id: str,
    limit: int,
    *,
    state: str | None = None,
    now: datetime | None = None,
    before: tuple[datetime, str] | None = None,
) -> list[Coupon]:
    """Return a shopper's coupons, newest first; of a `state`, what has ended at `now` counts as expired at once."""
    return await COUPONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM coupon.coupons
        WHERE user_id = $1
          AND ($2::text IS NULL OR $2 = CASE WHEN state = 'issued' AND valid_until <= $3 THEN 'expired' ELSE state END)
          AND ($4::timestamptz IS NULL OR (issued_at, coupon_id) < ($4, $5::uuid))
        ORDER BY issued_at DESC, coupon_id DESC
        LIMIT $6
        """,
        user_id,
        state,
        now,
        None if before is None else before[0],
        None if before is None else before[1],
        limit,
    )


async def page_by_template(reader: Reader, which: CouponFilter, after: str | None, limit: int) -> list[Coupon]:
    """Return coupons of a template, or of all, in the order of their ids, past `after`.

    One look into the index for each template and state: a few locked coupons are found among millions of others. Rows
    are fetched for those alone that are shown.
    """
    return await COUPONS.fetch_all(
        reader,
        """
        WITH shown AS MATERIALIZED (
            SELECT found.coupon_id
            FROM coupon.templates AS template
            CROSS JOIN unnest($1::text[]) AS wanted (state)
            CROSS JOIN LATERAL (
                SELECT coupon.coupon_id
                FROM coupon.coupons AS coupon
                WHERE coupon.template_id = template.template_id
                  AND coupon.state = wanted.state
                  AND coupon.coupon_id > coalesce($3::uuid, '00000000-0000-0000-0000-000000000000')
                ORDER BY coupon.coupon_id
                LIMIT $4
            ) AS found
            WHERE $2::uuid IS NULL OR template.template_id = $2
            ORDER BY found.coupon_id
            LIMIT $4
        )
        SELECT kit.columns
        FROM shown
        JOIN coupon.coupons USING (coupon_id)
        ORDER BY coupon_id
        """,
        which.states,
        which.template_id,
        after,
        limit,
    )


async def page_of_all(reader: Reader, after: str | None, limit: int) -> list[Coupon]:
    """Return all coupons in the order of their ids, past `after`."""
    return await COUPONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM coupon.coupons
        WHERE coupon_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
        ORDER BY coupon_id
        LIMIT $2
        """,
        after,
        limit,
    )


async def page_by_shopper(reader: Reader, which: CouponFilter, after: str | None, limit: int) -> list[Coupon]:
    """Return one shopper's coupons in the order of their ids, past `after`."""
    return await COUPONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM coupon.coupons
        WHERE user_id = $1
          AND ($2::uuid IS NULL OR template_id = $2)
          AND state = ANY ($3)
          AND ($4::text IS NULL OR order_id = $4)
          AND ($5::uuid IS NULL OR coupon_id > $5)
        ORDER BY coupon_id
        LIMIT $6
        """,
        which.user_id,
        which.template_id,
        which.states,
        which.order_id,
        after,
        limit,
    )


async def page_by_order(reader: Reader, which: CouponFilter, after: str | None, limit: int) -> list[Coupon]:
    """Return the coupons that an order has, in the order of their ids, past `after`."""
    return await COUPONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM coupon.coupons
        WHERE order_id = $1
          AND ($2::uuid IS NULL OR template_id = $2)
          AND state = ANY ($3)
          AND ($4::uuid IS NULL OR coupon_id > $4)
        ORDER BY coupon_id
        LIMIT $5
        """,
        which.order_id,
        which.template_id,
        which.states,
        after,
        limit,
    )


async def takings_of_shopper(reader: Reader, user_id: str, limit: int) -> list[tuple[str, int]]:
    """Return how many a shopper took of which template."""
    rows = await reader.fetch(
        """
        SELECT template_id, taken
        FROM coupon.takings
        WHERE user_id = $1
        ORDER BY template_id
        LIMIT $2
        """,
        user_id,
        limit,
    )
    return [(row["template_id"], row["taken"]) for row in rows]


async def takings_remembered(reader: Reader, user_id: str) -> list[tuple[str, int, date, int]]:
    """Return how many a shopper took of templates that are not over: in all, and on which day last how many."""
    rows = await reader.fetch(
        """
        SELECT taking.template_id, taking.taken, taking.day, taking.taken_on_day
        FROM coupon.takings AS taking
        JOIN coupon.templates AS template USING (template_id)
        WHERE taking.user_id = $1
          AND template.state <> 'ended'
        """,
        user_id,
    )
    return [(row["template_id"], row["taken"], row["day"], row["taken_on_day"]) for row in rows]


async def rename_shopper(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Give one id's coupons and takings to another, in the order of locks: takings by template, coupons by id."""
    await tx.execute(
        """
        WITH gone AS (
            DELETE FROM coupon.takings
            WHERE user_id = $1
              AND user_id <> $2
            RETURNING template_id, taken, day, taken_on_day
        )
        INSERT INTO coupon.takings AS taking (template_id, user_id, taken, day, taken_on_day)
        SELECT template_id, $2, taken, day, taken_on_day
        FROM gone
        ORDER BY template_id
        ON CONFLICT (template_id, user_id) DO UPDATE
        SET taken = taking.taken + EXCLUDED.taken,
            taken_on_day = CASE
                WHEN taking.day = EXCLUDED.day THEN taking.taken_on_day + EXCLUDED.taken_on_day
                WHEN taking.day > EXCLUDED.day THEN taking.taken_on_day
                ELSE EXCLUDED.taken_on_day END,
            day = GREATEST(taking.day, EXCLUDED.day)
        """,
        old_user_id,
        user_id,
    )
    await tx.execute(
        """
        WITH theirs AS MATERIALIZED (
            SELECT coupon_id
            FROM coupon.coupons
            WHERE user_id = $1
            ORDER BY coupon_id
            FOR NO KEY UPDATE
        )
        UPDATE coupon.coupons AS coupon
        SET user_id = $2
        FROM theirs
        WHERE coupon.coupon_id = theirs.coupon_id
          AND coupon.user_id = $1
        """,
        old_user_id,
        user_id,
    )
