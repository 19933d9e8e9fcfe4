"""Every SQL statement of the room. Functions never commit; the service does."""

from datetime import datetime

from growth.plumbing.postgres.database import Reader, Tx


async def take(tx: Tx, lucky_bag_id: str, user_id: str, now: datetime) -> bool:
    """Take a bag for a shopper who has none; False if none is left, or the campaign is not live."""
    taken = await tx.fetchval(
        """
        WITH bag AS (
            UPDATE lucky_bag.campaigns
            SET taken = taken + 1
            WHERE lucky_bag_id = $1
              AND state = 'published'
              AND closes_at > $3
              AND taken + 1 <= units_total
            RETURNING lucky_bag_id
        )
        INSERT INTO lucky_bag.openings (lucky_bag_id, user_id, opened_at)
        SELECT lucky_bag_id, $2, $3
        FROM bag
        RETURNING TRUE
        """,
        lucky_bag_id,
        user_id,
        now,
    )
    return taken is not None


async def opened_by(reader: Reader, user_id: str, lucky_bag_id: str | None = None) -> list[str]:
    """Return the campaigns of which a shopper opened a bag; or the one that is named, if so."""
    rows = await reader.fetch(
        """
        SELECT lucky_bag_id
        FROM lucky_bag.openings
        WHERE user_id = $1
          AND ($2::uuid IS NULL OR lucky_bag_id = $2)
        ORDER BY opened_at DESC
        LIMIT 100
        """,
        user_id,
        lucky_bag_id,
    )
    return [row["lucky_bag_id"] for row in rows]


async def rename(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Put one id in place of another; what both opened of one campaign stays two bags that were taken."""
    await tx.execute(
        """
        UPDATE lucky_bag.openings AS old
        SET user_id = $2
        WHERE user_id = $1
          AND NOT EXISTS (
              SELECT FROM lucky_bag.openings AS own
              WHERE own.lucky_bag_id = old.lucky_bag_id AND own.user_id = $2
          )
        """,
        old_user_id,
        user_id,
    )
    await tx.execute("UPDATE lucky_bag.openings SET user_id = 'merged:' || user_id WHERE user_id = $1", old_user_id)
