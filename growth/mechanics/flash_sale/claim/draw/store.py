"""Every statement on entries, and those of the draw on its sale. Functions never commit; the service does."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from growth.mechanics.flash_sale.claim.draw.model import DRAW_DELAY, DrawEntry, DrawState, EntryWish, entry_id
from growth.mechanics.flash_sale.model import SALES, Sale
from growth.plumbing.postgres.database import Reader, Tx


class EntryState(Struct, frozen=True):
    """What there is of one shopper in one draw."""

    draw: DrawState | None
    """None for an unknown sale."""
    entry: DrawEntry | None


async def enter(tx: Tx, wishes: Sequence[EntryWish]) -> None:
    """Insert what may be entered, of any number of sales; what is there already stays as it is.

    The share lock is what keeps the promise: it waits for a draw under way, then finds the sale drawn; and a draw that
    comes waits for it, then finds the entries.
    """
    await tx.execute(
        """
        WITH asked AS MATERIALIZED (
            SELECT DISTINCT ON (asked.sale_id, asked.user_id)
                asked.sale_id, asked.user_id, asked.entry_id, asked.units, asked.at
            FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::int[], $5::timestamptz[])
                AS asked (sale_id, user_id, entry_id, units, at)
            ORDER BY asked.sale_id, asked.user_id, asked.at
        ),
        sale AS MATERIALIZED (
            SELECT sale_id, opens_at, max_per_shopper,
                opens_at + make_interval(secs => (protection ->> 'draw_seconds')::int) AS draw_at
            FROM flash_sale.sales
            WHERE sale_id = ANY($1::uuid[])
              AND state = 'published'
              AND drawn_at IS NULL
            ORDER BY sale_id
            FOR SHARE
        )
        INSERT INTO flash_sale.draw_entries (sale_id, user_id, entry_id, units, entered_at)
        SELECT asked.sale_id, asked.user_id, asked.entry_id, asked.units, asked.at
        FROM asked
        JOIN sale USING (sale_id)
        WHERE asked.at >= sale.opens_at
          AND asked.at < sale.draw_at
          AND asked.units <= sale.max_per_shopper
        ORDER BY asked.sale_id, asked.user_id
        ON CONFLICT (sale_id, user_id) DO NOTHING
        """,
        [wish.sale_id for wish in wishes],
        [wish.user_id for wish in wishes],
        [entry_id(wish.sale_id, wish.user_id) for wish in wishes],
        [wish.units for wish in wishes],
        [wish.at for wish in wishes],
    )


async def look(reader: Reader, sale_ids: Sequence[str], user_ids: Sequence[str]) -> list[EntryState]:
    """Return what there is of pairs of sale and shopper, in their order; one read for all who ask at once."""
    rows = await reader.fetch(
        """
        SELECT sale.state, sale.opens_at, sale.closes_at, sale.drawn_at, sale.max_per_shopper,
            sale.opens_at + make_interval(secs => (sale.protection ->> 'draw_seconds')::int) AS draw_at,
            entry.entry_id, entry.sale_id, entry.user_id, entry.units, entry.entered_at, entry.claim_id
        FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS asked (sale_id, user_id, place)
        LEFT JOIN flash_sale.sales AS sale ON sale.sale_id = asked.sale_id
        -- One by one by their key: the planner, left to itself, may read the whole table of a sale that has just begun.
        LEFT JOIN LATERAL (
            SELECT entry_id, sale_id, user_id, units, entered_at, claim_id
            FROM flash_sale.draw_entries
            WHERE sale_id = asked.sale_id
              AND user_id = asked.user_id
            LIMIT 1
        ) AS entry ON TRUE
        ORDER BY asked.place
        """,
        list(sale_ids),
        list(user_ids),
    )
    seen = []
    for row in rows:
        facts = dict(row)
        draw = None if facts["state"] is None else msgspec.convert(facts, DrawState)
        entry = None
        if draw is not None and facts["entry_id"] is not None:
            over = draw.drawn_at is not None or draw.state == "ended"
            entry = msgspec.convert({**facts, "over": over}, DrawEntry)
        seen.append(EntryState(draw, entry))
    return seen


async def due(reader: Reader, now: datetime, limit: int) -> list[str]:
    """Return sales that are to be drawn now, by the end of their entry time."""
    rows = await reader.fetch(
        """
        SELECT sale_id
        FROM flash_sale.sales
        WHERE state = 'published'
          AND drawn_at IS NULL
          AND opens_at + make_interval(secs => (protection ->> 'draw_seconds')::int) <= $1
          AND closes_at > $2
        ORDER BY opens_at, sale_id
        LIMIT $3
        """,
        now - DRAW_DELAY,
        now,
        limit,
    )
    return [row["sale_id"] for row in rows]


async def drawn(reader: Reader, now: datetime, limit: int) -> list[Sale]:
    """Return live sales that were drawn, the latest first."""
    return await SALES.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM flash_sale.sales
        WHERE state IN ('published', 'paused')
          AND drawn_at IS NOT NULL
          AND closes_at > $1
        ORDER BY drawn_at DESC
        LIMIT $2
        """,
        now,
        limit,
    )


