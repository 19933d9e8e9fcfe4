"""Every statement about all that one shopper has in group buys."""

from collections.abc import Sequence

from growth.plumbing.person import owned
from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.database import Reader, Record, Tx

HOLDINGS = Owned("group_buy.holdings", key=("group_buy_id",), adds=("seats",))


async def is_busy(tx: Tx, user_id: str) -> bool:
    """Say whether the shopper has a seat in a team that is not over, or is owed money for one."""
    is_busy: bool = await tx.fetchval(
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
    return is_busy


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
    await owned.rename(tx, HOLDINGS, old_user_id, user_id)
    await tx.execute(
        """
        UPDATE group_buy.seats
        SET user_id = $2,
            nickname = coalesce($3, nickname)
        WHERE user_id = $1
        """,
        old_user_id,
        user_id,
        nickname,
    )
