"""Every statement on printed codes. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows
from growth.rewards.coupon.code.model import CodeBatch
from growth.rewards.coupon.store.coupons import Row


class Found(Struct, frozen=True):
    """A code that was made, and what became of it."""

    batch_id: str
    template_id: str
    coupon_id: str | None
    is_revoked: bool


BATCHES = Rows(row=CodeBatch)


async def add_batch(tx: Tx, batch: CodeBatch, hashes: Sequence[bytes]) -> bool:
    """Insert a batch and keep its units; False, with nothing changed, if the template has not as many left."""
    kept: str | None = await tx.fetchval(
        """
        UPDATE coupon.templates
        SET codes_left = codes_left + $2
        WHERE template_id = $1
          AND state IN ('draft', 'published', 'paused')
          AND issued + codes_left + $2 <= units_total
        RETURNING template_id
        """,
        batch.template_id,
        batch.codes,
    )
    if kept is None:
        return False
    await tx.execute(
        """
        WITH made AS (
            INSERT INTO coupon.code_batches (batch_id, template_id, name, codes, made_at)
            VALUES ($1, $2, $3, $4, $5)
        )
        INSERT INTO coupon.codes (code_hash, batch_id)
        SELECT decode(hash, 'hex'), $1
        FROM json_array_elements_text($6::json) AS made_of (hash)
        """,
        batch.batch_id,
        batch.template_id,
        batch.name,
        batch.codes,
        batch.made_at,
        "[" + ",".join([f'"{one.hex()}"' for one in hashes]) + "]",
    )
    return True


async def page_of_batches(reader: Reader, template_id: str, before: str | None, limit: int) -> list[CodeBatch]:
    """Return a template's batches, newest first."""
    return await BATCHES.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM coupon.code_batches
        WHERE template_id = $1
          AND ($2::uuid IS NULL OR batch_id < $2)
        ORDER BY batch_id DESC
        LIMIT $3
        """,
        template_id,
        before,
        limit,
    )


async def find_batch(reader: Reader, batch_id: str) -> CodeBatch | None:
    """Return one batch."""
    return await BATCHES.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM coupon.code_batches
        WHERE batch_id = $1
        """,
        batch_id,
    )


async def revoke_batch(tx: Tx, batch_id: str, now: datetime) -> CodeBatch | None:
    """Make the codes of a batch worth nothing, and free their units; None if that was done. Its template is locked."""
    return await BATCHES.fetch_one(
        tx,
        """
        WITH revoked AS (
            UPDATE coupon.code_batches
            SET revoked_at = $2
            WHERE batch_id = $1
              AND revoked_at IS NULL
            RETURNING kit.columns
        ),
        freed AS (
            UPDATE coupon.templates AS template
            SET codes_left = template.codes_left - (revoked.codes - revoked.redeemed)
            FROM revoked
            WHERE template.template_id = revoked.template_id
        )
        SELECT kit.columns
        FROM revoked
        """,
        batch_id,
        now,
    )


async def find_code(reader: Reader, code_hash: bytes) -> Found | None:
    """Return what is known of a code."""
    row = await reader.fetchrow(
        """
        SELECT code.batch_id, batch.template_id, code.coupon_id, batch.revoked_at IS NOT NULL AS is_revoked
        FROM coupon.codes AS code
        JOIN coupon.code_batches AS batch ON batch.batch_id = code.batch_id
        WHERE code.code_hash = $1
        """,
        code_hash,
    )
    return None if row is None else Found(**row)


async def redeem(tx: Tx, code_hash: bytes, row: Row, now: datetime, day: date) -> bool:
    """Turn a code into a coupon, all in one statement, all or nothing. Its template is locked.

    The guards: the code has no coupon yet and its batch is not revoked; the shopper's limits; an open template, whose
    kept unit becomes an issued one. False means that one of them said no: then the transaction must be rolled back.
    """
    complete: bool = await tx.fetchval(
        """
        WITH redeemed AS (
            UPDATE coupon.codes AS code
            SET coupon_id = $2, redeemed_at = $9
            WHERE code.code_hash = $1
              AND code.coupon_id IS NULL
            RETURNING code.batch_id
        ),
        counted AS (
            UPDATE coupon.code_batches AS batch
            SET redeemed = batch.redeemed + 1
            FROM redeemed
            WHERE batch.batch_id = redeemed.batch_id
              AND batch.revoked_at IS NULL
            RETURNING batch.template_id
        ),
        taking AS (
            INSERT INTO coupon.takings AS taking (template_id, user_id, taken, day, taken_on_day)
            VALUES ($3, $4, 1, $10, 1)
            ON CONFLICT (template_id, user_id) DO UPDATE
            SET taken = taking.taken + 1,
                taken_on_day = 1 + CASE WHEN taking.day = EXCLUDED.day THEN taking.taken_on_day ELSE 0 END,
                day = EXCLUDED.day
            WHERE taking.taken + 1 <= (
                SELECT max_per_shopper FROM coupon.templates AS t WHERE t.template_id = taking.template_id)
              AND 1 + CASE WHEN taking.day = EXCLUDED.day THEN taking.taken_on_day ELSE 0 END <= (
                SELECT coalesce(max_per_shopper_per_day, max_per_shopper)
                FROM coupon.templates AS t
                WHERE t.template_id = taking.template_id)
            RETURNING user_id
        ),
        raised AS (
            UPDATE coupon.templates AS template
            SET issued = template.issued + 1, codes_left = template.codes_left - 1
            FROM counted
            WHERE template.template_id = counted.template_id
              AND template.template_id = $3
              AND template.state = 'published'
              AND template.codes_left > 0
              AND (template.opens_at IS NULL OR template.opens_at <= $9)
              AND (template.closes_at IS NULL OR template.closes_at > $9)
            RETURNING template.template_id
        ),
        issued AS (
            INSERT INTO coupon.coupons (coupon_id, template_id, user_id, state, source, reason, issued_at, valid_from,
                                        valid_until, expiring_at)
            VALUES ($2, $3, $4, 'issued', 'code', $5, $9, $6, $7, $8)
            ON CONFLICT DO NOTHING
            RETURNING coupon_id
        )
        SELECT EXISTS (SELECT FROM raised)
           AND EXISTS (SELECT FROM taking)
           AND EXISTS (SELECT FROM issued)
        """,
        code_hash,
        row.coupon_id,
        row.template_id,
        row.user_id,
        row.reason,
        row.valid_from,
        row.valid_until,
        row.expiring_at,
        now,
        day,
    )
    return complete
