"""Every statement on series, and on sales as rounds of one. Functions never commit; the service does."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from growth.mechanics.flash_sale.model import SALES, Sale, SaleDraft
from growth.mechanics.flash_sale.series.model import Skipped
from growth.plumbing.postgres.database import Reader, Tx

SKIPPED_SHOWN = timedelta(days=7)
MAX_SKIPPED_SHOWN = 100


class Place(Struct, frozen=True):
    """What stands where a round's sale is to be."""

    planned_sale_id: str | None
    other_sale_id: str | None


class FreeAgain(Struct, frozen=True):
    """A skipped sale whose SKU is free by now."""

    series_id: str
    draft: SaleDraft


async def set_planned(tx: Tx, series_id: str, until: datetime) -> None:
    """Say that all rounds that open until then are planned; it never goes back."""
    await tx.execute(
        """
        UPDATE flash_sale.series
        SET planned_until = greatest(planned_until, $2)
        WHERE series_id = $1
        """,
        series_id,
        until,
    )


async def due_series(reader: Reader, now: datetime, step: timedelta, limit: int) -> list[str]:
    """Return published series planned less far ahead than they are to be, by more than `step`; the least first."""
    rows = await reader.fetch(
        """
        SELECT series_id
        FROM flash_sale.series
        WHERE state = 'published'
          AND planned_until < $1::timestamptz - $2::interval + make_interval(days => (plan ->> 'plan_ahead_days')::int)
        ORDER BY planned_until, series_id
        LIMIT $3
        """,
        now,
        step,
        limit,
    )
    return [row["series_id"] for row in rows]


async def paused_sales(tx: Tx, series_id: str) -> list[str]:
    """Return the sales that the series paused when it was."""
    ids: list[str] = await tx.fetchval("SELECT paused_sales FROM flash_sale.series WHERE series_id = $1", series_id)
    return ids


async def set_paused_sales(tx: Tx, series_id: str, sale_ids: Sequence[str]) -> None:
    """Note which sales to resume with the series."""
    await tx.execute(
        """
        UPDATE flash_sale.series
        SET paused_sales = $2
        WHERE series_id = $1
        """,
        series_id,
        list(sale_ids),
    )


async def lock_sales(
    tx: Tx, series_id: str, states: Sequence[str], *, opens_after: datetime | None, sale_ids: Sequence[str] = ()
) -> list[Sale]:
    """Return sales of a series in `states` that open after an instant or are among `sale_ids`, locked in one order."""
    return await SALES.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM flash_sale.sales
        WHERE series_id = $1
          AND state = ANY($2)
          AND (opens_at > $3 OR sale_id = ANY($4::uuid[]))
        ORDER BY sale_id
        FOR NO KEY UPDATE
        """,
        series_id,
        list(states),
        opens_after,
        list(sale_ids),
    )


async def places(reader: Reader, series_id: str, wanted: Sequence[tuple[datetime, datetime, str]]) -> list[Place]:
    """Return what stands at each (opens_at, closes_at, sku), in their order."""
    rows = await reader.fetch(
        """
        SELECT mine.sale_id AS planned_sale_id, other.sale_id AS other_sale_id
        FROM unnest($2::timestamptz[], $3::timestamptz[], $4::text[])
            WITH ORDINALITY AS wanted (opens_at, closes_at, sku, place)
        LEFT JOIN flash_sale.sales AS mine ON mine.series_id = $1
                                          AND mine.opens_at = wanted.opens_at
                                          AND mine.sku = wanted.sku
        LEFT JOIN LATERAL (
            SELECT sale.sale_id
            FROM flash_sale.sales AS sale
            WHERE sale.sku = wanted.sku
              AND sale.state IN ('published', 'paused')
              AND sale.opens_at < wanted.closes_at
              AND sale.closes_at > wanted.opens_at
            ORDER BY sale.opens_at
            LIMIT 1
        ) AS other ON TRUE
        ORDER BY wanted.place
        """,
        series_id,
        [opens_at for opens_at, _, _ in wanted],
        [closes_at for _, closes_at, _ in wanted],
        [sku for _, _, sku in wanted],
    )
    return [Place(row["planned_sale_id"], row["other_sale_id"]) for row in rows]


async def add_skipped(tx: Tx, series_id: str, draft: SaleDraft, sale_id: str, now: datetime) -> bool:
    """Note that a round's sale was skipped for another one; False if that was noted before."""
    added = await tx.fetchval(
        """
        INSERT INTO flash_sale.skipped_rounds (series_id, opens_at, sku, draft, sale_id, skipped_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (series_id, opens_at, sku) DO NOTHING
        RETURNING sku
        """,
        series_id,
        draft.opens_at,
        draft.sku,
        draft,
        sale_id,
        now,
    )
    return added is not None


