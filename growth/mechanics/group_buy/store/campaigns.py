"""Every statement on campaigns. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime

from growth.kit.campaign import store as campaigns
from growth.mechanics.group_buy.model import GROUP_BUYS, GroupBuy
from growth.plumbing.postgres.database import Reader, Tx

MAX_LISTED = 1_000
"""Campaigns that a process keeps on its board; the soonest to open come first."""


async def find_campaigns(reader: Reader, group_buy_ids: Sequence[str]) -> dict[str, GroupBuy]:
    """Return those of `group_buy_ids` that exist."""
    return await campaigns.find(reader, GROUP_BUYS, group_buy_ids)


async def visible_campaigns(reader: Reader, ended_after: datetime) -> list[GroupBuy]:
    """Return what shoppers may see: published, paused, and ended since `ended_after`; at most `MAX_LISTED`."""
    return await GROUP_BUYS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM group_buy.campaigns
        WHERE state IN ('published', 'paused')
           OR (state = 'ended' AND published_at IS NOT NULL AND closes_at > $1)
        ORDER BY opens_at, group_buy_id
        LIMIT $2
        """,
        ended_after,
        MAX_LISTED,
    )


async def raise_taken(tx: Tx, group_buy_id: str, now: datetime) -> bool:
    """Take one more unit, for who paid late; False if none is left or the campaign is not open."""
    raised: str | None = await tx.fetchval(
        """
        UPDATE group_buy.campaigns
        SET taken = taken + 1
        WHERE group_buy_id = $1
          AND state = 'published'
          AND taken < units_total
          AND $2 >= opens_at
          AND $2 < closes_at
        RETURNING group_buy_id
        """,
        group_buy_id,
        now,
    )
    return raised is not None


async def put_back(tx: Tx, units: dict[str, int]) -> None:
    """Put units back on sale, by campaign; the last lock that a transaction takes."""
    if not units:
        return
    ids = sorted(units)
    await tx.execute(
        """
        WITH locked AS MATERIALIZED (
            SELECT campaign.group_buy_id
            FROM group_buy.campaigns AS campaign
            WHERE campaign.group_buy_id = ANY ($1::uuid[])
            ORDER BY campaign.group_buy_id
            FOR NO KEY UPDATE
        )
        UPDATE group_buy.campaigns AS campaign
        SET taken = campaign.taken - back.units
        FROM unnest($1::uuid[], $2::int[]) AS back (group_buy_id, units)
        JOIN locked USING (group_buy_id)
        WHERE campaign.group_buy_id = back.group_buy_id
        """,
        ids,
        [units[group_buy_id] for group_buy_id in ids],
    )
