"""Every statement that puts one shopper in another's place."""

from growth.mechanics.referral.commission.model import Commission
from growth.mechanics.referral.commission.store.commissions import COMMISSIONS, DUE, DueCommission
from growth.plumbing.postgres.database import Reader, Tx


async def rename(tx: Tx, old_user_id: str, user_id: str) -> list[DueCommission]:
    """Make what the old id earns, and is earned by, the other's; return what has to be looked at now.

    That is what somebody would earn by an order of their own, or twice by one order, on both levels.
    """
    rows = await tx.fetch(
        DUE.sql(
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
        RETURNING commission.kit.columns, renamed.is_doubted
        """
        ),
        old_user_id,
        user_id,
    )
    return [DUE.read(row) for row in rows if row["is_doubted"]]


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
    return await COMMISSIONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE inviter_id = $1
           OR invitee_id = $1
        ORDER BY commission_id DESC
        LIMIT $2
        """,
        user_id,
        limit,
    )
