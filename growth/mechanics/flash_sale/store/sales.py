"""Every statement on sales. Functions never commit; services do."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from growth.kit.campaign import store as campaigns
from growth.mechanics.flash_sale.model import SALES, Sale, SaleDraft
from growth.plumbing.postgres.database import Reader, Tx

MAX_LISTED = 1_000
"""Sales that a process keeps on its board; the soonest to open come first."""


async def add_sale(tx: Tx, sale_id: str, draft: SaleDraft, now: datetime, series_id: str | None = None) -> Sale | None:
    """Insert a draft; None if the series already has this round's sale."""
    return await SALES.fetch_one(
        tx,
        """
        INSERT INTO flash_sale.sales (sale_id, series_id, created_at, kit.draft)
        SELECT $1::uuid, $2::uuid, $3::timestamptz, kit.draft
        FROM jsonb_populate_record(NULL::flash_sale.sales, $4)
        ON CONFLICT (series_id, opens_at, sku) DO NOTHING
        RETURNING kit.columns
        """,
        sale_id,
        series_id,
        now,
        SALES.stored(draft),
    )


async def find_sale(reader: Reader, sale_id: str) -> Sale | None:
    """Return one sale."""
    return (await find_sales(reader, [sale_id])).get(sale_id)


async def find_sales(reader: Reader, sale_ids: Sequence[str]) -> dict[str, Sale]:
    """Return those of `sale_ids` that exist."""
    return await campaigns.find(reader, SALES, sale_ids)


async def mark_sold_out(tx: Tx, sale_id: str, now: datetime) -> Sale:
    """Note that an edit left no unit over."""
    sale = await SALES.fetch_one(
        tx,
        """
        UPDATE flash_sale.sales
        SET sold_out_at = $2
        WHERE sale_id = $1
        RETURNING kit.columns
        """,
        sale_id,
        now,
    )
    assert sale is not None, "locked, so nobody deleted it"
    return sale


async def visible_sales(reader: Reader, ended_after: datetime) -> list[Sale]:
    """Return what shoppers may see: published, paused, and ended since `ended_after`; at most `MAX_LISTED`."""
    return await SALES.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM flash_sale.sales
        WHERE state IN ('published', 'paused')
           OR (state = 'ended' AND closes_at > $1)
        ORDER BY opens_at, series_id, sale_id
        LIMIT $2
        """,
        ended_after,
        MAX_LISTED,
    )


async def mark_of_visible(reader: Reader, ended_after: datetime) -> int:
    """Return a number that is another one as soon as one of the visible sales is: cheap to ask again and again."""
    mark: int = await reader.fetchval(
        """
        SELECT coalesce(sum(hashtextextended(sale_id::text, version)), 0)
        FROM flash_sale.sales
        WHERE state IN ('published', 'paused')
           OR (state = 'ended' AND closes_at > $1)
        """,
        ended_after,
    )
    return int(mark)


async def page_of_sales(
    reader: Reader, *, state: str | None, series_id: str | None, before: str | None, q: str | None = None, limit: int
) -> list[Sale]:
    """Return operators' sales, newest first, those made before the id `before` with `q` in their titles."""
    return await SALES.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM flash_sale.sales
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::uuid IS NULL OR series_id = $2)
          AND ($3::uuid IS NULL OR sale_id < $3)
          AND ($4::text IS NULL OR strpos(lower(title), lower($4)) > 0)
        ORDER BY sale_id DESC
        LIMIT $5
        """,
        state,
        series_id,
        before,
        q,
        limit,
    )


async def lock_sku(tx: Tx, sku: str) -> None:
    """Let one publication of a SKU look for overlaps at a time; ends with `tx`."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('flash_sale.sku:' || $1, 0))", sku)


