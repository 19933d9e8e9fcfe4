"""Every statement of spending."""

from datetime import datetime

from growth.plumbing.postgres import Record, Tx


async def add(tx: Tx, spend_id: str, user_id: str, points: int, transfer_id: str, now: datetime) -> bool:
    """Note that points are spent; False if this was noted before."""
    return bool(
        await tx.fetchval(
            """
            INSERT INTO ledger.spends (spend_id, user_id, points, transfer_id, spent_at)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (spend_id) DO NOTHING
            RETURNING TRUE
            """,
            spend_id,
            user_id,
            points,
            transfer_id,
            now,
        )
    )


async def find(tx: Tx, spend_id: str) -> Record | None:
    """Return a spending, locked."""
    return await tx.fetchrow(
        """
        SELECT spend_id, user_id, points, returned, transfer_id
        FROM ledger.spends
        WHERE spend_id = $1
        FOR NO KEY UPDATE
        """,
        spend_id,
    )


async def returned(tx: Tx, spend_id: str, return_id: str) -> int | None:
    """Return the points of a return that was noted before."""
    points: int | None = await tx.fetchval(
        """
        SELECT points
        FROM ledger.returns
        WHERE spend_id = $1
          AND return_id = $2
        """,
        spend_id,
        return_id,
    )
    return points


async def add_return(tx: Tx, spend_id: str, return_id: str, points: int, now: datetime) -> bool:
    """Note that points come back; False if that is more than is left of the spending."""
    return bool(
        await tx.fetchval(
            """
            WITH left_of AS (
                UPDATE ledger.spends
                SET returned = returned + $3
                WHERE spend_id = $1
                  AND returned + $3 <= points
                RETURNING spend_id
            )
            INSERT INTO ledger.returns (spend_id, return_id, points, returned_at)
            SELECT spend_id, $2, $3, $4
            FROM left_of
            RETURNING TRUE
            """,
            spend_id,
            return_id,
            points,
            now,
        )
    )


async def latest_end(tx: Tx, transfer_id: str) -> datetime | None:
    """Return when the last of the lots ends that a spending took from; None for never."""
    end: datetime | None = await tx.fetchval(
        """
        SELECT nullif(max(lot.expires_at), 'infinity')
        FROM ledger.takings AS taking
        JOIN ledger.lots AS lot USING (lot_id)
        WHERE taking.transfer_id = $1
        """,
        transfer_id,
    )
    return end


async def rename(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make one shopper's spendings another's."""
    await tx.execute(
        """
        UPDATE ledger.spends
        SET user_id = $2
        WHERE user_id = $1
        """,
        old_user_id,
        user_id,
    )
