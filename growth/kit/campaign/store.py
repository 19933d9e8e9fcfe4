"""Every statement on campaigns that is the same for all kinds. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from growth.kit.campaign.model import C, CampaignKind, D
from growth.plumbing.postgres.database import Reader, Tx


async def add(tx: Tx, kind: CampaignKind[D, C], campaign_id: str, draft: D, now: datetime) -> C:
    """Insert a draft."""
    campaign = await kind.fetch_one(
        tx,
        """
        INSERT INTO kit.campaigns (kit.id, created_at, kit.draft)
        SELECT $1::uuid, $2::timestamptz, kit.draft
        FROM jsonb_populate_record(NULL::kit.campaigns, $3)
        RETURNING kit.columns
        """,
        campaign_id,
        now,
        kind.stored(draft),
    )
    assert campaign is not None, "nothing is in the way of a new id"
    return campaign


async def find(reader: Reader, kind: CampaignKind[D, C], campaign_ids: Sequence[str]) -> dict[str, C]:
    """Return those of `campaign_ids` that exist."""
    return await kind.fetch_by_id(
        reader,
        """
        SELECT kit.columns
        FROM kit.campaigns
        WHERE kit.id = ANY ($1::uuid[])
        """,
        list(campaign_ids),
    )


async def lock(tx: Tx, kind: CampaignKind[D, C], campaign_id: str) -> C | None:
    """Return one campaign, locked against other changes of its row until `tx` ends."""
    return await kind.fetch_one(
        tx,
        """
        SELECT kit.columns
        FROM kit.campaigns
        WHERE kit.id = $1
        FOR NO KEY UPDATE
        """,
        campaign_id,
    )


async def listing(reader: Reader, kind: CampaignKind[D, C], user_id: str) -> list[str]:
    """Return the ids of campaigns that name a shopper in a list."""
    rows = await reader.fetch(
        kind.sql(
            """
            SELECT kit.id AS campaign_id
            FROM kit.campaigns
            WHERE kit.audience @> jsonb_build_array(jsonb_build_object('user_ids', jsonb_build_array($1::text)))
            ORDER BY kit.id
            """
        ),
        user_id,
    )
    return [row["campaign_id"] for row in rows]


async def lock_audiences(tx: Tx, kind: CampaignKind[D, C], campaign_ids: Sequence[str]) -> dict[str, list[Any]]:
    """Return whom campaigns are for, their rows locked in one order."""
    rows = await tx.fetch(
        kind.sql(
            """
            SELECT kit.id AS campaign_id, kit.audience AS audience
            FROM kit.campaigns
            WHERE kit.id = ANY ($1::uuid[])
            ORDER BY kit.id
            FOR NO KEY UPDATE
            """
        ),
        list(campaign_ids),
    )
    return {row["campaign_id"]: row["audience"] for row in rows}


async def set_audience(tx: Tx, kind: CampaignKind[D, C], campaign_id: str, audience: object) -> None:
    """Write whom a locked campaign is for; its version grows, so that no memory of it stays old."""
    await tx.execute(
        kind.sql(
            """
            UPDATE kit.campaigns
            SET kit.put_audience, version = version + 1
            WHERE kit.id = $1
            """
        ),
        campaign_id,
        audience,
    )


async def page(
    reader: Reader, kind: CampaignKind[D, C], *, state: str | None, before: str | None, q: str | None, limit: int
) -> list[C]:
    """Return campaigns, newest first: those made before the id `before`, and with `q` in their titles."""
    return await kind.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM kit.campaigns
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::uuid IS NULL OR kit.id < $2)
          AND ($3::text IS NULL OR strpos(lower(kit.title), lower($3)) > 0)
        ORDER BY kit.id DESC
        LIMIT $4
        """,
        state,
        before,
        q,
        limit,
    )


async def change(tx: Tx, kind: CampaignKind[D, C], campaign_id: str, version: int, draft: D) -> C | None:
    """Write an edit if nobody edited since `version`; None if somebody did, or if the campaign has ended."""
    return await kind.fetch_one(
        tx,
        """
        UPDATE kit.campaigns AS campaign
        SET (kit.draft) = (
                SELECT kit.edited
                FROM jsonb_populate_record(NULL::kit.campaigns, $3) AS told),
            version = version + 1
        WHERE kit.id = $1
          AND version = $2
          AND state <> 'ended'
        RETURNING kit.columns
        """,
        campaign_id,
        version,
        kind.stored(draft),
    )


async def move(
    tx: Tx, kind: CampaignKind[D, C], campaign_id: str, from_states: Sequence[str], to_state: str, now: datetime
) -> C | None:
    """Take one step of the state machine; None if the campaign is in none of `from_states`."""
    return await kind.fetch_one(
        tx,
        """
        UPDATE kit.campaigns
        SET state = $3,
            version = version + 1,
            published_at = CASE WHEN $3 = 'published' THEN coalesce(published_at, $4) ELSE published_at END,
            ended_at = CASE WHEN $3 = 'ended' THEN $4 ELSE ended_at END
        WHERE kit.id = $1
          AND state = ANY ($2)
        RETURNING kit.columns
        """,
        campaign_id,
        list(from_states),
        to_state,
        now,
    )


async def end_over(tx: Tx, kind: CampaignKind[D, C], over_by: datetime, limit: int) -> list[C]:
    """End live campaigns whose time was over by an instant, as of the time when it was."""
    return await kind.fetch_all(
        tx,
        """
        UPDATE kit.campaigns
        SET state = 'ended', ended_at = kit.over, version = version + 1
        WHERE kit.id IN (
            SELECT kit.id
            FROM kit.campaigns
            WHERE state IN ('published', 'paused')
              AND kit.over <= $1
            ORDER BY kit.over
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED)
          AND state IN ('published', 'paused')
        RETURNING kit.columns
        """,
        over_by,
        limit,
    )