async def overlapping_sale(tx: Tx, sale: Sale) -> str | None:
    """Return the id of another live sale of the same SKU whose window overlaps."""
    found: str | None = await tx.fetchval(
        """
        SELECT sale_id
        FROM flash_sale.sales
        WHERE sku = $1
          AND state IN ('published', 'paused')
          AND sale_id <> $2
          AND opens_at < $4
          AND closes_at > $3
        LIMIT 1
        """,
        sale.sku,
        sale.sale_id,
        sale.opens_at,
        sale.closes_at,
    )
    return found


async def raise_generation(reader: Reader, sale_id: str) -> int:
    """Number a rebuild of Redis; later ones are higher."""
    generation: int = await reader.fetchval(
        """
        UPDATE flash_sale.sales
        SET generation = generation + 1
        WHERE sale_id = $1
        RETURNING generation
        """,
        sale_id,
    )
    return generation


async def invite(tx: Tx, sale_id: str, user_ids: Sequence[str]) -> int:
    """Add shoppers to a sale's allow-list; return how many were new."""
    rows = await tx.fetch(
        """
        INSERT INTO flash_sale.allowed (sale_id, user_id)
        SELECT $1, user_id
        FROM unnest($2::text[]) AS asked (user_id)
        ON CONFLICT DO NOTHING
        RETURNING user_id
        """,
        sale_id,
        sorted(set(user_ids)),
    )
    return len(rows)


async def allowed_after(reader: Reader, sale_id: str, after: str, limit: int) -> list[str]:
    """Return a page of the allow-list, in order, past `after`."""
    rows = await reader.fetch(
        """
        SELECT user_id
        FROM flash_sale.allowed
        WHERE sale_id = $1
          AND user_id > $2
        ORDER BY user_id
        LIMIT $3
        """,
        sale_id,
        after,
        limit,
    )
    return [row["user_id"] for row in rows]


async def add_refusals(reader: Reader, counts: Mapping[tuple[str, str], int]) -> None:
    """Add up what this process refused since it last said so, by (sale, reason)."""
    keys = sorted(counts)
    await reader.fetch(
        """
        INSERT INTO flash_sale.refusals AS known (sale_id, reason, refused)
        SELECT told.sale_id, told.reason, told.refused
        FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS told (sale_id, reason, refused)
        ON CONFLICT (sale_id, reason) DO UPDATE
        SET refused = known.refused + excluded.refused
        """,
        [sale_id for sale_id, _ in keys],
        [reason for _, reason in keys],
        [counts[key] for key in keys],
    )


async def refusals_of(reader: Reader, sale_id: str) -> dict[str, int]:
    """Return how often the sale said no, by reason."""
    rows = await reader.fetch("SELECT reason, refused FROM flash_sale.refusals WHERE sale_id = $1", sale_id)
    return {row["reason"]: row["refused"] for row in rows}


async def add_tempo(tx: Tx, won: Mapping[tuple[str, datetime], tuple[int, int]]) -> None:
    """Add claims and units won, by (sale, second)."""
    keys = sorted(won)
    await tx.execute(
        """
        INSERT INTO flash_sale.tempo AS known (sale_id, second, claims, units)
        SELECT told.sale_id, told.second, told.claims, told.units
        FROM unnest($1::uuid[], $2::timestamptz[], $3::int[], $4::int[]) AS told (sale_id, second, claims, units)
        ON CONFLICT (sale_id, second) DO UPDATE
        SET claims = known.claims + excluded.claims,
            units = known.units + excluded.units
        """,
        [sale_id for sale_id, _ in keys],
        [second for _, second in keys],
        [won[key][0] for key in keys],
        [won[key][1] for key in keys],
    )


async def tempo_of(reader: Reader, sale_id: str, limit: int) -> list[tuple[datetime, int]]:
    """Return claims won in each of the last `limit` seconds that had any, latest first."""
    rows = await reader.fetch(
        """
        SELECT second, claims
        FROM flash_sale.tempo
        WHERE sale_id = $1
        ORDER BY second DESC
        LIMIT $2
        """,
        sale_id,
        limit,
    )
    return [(row["second"], row["claims"]) for row in rows]
