"""Every statement on campaigns. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from growth.mechanics.group_buy.model import GroupBuy, GroupBuyDraft
from growth.plumbing.postgres.database import Reader, Record, Tx

MAX_LISTED = 1_000
"""Campaigns that a process keeps on its board; the soonest to open come first."""


def _campaign(row: Record) -> GroupBuy:
    return msgspec.convert(dict(row), GroupBuy)


def _fields(draft: GroupBuyDraft) -> list[object]:
    return [getattr(draft, name) for name in GroupBuyDraft.__struct_fields__]


async def add_campaign(tx: Tx, group_buy_id: str, draft: GroupBuyDraft, now: datetime) -> GroupBuy:
    """Insert a draft."""
    row = await tx.fetchrow(
        """
        INSERT INTO group_buy.campaigns (
            group_buy_id, created_at, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers,
            team_hours, hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least,
            newcomers_at_least, late_payment, nudge_lead_seconds)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
        RETURNING group_buy_id, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers, team_hours,
            hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least, newcomers_at_least,
            late_payment, nudge_lead_seconds, state, version, taken, created_at, published_at, ended_at
        """,
        group_buy_id,
        now,
        *_fields(draft),
    )
    assert row is not None
    return _campaign(row)


async def find_campaigns(reader: Reader, group_buy_ids: Sequence[str]) -> dict[str, GroupBuy]:
    """Return those of `group_buy_ids` that exist."""
    rows = await reader.fetch(
        """
        SELECT group_buy_id, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers, team_hours,
            hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least, newcomers_at_least,
            late_payment, nudge_lead_seconds, state, version, taken, created_at, published_at, ended_at
        FROM group_buy.campaigns
        WHERE group_buy_id = ANY ($1::uuid[])
        """,
        list(group_buy_ids),
    )
    return {row["group_buy_id"]: _campaign(row) for row in rows}


async def lock_campaign(tx: Tx, group_buy_id: str) -> GroupBuy | None:
    """Return one campaign, locked against other operators' changes and against new seats until `tx` ends."""
    row = await tx.fetchrow(
        """
        SELECT group_buy_id, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers, team_hours,
            hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least, newcomers_at_least,
            late_payment, nudge_lead_seconds, state, version, taken, created_at, published_at, ended_at
        FROM group_buy.campaigns
        WHERE group_buy_id = $1
        FOR NO KEY UPDATE
        """,
        group_buy_id,
    )
    return None if row is None else _campaign(row)


async def visible_campaigns(reader: Reader, ended_after: datetime) -> list[GroupBuy]:
    """Return what shoppers may see: published, paused, and ended since `ended_after`; at most `MAX_LISTED`."""
    rows = await reader.fetch(
        """
        SELECT group_buy_id, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers, team_hours,
            hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least, newcomers_at_least,
            late_payment, nudge_lead_seconds, state, version, taken, created_at, published_at, ended_at
        FROM group_buy.campaigns
        WHERE state IN ('published', 'paused')
           OR (state = 'ended' AND published_at IS NOT NULL AND closes_at > $1)
        ORDER BY opens_at, group_buy_id
        LIMIT $2
        """,
        ended_after,
        MAX_LISTED,
    )
    return [_campaign(row) for row in rows]


async def page_of_campaigns(reader: Reader, *, state: str | None, before: str | None, limit: int) -> list[GroupBuy]:
    """Return operators' campaigns, newest first, those made before the id `before`."""
    rows = await reader.fetch(
        """
        SELECT group_buy_id, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers, team_hours,
            hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least, newcomers_at_least,
            late_payment, nudge_lead_seconds, state, version, taken, created_at, published_at, ended_at
        FROM group_buy.campaigns
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::uuid IS NULL OR group_buy_id < $2)
        ORDER BY group_buy_id DESC
        LIMIT $3
        """,
        state,
        before,
        limit,
    )
    return [_campaign(row) for row in rows]


async def change_campaign(tx: Tx, group_buy_id: str, version: int, draft: GroupBuyDraft) -> GroupBuy | None:
    """Write an operator's edit if nobody edited since `version`; None if somebody did."""
    row = await tx.fetchrow(
        """
        UPDATE group_buy.campaigns
        SET title = $3, sku = $4, list_price_fen = $5, price_fen = $6, leader_price_fen = $7, team_size = $8,
            tiers = $9, team_hours = $10, hold_seconds = $11, units_total = $12, max_per_shopper = $13, opens_at = $14,
            closes_at = $15, complete_at_least = $16, newcomers_at_least = $17, late_payment = $18,
            nudge_lead_seconds = $19, version = version + 1
        WHERE group_buy_id = $1
          AND version = $2
          AND state <> 'ended'
          AND taken <= $12
        RETURNING group_buy_id, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers, team_hours,
            hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least, newcomers_at_least,
            late_payment, nudge_lead_seconds, state, version, taken, created_at, published_at, ended_at
        """,
        group_buy_id,
        version,
        *_fields(draft),
    )
    return None if row is None else _campaign(row)


async def move_campaign(
    tx: Tx, group_buy_id: str, from_states: Sequence[str], to_state: str, now: datetime
) -> GroupBuy | None:
    """Take one step of the state machine; None if the campaign is in none of `from_states`."""
    row = await tx.fetchrow(
        """
        UPDATE group_buy.campaigns
        SET state = $3,
            version = version + 1,
            published_at = CASE WHEN $3 = 'published' THEN coalesce(published_at, $4) ELSE published_at END,
            ended_at = CASE WHEN $3 = 'ended' THEN $4 ELSE ended_at END
        WHERE group_buy_id = $1
          AND state = ANY ($2)
        RETURNING group_buy_id, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers, team_hours,
            hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least, newcomers_at_least,
            late_payment, nudge_lead_seconds, state, version, taken, created_at, published_at, ended_at
        """,
        group_buy_id,
        list(from_states),
        to_state,
        now,
    )
    return None if row is None else _campaign(row)


async def end_closed_campaigns(tx: Tx, closed_before: datetime, limit: int) -> list[GroupBuy]:
    """End campaigns whose window has closed."""
    rows = await tx.fetch(
        """
        UPDATE group_buy.campaigns
        SET state = 'ended', ended_at = closes_at, version = version + 1
        WHERE group_buy_id IN (
            SELECT group_buy_id
            FROM group_buy.campaigns
            WHERE state IN ('published', 'paused')
              AND closes_at < $1
            ORDER BY opens_at
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING group_buy_id, title, sku, list_price_fen, price_fen, leader_price_fen, team_size, tiers, team_hours,
            hold_seconds, units_total, max_per_shopper, opens_at, closes_at, complete_at_least, newcomers_at_least,
            late_payment, nudge_lead_seconds, state, version, taken, created_at, published_at, ended_at
        """,
        closed_before,
        limit,
    )
    return [_campaign(row) for row in rows]


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
