"""Every statement on templates. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import date, datetime

from growth.kit.campaign import store as campaigns
from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.coupon.template.model import TEMPLATES, CouponTemplate, TakenSoFar

MAX_CLAIMABLE = 1_000
"""Templates that shoppers are shown; the newest come first."""


async def find_templates(reader: Reader, template_ids: Sequence[str]) -> dict[str, CouponTemplate]:
    """Return those of `template_ids` that exist."""
    return await campaigns.find(reader, TEMPLATES, template_ids)


async def lock_templates(tx: Tx, template_ids: Sequence[str]) -> dict[str, CouponTemplate]:
    """Return those of `template_ids` that exist, locked against new coupons and operators' changes until `tx` ends."""
    return await TEMPLATES.fetch_by_id(
        tx,
        """
        SELECT kit.columns
        FROM coupon.templates
        WHERE template_id = ANY ($1::uuid[])
        ORDER BY template_id
        FOR NO KEY UPDATE
        """,
        list(template_ids),
    )


async def claimable_templates(reader: Reader, now: datetime) -> list[CouponTemplate]:
    """Return what shoppers may take, now or soon, newest first; at most `MAX_CLAIMABLE`."""
    return await TEMPLATES.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM coupon.templates
        WHERE state IN ('published', 'paused')
          AND claimable
          AND (closes_at IS NULL OR closes_at > $1)
        ORDER BY template_id DESC
        LIMIT $2
        """,
        now,
        MAX_CLAIMABLE,
    )


async def count_coupons(reader: Reader, template_id: str) -> dict[str, tuple[int, int]]:
    """Return how many coupons a template has and what was paid where they were used, by state."""
    rows = await reader.fetch(
        """
        SELECT state, count(*) AS coupons, coalesce(sum(paid_fen), 0)::bigint AS paid_fen
        FROM coupon.coupons
        WHERE template_id = $1
        GROUP BY state
        """,
        template_id,
    )
    return {row["state"]: (row["coupons"], row["paid_fen"]) for row in rows}


async def standings(reader: Reader, template_ids: Sequence[str], user_id: str, day: date) -> dict[str, TakenSoFar]:
    """Return what a shopper took, by template, where it took any."""
    rows = await reader.fetch(
        """
        SELECT template_id, taken, CASE WHEN day = $3 THEN taken_on_day ELSE 0 END AS taken_today
        FROM coupon.takings
        WHERE template_id = ANY ($1::uuid[])
          AND user_id = $2
        """,
        list(template_ids),
        user_id,
        day,
    )
    return {row["template_id"]: TakenSoFar(row["taken"], row["taken_today"]) for row in rows}
