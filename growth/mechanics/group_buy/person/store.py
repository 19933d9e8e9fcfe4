"""Every statement about all that one shopper has in group buys."""

from collections.abc import Sequence

from growth.plumbing.postgres import Reader, Record, Tx


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
    """Make the shopper's seats another's; in a campaign where both have some, each keeps its own.

    With `nickname` that is what others see from now on.
    """
    await tx.execute(
        """
        WITH free AS MATERIALIZED (
            SELECT DISTINCT seat.group_buy_id
            FROM group_buy.seats AS seat
            WHERE seat.user_id = $1
              AND NOT EXISTS (
                  SELECT
                  FROM group_buy.holdings AS other
                  WHERE other.group_buy_id = seat.group_buy_id
                    AND other.user_id = $2
              )
        ),
        holdings AS (
            UPDATE group_buy.holdings AS holding
            SET user_id = $2
            FROM free
            WHERE holding.group_buy_id = free.group_buy_id
              AND holding.user_id = $1
        )
        UPDATE group_buy.seats AS seat
        SET user_id = $2,
            nickname = coalesce($3, seat.nickname)
        FROM free
        WHERE seat.group_buy_id = free.group_buy_id
          AND seat.user_id = $1
        """,
        old_user_id,
        user_id,
        nickname,
    )
