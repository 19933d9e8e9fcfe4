"""Every statement about all that one shopper has in group buys."""

from collections.abc import Sequence

from growth.plumbing.postgres.database import Reader, Record, Tx


async def is_busy(tx: Tx, user_id: str) -> bool:
    """Say whether the shopper has a seat in a team that is not over, or is owed money for one."""
    return bool(
        await tx.fetchval(
            """
            SELECT EXISTS (
                SELECT
                FROM group_buy.seats
                WHERE user_id = $1
                  AND state IN ('held', 'paid', 'refund_due')
            )
            """,
            user_id,
        )
    )


async def seats(reader: Reader, user_id: str, limit: int) -> Sequence[Record]:
    """Return the shopper's seats, newest first."""
    return await reader.fetch(
        """
        SELECT seat_id, team_id, group_buy_id, sku, price_fen, state, held_at, order_id, paid_at, ended_at
        FROM group_buy.seats
        WHERE user_id = $1
        ORDER BY seat_id DESC
        LIMIT $2
        """,
        user_id,
        limit,
    )


async def rename(tx: Tx, old_user_id: str, user_id: str, nickname: str | None) -> None:
    """Make the shopper's seats, and what they occupy, another's.

    With `nickname` that is what others see from now on.
    """
    await tx.execute(
        """
        WITH old AS (
            DELETE FROM group_buy.holdings
            WHERE user_id = $1
            RETURNING group_buy_id, seats
        ),
        added AS (
            INSERT INTO group_buy.holdings AS known (group_buy_id, user_id, seats)
            SELECT group_buy_id, $2, seats
            FROM old
            ON CONFLICT (group_buy_id, user_id) DO UPDATE
            SET seats = known.seats + excluded.seats
        )
        UPDATE group_buy.seats
        SET user_id = $2,
            nickname = coalesce($3, nickname)
        WHERE user_id = $1
        """,
        old_user_id,
        user_id,
        nickname,
    )
