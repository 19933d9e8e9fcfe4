"""Every statement that puts one shopper in another's place."""

from datetime import date

from msgspec import Struct

from growth.mechanics.referral.commission.model import Commission
from growth.mechanics.referral.commission.store.commissions import commission_of
from growth.plumbing.postgres.database import Reader, Tx


class Doubted(Struct, frozen=True, kw_only=True):
    """A commission that was put to review because two ids are one person's."""

    commission_id: str
    order_id: str
    inviter_id: str
    month: date
    amount_fen: int


async def rename(tx: Tx, old_user_id: str, user_id: str) -> list[Doubted]:
    """Make what the old id earns, and is earned by, the other's; return what has to be looked at now.

    That is what somebody would earn by an order of their own, or twice by one order, on both levels.
    """
    rows = await tx.fetch(
        """
        UPDATE referral.commissions AS commission
        SET inviter_id = renamed.new_inviter_id,
            invitee_id = renamed.new_invitee_id,
            state = CASE WHEN renamed.is_doubted THEN 'review' ELSE commission.state END,
            review_reasons = CASE WHEN renamed.is_doubted THEN '["same_person"]' ELSE commission.review_reasons END
        FROM (
            SELECT commission_id,
                CASE inviter_id WHEN $1 THEN $2 ELSE inviter_id END AS new_inviter_id,
                CASE invitee_id WHEN $1 THEN $2 ELSE invitee_id END AS new_invitee_id,
                state = 'pending'
                AND (
                    inviter_id IN ($1, $2) AND invitee_id IN ($1, $2)
                    OR level = 2
                    AND inviter_id IN ($1, $2)
                    AND EXISTS (
                        SELECT
                        FROM referral.commissions AS first
                        WHERE first.order_id = commissions.order_id
                          AND first.level = 1
                          AND first.inviter_id IN ($1, $2)
                    )
                ) AS is_doubted
            FROM referral.commissions
            WHERE inviter_id = $1
               OR invitee_id = $1
               OR level = 2
              AND inviter_id = $2
              AND EXISTS (
                    SELECT
                    FROM referral.commissions AS first
                    WHERE first.order_id = commissions.order_id
                      AND first.level = 1
                      AND first.inviter_id = $1
                )
            ORDER BY commission_id
            FOR NO KEY UPDATE
        ) AS renamed
        WHERE commission.commission_id = renamed.commission_id
        RETURNING commission.commission_id, commission.order_id, commission.inviter_id, commission.month,
            commission.amount_fen, renamed.is_doubted
        """,
        old_user_id,
        user_id,
    )
    return [
        Doubted(
            commission_id=row["commission_id"],
            order_id=row["order_id"],
            inviter_id=row["inviter_id"],
            month=row["month"],
            amount_fen=row["amount_fen"],
        )
        for row in rows
        if row["is_doubted"]
    ]


async def own(tx: Tx, user_id: str) -> list[str]:
    """Return what a shopper earns by orders of their own, and does not have yet."""
    rows = await tx.fetch(
        """
        SELECT commission_id
        FROM referral.commissions
        WHERE inviter_id = $1
          AND invitee_id = $1
          AND state IN ('pending', 'review')
        """,
        user_id,
    )
    return [row["commission_id"] for row in rows]


async def move_days(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Let what was granted to two ids of one person on a day count together: nobody has two caps."""
    await tx.execute(
        """
        WITH old AS (
            DELETE FROM referral.commission_days
            WHERE inviter_id = $1
            RETURNING day, fen
        )
        INSERT INTO referral.commission_days AS known (inviter_id, day, fen, granted_fen)
        SELECT $2, day, fen, 0
        FROM old
        ON CONFLICT (inviter_id, day) DO UPDATE
        SET fen = known.fen + excluded.fen, granted_fen = 0
        """,
        old_user_id,
        user_id,
    )


async def newest(reader: Reader, user_id: str, limit: int) -> list[Commission]:
    """Return the newest of what a shopper earns or is earned by."""
    rows = await reader.fetch(
        """
        SELECT commission_id, order_id, level, inviter_id, invitee_id, relation_id, program_id, terms_version, kind,
            basis_points, fixed_fen, available_after_days, cap_fen, granted_fen, paid_at, month, lines, is_kept,
            amount_fen, revision, state, received_at, due_at, available_at, judged_at, review_reasons, is_cleared,
            decision, created_at
        FROM referral.commissions
        WHERE inviter_id = $1
           OR invitee_id = $1
        ORDER BY commission_id DESC
        LIMIT $2
        """,
        user_id,
        limit,
    )
    return [commission_of(row) for row in rows]
