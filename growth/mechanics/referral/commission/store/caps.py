"""Every statement on the caps of inviters' days. Functions never commit; services do."""

from datetime import date

from growth.plumbing.postgres.database import Tx


async def take_room(
    tx: Tx, inviter_id: str, day: date, asked_fen: int, cap_fen: int, *, counted_fen: int | None, stands_fen: int
) -> int:
    """Return how much of what is asked the inviter's day has room for, and count that in place of what it counted.

    `counted_fen` is what the day counts of the commission, None if it never asked; `stands_fen` what that is worth: so
    much it keeps, if it still asks for it, however full the day is. A day that was pruned gives nobody more than it
    counted.
    """
    granted: int = await tx.fetchval(
        """
        INSERT INTO referral.commission_days AS known (inviter_id, day, fen, granted_fen)
        SELECT $1, $2, first.fen, first.fen
        FROM (SELECT least($3::bigint, coalesce($5::bigint, $4::bigint)) AS fen) AS first
        ON CONFLICT (inviter_id, day) DO UPDATE
        SET granted_fen = greatest(least($3, $6::bigint), least($3, $4 - greatest(0, known.fen - coalesce($5, 0))), 0),
            fen = greatest(0, known.fen - coalesce($5, 0))
                + greatest(least($3, $6::bigint), least($3, $4 - greatest(0, known.fen - coalesce($5, 0))), 0)
        RETURNING granted_fen
        """,
        inviter_id,
        day,
        asked_fen,
        cap_fen,
        counted_fen,
        stands_fen,
    )
    return granted


async def free_room(tx: Tx, inviter_id: str, day: date, fen: int) -> None:
    """Let an inviter's day count so much less."""
    await tx.execute(
        """
        UPDATE referral.commission_days
        SET fen = greatest(0, fen - $3), granted_fen = 0
        WHERE inviter_id = $1
          AND day = $2
        """,
        inviter_id,
        day,
        fen,
    )


async def prune_days(tx: Tx, before: date, limit: int) -> int:
    """Forget up to `limit` days of inviters before `before`; return how many."""
    forgotten = await tx.fetch(
        """
        DELETE FROM referral.commission_days
        WHERE (inviter_id, day) IN (
            SELECT inviter_id, day
            FROM referral.commission_days
            WHERE day < $1
            ORDER BY day
            LIMIT $2
            FOR UPDATE SKIP LOCKED)
        RETURNING 1
        """,
        before,
        limit,
    )
    return len(forgotten)