async def pick(tx: Tx, sale_id: str, seed: str) -> tuple[int, int]:
    """Give winners their places; return how many entered and how many won. The caller has locked the sale.

    Whoever wants more than the limit still lets them have is left out, and counts for nobody else.
    """
    row = await tx.fetchrow(
        """
        WITH sale AS (
            SELECT units_total - taken AS units_left, max_per_shopper
            FROM flash_sale.sales
            WHERE sale_id = $1
        ),
        lot AS (
            SELECT entry.user_id, entry.units, sha256(convert_to($2 || ':' || entry.user_id, 'UTF8')) AS lot
            FROM flash_sale.draw_entries AS entry
            LEFT JOIN flash_sale.holdings AS holding USING (sale_id, user_id)
            WHERE entry.sale_id = $1
              AND entry.units + coalesce(holding.units, 0) <= (SELECT max_per_shopper FROM sale)
        ),
        line AS (
            SELECT user_id,
                row_number() OVER (ORDER BY lot, user_id) AS place,
                sum(units) OVER (ORDER BY lot, user_id) AS units_until_here
            FROM lot
        ),
        won AS (
            UPDATE flash_sale.draw_entries AS entry
            SET place = line.place
            FROM line
            WHERE entry.sale_id = $1
              AND entry.user_id = line.user_id
              AND line.units_until_here <= (SELECT units_left FROM sale)
            RETURNING entry.user_id
        )
        SELECT
            (SELECT count(*) FROM flash_sale.draw_entries WHERE sale_id = $1) AS entries,
            (SELECT count(*) FROM won) AS winners
        """,
        sale_id,
        seed,
    )
    assert row is not None, "counts always have a row"
    return row["entries"], row["winners"]


async def winners_after(tx: Tx, sale_id: str, after: str, limit: int) -> list[tuple[str, int]]:
    """Return a page of who won how many units, in the order of their ids, past `after`."""
    rows = await tx.fetch(
        """
        SELECT user_id, units
        FROM flash_sale.draw_entries
        WHERE sale_id = $1
          AND user_id > $2
          AND place IS NOT NULL
        ORDER BY user_id
        LIMIT $3
        """,
        sale_id,
        after,
        limit,
    )
    return [(row["user_id"], row["units"]) for row in rows]


async def set_claims(tx: Tx, sale_id: str, claim_ids: dict[str, str]) -> None:
    """Tie winners' entries to their claims; `claim_ids` are by user id."""
    await tx.execute(
        """
        UPDATE flash_sale.draw_entries AS entry
        SET claim_id = won.claim_id
        FROM unnest($2::text[], $3::uuid[]) AS won (user_id, claim_id)
        WHERE entry.sale_id = $1
          AND entry.user_id = won.user_id
          AND entry.place IS NOT NULL
          AND entry.claim_id IS NULL
        """,
        sale_id,
        list(claim_ids),
        list(claim_ids.values()),
    )


async def set_drawn(tx: Tx, sale_id: str, seed: str, now: datetime) -> bool:
    """Say that a sale is drawn, once and only while it may be; False if not."""
    drawn_at = await tx.fetchval(
        """
        UPDATE flash_sale.sales
        SET drawn_at = $3, draw_seed = $2, version = version + 1
        WHERE sale_id = $1
          AND drawn_at IS NULL
          AND state = 'published'
          AND opens_at + make_interval(secs => (protection ->> 'draw_seconds')::int) <= $4
          AND closes_at > $3
        RETURNING drawn_at
        """,
        sale_id,
        seed,
        now,
        now - DRAW_DELAY,
    )
    return drawn_at is not None


async def count(reader: Reader, sale_id: str) -> dict[str, int]:
    """Return `entries`, the `units_wanted`, `winners` and the `units_won`."""
    row = await reader.fetchrow(
        """
        SELECT count(*) AS entries,
            coalesce(sum(units), 0)::bigint AS units_wanted,
            count(claim_id) AS winners,
            coalesce(sum(units) FILTER (WHERE claim_id IS NOT NULL), 0)::bigint AS units_won
        FROM flash_sale.draw_entries
        WHERE sale_id = $1
        """,
        sale_id,
    )
    assert row is not None, "counts always have a row"
    return dict(row)


async def forget(tx: Tx, now: datetime, keep: timedelta, limit: int) -> int:
    """Delete entries of sales that ended longer ago than `keep`; return how many."""
    count: int = await tx.fetchval(
        """
        WITH old AS MATERIALIZED (
            SELECT entry.sale_id, entry.user_id
            FROM flash_sale.sales AS sale
            JOIN flash_sale.draw_entries AS entry USING (sale_id)
            WHERE sale.state = 'ended'
              AND sale.closes_at < $1
              AND sale.ended_at < $1
            LIMIT $2
        ),
        forgotten AS (
            DELETE FROM flash_sale.draw_entries AS entry
            USING old
            WHERE entry.sale_id = old.sale_id
              AND entry.user_id = old.user_id
            RETURNING 1
        )
        SELECT count(*) FROM forgotten
        """,
        now - keep,
        limit,
    )
    return count
