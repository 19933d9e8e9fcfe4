"""Every statement that the clock brings. Rows at work elsewhere are left for the next turn."""

from datetime import datetime

from msgspec import Struct

from growth.plumbing.postgres.database import Tx
from growth.rewards.coupon.model import Coupon, CouponState
from growth.rewards.coupon.store.coupons import COUPONS


async def expire(tx: Tx, ended_before: datetime, limit: int) -> list[Coupon]:
    """End unused coupons whose time is over, those over for longest first."""
    return await COUPONS.fetch_all(
        tx,
        """
        WITH due AS MATERIALIZED (
            SELECT coupon_id
            FROM coupon.coupons
            WHERE state = 'issued'
              AND valid_until < $1
            ORDER BY valid_until
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE coupon.coupons AS coupon
        SET state = 'expired', ended_at = coupon.valid_until
        FROM due
        WHERE coupon.coupon_id = due.coupon_id
          AND coupon.state = 'issued'
        RETURNING coupon.kit.columns
        """,
        ended_before,
        limit,
    )


async def mark_expiring(tx: Tx, now: datetime, limit: int) -> list[Coupon]:
    """Note, once for each unused coupon, that it is told to end soon."""
    return await COUPONS.fetch_all(
        tx,
        """
        WITH due AS MATERIALIZED (
            SELECT coupon_id
            FROM coupon.coupons
            WHERE state = 'issued'
              AND expiring_at IS NOT NULL
              AND expiring_at <= $1
            ORDER BY expiring_at
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE coupon.coupons AS coupon
        SET expiring_at = NULL
        FROM due
        WHERE coupon.coupon_id = due.coupon_id
          AND coupon.state = 'issued'
          AND coupon.expiring_at IS NOT NULL
        RETURNING coupon.kit.columns
        """,
        now,
        limit,
    )


class Lapsed(Struct, frozen=True):
    """A coupon that its order gave back, for nothing more was heard of it."""

    coupon_id: str
    template_id: str
    user_id: str
    order_id: str
    state: CouponState
    valid_until: datetime


async def lapse_locks(tx: Tx, locked_before: datetime, now: datetime, limit: int) -> list[Lapsed]:
    """Give coupons back that orders locked before `locked_before`, and have neither paid nor given back since."""
    rows = await tx.fetch(
        """
        WITH due AS MATERIALIZED (
            SELECT coupon_id, order_id
            FROM coupon.coupons
            WHERE state = 'locked'
              AND locked_at < $1
            ORDER BY locked_at
            LIMIT $3
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE coupon.coupons AS coupon
        SET state = CASE
                WHEN coupon.revoked_at IS NOT NULL THEN 'voided'
                WHEN coupon.valid_until <= $2 THEN 'expired'
                ELSE 'issued' END,
            ended_at = CASE WHEN coupon.revoked_at IS NOT NULL OR coupon.valid_until <= $2 THEN $2 END,
            lapsed_order_id = due.order_id, order_id = NULL, locked_at = NULL
        FROM due
        WHERE coupon.coupon_id = due.coupon_id
          AND coupon.state = 'locked'
        RETURNING coupon.coupon_id, coupon.template_id, coupon.user_id, due.order_id, coupon.state, coupon.valid_until
        """,
        locked_before,
        now,
        limit,
    )
    return [Lapsed(**dict(row)) for row in rows]
