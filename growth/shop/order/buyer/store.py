"""Every statement about all that the shop told of one shopper."""

from collections.abc import Sequence

from growth.plumbing.postgres.database import Reader, Record, Tx


async def orders(reader: Reader, user_id: str, limit: int) -> Sequence[Record]:
    """Return the shopper's paid orders, newest first."""
    return await reader.fetch(
        """
        SELECT order_id, paid_at, paid_fen, received_at
        FROM shop.orders
        WHERE user_id = $1
          AND paid_at IS NOT NULL
        ORDER BY paid_at DESC, order_id
        LIMIT $2
        """,
        user_id,
        limit,
    )


async def forget(tx: Tx, user_id: str) -> None:
    """Delete how the shopper registered."""
    await tx.execute(
        """
        DELETE FROM shop.shoppers
        WHERE user_id = $1
        """,
        user_id,
    )


async def rename(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make the shopper's orders, and what was heard of the shopper, another's."""
    await tx.execute(
        """
        WITH events AS (
            UPDATE shop.events
            SET subject = $2
            WHERE subject = $1
              AND type = 'shopper.registered'
        )
        UPDATE shop.orders
        SET user_id = $2
        WHERE user_id = $1
        """,
        old_user_id,
        user_id,
    )


async def pass_on(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make the registration the new id's; of two the earlier."""
    await tx.execute(
        """
        INSERT INTO shop.shoppers AS known (user_id, registered_at, source, device_id, address)
        SELECT $2, registered_at, source, device_id, address
        FROM shop.shoppers
        WHERE user_id = $1
        ON CONFLICT (user_id) DO UPDATE
        SET registered_at = excluded.registered_at,
            source = excluded.source,
            device_id = excluded.device_id,
            address = excluded.address
        WHERE excluded.registered_at < known.registered_at
        """,
        old_user_id,
        user_id,
    )
    await forget(tx, old_user_id)


async def owner_of(tx: Tx, order_id: str) -> str | None:
    """Return whose an order is, if that is known."""
    owner: str | None = await tx.fetchval("SELECT user_id FROM shop.orders WHERE order_id = $1", order_id)
    return owner