async def remove_skipped(tx: Tx, series_id: str, draft: SaleDraft) -> bool:
    """Forget that a round's sale was skipped; False if another has done so."""
    removed = await tx.fetchval(
        """
        DELETE FROM flash_sale.skipped_rounds
        WHERE series_id = $1
          AND opens_at = $2
          AND sku = $3
        RETURNING sku
        """,
        series_id,
        draft.opens_at,
        draft.sku,
    )
    return removed is not None


async def skipped_of(reader: Reader, series_id: str, now: datetime) -> list[Skipped]:
    """Return sales of a series that were skipped, those to come and of the last days, at most `MAX_SKIPPED_SHOWN`."""
    rows = await reader.fetch(
        """
        SELECT opens_at, sku, sale_id, skipped_at
        FROM flash_sale.skipped_rounds
        WHERE series_id = $1
          AND opens_at > $2
        ORDER BY opens_at, sku
        LIMIT $3
        """,
        series_id,
        now - SKIPPED_SHOWN,
        MAX_SKIPPED_SHOWN,
    )
    return [msgspec.convert(dict(row), Skipped) for row in rows]


async def free_again(reader: Reader, now: datetime, limit: int) -> list[FreeAgain]:
    """Return skipped sales yet to open whose SKU no live sale has any more, the soonest first."""
    rows = await reader.fetch(
        """
        SELECT skipped.series_id, skipped.draft
        FROM flash_sale.skipped_rounds AS skipped
        JOIN flash_sale.series AS series USING (series_id)
        WHERE skipped.opens_at > $1
          AND series.state = 'published'
          AND NOT EXISTS (SELECT
                          FROM flash_sale.sales AS sale
                          WHERE sale.sku = skipped.sku
                            AND sale.state IN ('published', 'paused')
                            AND sale.opens_at < (skipped.draft ->> 'closes_at')::timestamptz
                            AND sale.closes_at > skipped.opens_at)
        ORDER BY skipped.opens_at, skipped.series_id, skipped.sku
        LIMIT $2
        """,
        now,
        limit,
    )
    return [FreeAgain(row["series_id"], msgspec.convert(row["draft"], SaleDraft)) for row in rows]


async def forget_skipped(tx: Tx, opened_before: datetime, limit: int) -> int:
    """Delete notes of skipped sales of rounds long gone; return how many."""
    rows = await tx.fetch(
        """
        DELETE FROM flash_sale.skipped_rounds
        WHERE (series_id, opens_at, sku) IN (
            SELECT series_id, opens_at, sku
            FROM flash_sale.skipped_rounds
            WHERE opens_at < $1
            LIMIT $2)
        RETURNING sku
        """,
        opened_before,
        limit,
    )
    return len(rows)


async def sales_of_rounds(reader: Reader, series_id: str, before: datetime | None, limit: int) -> list[Sale]:
    """Return the sales of the last `limit` rounds that open before an instant, the latest round first."""
    return await SALES.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM flash_sale.sales
        WHERE series_id = $1
          AND opens_at IN (
              SELECT DISTINCT opens_at
              FROM flash_sale.sales
              WHERE series_id = $1
                AND ($2::timestamptz IS NULL OR opens_at < $2)
              ORDER BY opens_at DESC
              LIMIT $3)
        ORDER BY opens_at DESC, sku
        """,
        series_id,
        before,
        limit,
    )
