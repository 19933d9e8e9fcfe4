"""Every statement on coupons that orders make. Each step names the old state; who comes second finds nothing to do."""

from collections.abc import Sequence
from datetime import datetime

from growth.plumbing.postgres.database import Tx
from growth.rewards.coupon.model import CouponState
from growth.rewards.coupon.payment.model import CouponInOrder
from growth.rewards.coupon.store.coupons import COUPONS


async def find_for_order(tx: Tx, coupon_ids: Sequence[str], order_id: str) -> dict[str, CouponInOrder]:
    """Return the coupons named, and those that the order has, in the order of their ids."""
    rows = await tx.fetch(
        COUPONS.sql(
            """
        SELECT coupon.kit.columns, template.after_refund, coupon.lapsed_order_id
        FROM (
            SELECT coupon_id
            FROM unnest($1::uuid[]) AS named (coupon_id)
            UNION
            SELECT coupon_id
            FROM coupon.coupons
            WHERE order_id = $2
        ) AS asked
        JOIN coupon.coupons AS coupon ON coupon.coupon_id = asked.coupon_id
        JOIN coupon.templates AS template ON template.template_id = coupon.template_id
        ORDER BY coupon.coupon_id
        """
        ),
        list(coupon_ids),
        order_id,
    )
    return {
        row["coupon_id"]: CouponInOrder(COUPONS.read(row), row["after_refund"] == "stay_used", row["lapsed_order_id"])
        for row in rows
    }


async def lock(tx: Tx, coupon_id: str, order_id: str, user_id: str, placed_at: datetime, now: datetime) -> bool:
    """Give a shopper's coupon to an order placed within its time; False if it is not to be had."""
    locked: str | None = await tx.fetchval(
        """
        UPDATE coupon.coupons
        SET state = 'locked', order_id = $2, locked_at = $5, ended_at = NULL
        WHERE coupon_id = $1
          AND state IN ('issued', 'expired')
          AND user_id = $3
          AND valid_from <= $5
          AND valid_until > $4
        RETURNING coupon_id
        """,
        coupon_id,
        order_id,
        user_id,
        placed_at,
        now,
    )
    return locked is not None


async def use(tx: Tx, coupon_id: str, order_id: str, user_id: str, paid_fen: int, now: datetime) -> bool:
    """Note that a paid order used a coupon, which it had, or which no paid order has; False if it is not to be had."""
    used: str | None = await tx.fetchval(
        """
        UPDATE coupon.coupons
        SET state = 'used', order_id = $2, used_at = $5, paid_fen = $4, locked_at = NULL, ended_at = NULL
        WHERE coupon_id = $1
          AND (state = 'locked' AND order_id = $2 OR state IN ('issued', 'locked', 'expired') AND user_id = $3)
        RETURNING coupon_id
        """,
        coupon_id,
        order_id,
        user_id,
        paid_fen,
        now,
    )
    return used is not None


async def give_back(tx: Tx, coupon_id: str, order_id: str, now: datetime) -> CouponState | None:
    """Take a coupon from its order; return what it is now, None if the order does not have it."""
    state: CouponState | None = await tx.fetchval(
        """
        UPDATE coupon.coupons
        SET state = CASE
                WHEN revoked_at IS NOT NULL THEN 'voided'
                WHEN valid_until <= $3 THEN 'expired'
                ELSE 'issued' END,
            ended_at = CASE WHEN revoked_at IS NOT NULL OR valid_until <= $3 THEN $3 END,
            order_id = NULL, locked_at = NULL, used_at = NULL, paid_fen = NULL
        WHERE coupon_id = $1
          AND order_id = $2
          AND state IN ('locked', 'used')
        RETURNING state
        """,
        coupon_id,
        order_id,
        now,
    )
    return state


async def refunds_of_order(tx: Tx, order_id: str) -> dict[str, str]:
    """Return which lines of an order are to be paid back for their coupon, and why."""
    rows = await tx.fetch(
        """
        SELECT line_id, reason
        FROM coupon.refunds_required
        WHERE order_id = $1
        """,
        order_id,
    )
    return {row["line_id"]: row["reason"] for row in rows}


async def require_refund(
    tx: Tx, order_id: str, line_id: str, coupon_id: str, reason: str, amount_fen: int, now: datetime
) -> bool:
    """Note why a line is to be paid back; False if that is known."""
    noted: str | None = await tx.fetchval(
        """
        INSERT INTO coupon.refunds_required AS known (order_id, line_id, coupon_id, reason, amount_fen, at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (order_id, line_id) DO UPDATE
        SET reason = excluded.reason, coupon_id = excluded.coupon_id, amount_fen = excluded.amount_fen
        WHERE known.reason <> excluded.reason
        RETURNING line_id
        """,
        order_id,
        line_id,
        coupon_id,
        reason,
        amount_fen,
        now,
    )
    return noted is not None


async def owe_no_more(tx: Tx, order_id: str, coupon_id: str) -> None:
    """Forget why lines of an order were to be paid back for a coupon: the order has it after all."""
    await tx.execute(
        """
        DELETE FROM coupon.refunds_required
        WHERE order_id = $1
          AND coupon_id = $2
        """,
        order_id,
        coupon_id,
    )
