"""Every statement on templates. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from growth.plumbing.postgres.database import Reader, Record, Tx
from growth.rewards.coupon.template.model import CouponDraft, CouponTemplate

MAX_CLAIMABLE = 1_000
"""Templates that shoppers are shown; the newest come first."""


def _template(row: Record) -> CouponTemplate:
    return msgspec.convert(dict(row), CouponTemplate)


def _fields(draft: CouponDraft) -> list[object]:
    return [getattr(draft, name) for name in CouponDraft.__struct_fields__]


async def add_template(tx: Tx, template_id: str, draft: CouponDraft, now: datetime) -> CouponTemplate:
    """Insert a draft."""
    row = await tx.fetchrow(
        """
        INSERT INTO coupon.templates (
            template_id, created_at, title, description, discount, threshold_fen, skus, validity, after_refund,
            units_total, units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at,
            expiring_days)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        RETURNING template_id, title, description, discount, threshold_fen, skus, validity, after_refund, units_total,
            units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at, expiring_days,
            issued, codes_left, taken_day, taken_on_day, state, version, created_at, published_at, ended_at
        """,
        template_id,
        now,
        *_fields(draft),
    )
    assert row is not None
    return _template(row)


async def find_templates(reader: Reader, template_ids: Sequence[str]) -> dict[str, CouponTemplate]:
    """Return those of `template_ids` that exist."""
    rows = await reader.fetch(
        """
        SELECT template_id, title, description, discount, threshold_fen, skus, validity, after_refund, units_total,
            units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at, expiring_days,
            issued, codes_left, taken_day, taken_on_day, state, version, created_at, published_at, ended_at
        FROM coupon.templates
        WHERE template_id = ANY ($1::uuid[])
        """,
        list(template_ids),
    )
    return {row["template_id"]: _template(row) for row in rows}


async def lock_templates(tx: Tx, template_ids: Sequence[str]) -> dict[str, CouponTemplate]:
    """Return those of `template_ids` that exist, locked against new coupons and operators' changes until `tx` ends."""
    rows = await tx.fetch(
        """
        SELECT template_id, title, description, discount, threshold_fen, skus, validity, after_refund, units_total,
            units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at, expiring_days,
            issued, codes_left, taken_day, taken_on_day, state, version, created_at, published_at, ended_at
        FROM coupon.templates
        WHERE template_id = ANY ($1::uuid[])
        ORDER BY template_id
        FOR NO KEY UPDATE
        """,
        list(template_ids),
    )
    return {row["template_id"]: _template(row) for row in rows}


async def claimable_templates(reader: Reader, now: datetime) -> list[CouponTemplate]:
    """Return what shoppers may take, now or soon, newest first; at most `MAX_CLAIMABLE`."""
    rows = await reader.fetch(
        """
        SELECT template_id, title, description, discount, threshold_fen, skus, validity, after_refund, units_total,
            units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at, expiring_days,
            issued, codes_left, taken_day, taken_on_day, state, version, created_at, published_at, ended_at
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
    return [_template(row) for row in rows]


async def page_of_templates(
    reader: Reader, *, state: str | None, before: str | None, limit: int
) -> list[CouponTemplate]:
    """Return operators' templates, newest first, those made before the id `before`."""
    rows = await reader.fetch(
        """
        SELECT template_id, title, description, discount, threshold_fen, skus, validity, after_refund, units_total,
            units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at, expiring_days,
            issued, codes_left, taken_day, taken_on_day, state, version, created_at, published_at, ended_at
        FROM coupon.templates
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::uuid IS NULL OR template_id < $2)
        ORDER BY template_id DESC
        LIMIT $3
        """,
        state,
        before,
        limit,
    )
    return [_template(row) for row in rows]


async def change_template(tx: Tx, template_id: str, version: int, draft: CouponDraft) -> CouponTemplate | None:
    """Write an operator's edit if nobody edited since `version`; None if somebody did.

    The promise changes in drafts alone, and the quota never drops below what is given.
    """
    row = await tx.fetchrow(
        """
        UPDATE coupon.templates
        SET title = $3, description = $4,
            discount = CASE WHEN state = 'draft' THEN $5 ELSE discount END,
            threshold_fen = CASE WHEN state = 'draft' THEN $6 ELSE threshold_fen END,
            skus = CASE WHEN state = 'draft' THEN $7 ELSE skus END,
            validity = CASE WHEN state = 'draft' THEN $8 ELSE validity END,
            after_refund = CASE WHEN state = 'draft' THEN $9 ELSE after_refund END,
            units_total = $10, units_per_day = $11, max_per_shopper = $12, max_per_shopper_per_day = $13,
            claimable = $14, opens_at = $15, closes_at = $16, expiring_days = $17, version = version + 1
        WHERE template_id = $1
          AND version = $2
          AND state <> 'ended'
          AND issued + codes_left <= $10
        RETURNING template_id, title, description, discount, threshold_fen, skus, validity, after_refund, units_total,
            units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at, expiring_days,
            issued, codes_left, taken_day, taken_on_day, state, version, created_at, published_at, ended_at
        """,
        template_id,
        version,
        *_fields(draft),
    )
    return None if row is None else _template(row)


async def move_template(
    tx: Tx, template_id: str, from_states: Sequence[str], to_state: str, now: datetime
) -> CouponTemplate | None:
    """Take one step of the state machine; None if the template is in none of `from_states`."""
    row = await tx.fetchrow(
        """
        UPDATE coupon.templates
        SET state = $3,
            version = version + 1,
            published_at = CASE WHEN $3 = 'published' THEN coalesce(published_at, $4) ELSE published_at END,
            ended_at = CASE WHEN $3 = 'ended' THEN $4 ELSE ended_at END
        WHERE template_id = $1
          AND state = ANY ($2)
        RETURNING template_id, title, description, discount, threshold_fen, skus, validity, after_refund, units_total,
            units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at, expiring_days,
            issued, codes_left, taken_day, taken_on_day, state, version, created_at, published_at, ended_at
        """,
        template_id,
        list(from_states),
        to_state,
        now,
    )
    return None if row is None else _template(row)


async def end_stale_templates(tx: Tx, now: datetime, limit: int) -> list[CouponTemplate]:
    """End templates whose dates of validity are over: no coupon of them could be used."""
    rows = await tx.fetch(
        """
        UPDATE coupon.templates
        SET state = 'ended', ended_at = $1, version = version + 1
        WHERE template_id IN (
            SELECT template_id
            FROM coupon.templates
            WHERE state IN ('published', 'paused')
              AND (validity ->> 'valid_until')::timestamptz <= $1
            ORDER BY template_id
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED)
          AND state IN ('published', 'paused')
        RETURNING template_id, title, description, discount, threshold_fen, skus, validity, after_refund, units_total,
            units_per_day, max_per_shopper, max_per_shopper_per_day, claimable, opens_at, closes_at, expiring_days,
            issued, codes_left, taken_day, taken_on_day, state, version, created_at, published_at, ended_at
        """,
        now,
        limit,
    )
    return [_template(row) for row in rows]
