"""Every statement on claims. `taken`, `holdings` and claims only ever move together, inside one transaction.

Locks are taken in one order everywhere: claims, holdings (by shopper), the sale. Nothing waits for itself.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from growth.mechanics.flash_sale.claim.model import Claim, ReleaseReason, Wanted
from growth.mechanics.flash_sale.stock import Occupied
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows

CLAIMS = Rows(row=Claim, id_field="claim_id")
_encode = msgspec.json.Encoder().encode


class WinOutcome(Struct, frozen=True):
    """What became of a batch of winners."""

    complete: bool
    """Every new claim was written, within stock and limits. If not, the transaction must be rolled back."""
    known: frozenset[str]
    """Claims that had been written before."""
    sku: str
    price_fen: int
    hold_seconds: int
    sold_out_now: bool


async def win(tx: Tx, sale_id: str, wanted: Sequence[Wanted]) -> WinOutcome:
    """Write a batch of claims of one sale and raise `taken`, all in one statement, all or nothing.

    The guards: `taken + n <= units_total` and the sale being published and inside its window; `holdings` within the
    limit; the claim id. Held until: the moment of admission and the sale's hold. The batch travels as one JSON
    text: the driver looks at each item of an array in Python, which costs more than the rest of the claim.
    """
    row = await tx.fetchrow(
        """
        WITH asked AS MATERIALIZED (
            SELECT claim_id, user_id, units, held_at
            FROM json_to_recordset($2::json) AS asked (claim_id uuid, user_id text, units int, held_at timestamptz)
        ),
        sale AS (
            SELECT sku, price_fen, max_per_shopper, hold_seconds, make_interval(secs => hold_seconds) AS hold
            FROM flash_sale.sales
            WHERE sale_id = $1
        ),
        known AS (
            SELECT claim_id
            FROM flash_sale.claims
            WHERE claim_id IN (SELECT claim_id FROM asked)
        ),
        fresh AS MATERIALIZED (
            SELECT asked.claim_id, asked.user_id, asked.units, asked.held_at
            FROM asked
            WHERE NOT EXISTS (SELECT FROM known WHERE known.claim_id = asked.claim_id)
        ),
        won AS (
            INSERT INTO flash_sale.claims (
                claim_id, sale_id, user_id, sku, units, price_fen, state, held_at, held_until)
            SELECT fresh.claim_id, $1, fresh.user_id, sale.sku, fresh.units, sale.price_fen, 'held', fresh.held_at,
                fresh.held_at + sale.hold
            FROM fresh, sale
            ORDER BY fresh.claim_id
            ON CONFLICT (claim_id) DO NOTHING
            RETURNING units
        ),
        held AS (
            INSERT INTO flash_sale.holdings AS holding (sale_id, user_id, units)
            SELECT $1, fresh.user_id, sum(fresh.units)
            FROM fresh
            GROUP BY fresh.user_id
            HAVING sum(fresh.units) <= (SELECT max_per_shopper FROM sale)
            ORDER BY fresh.user_id
            ON CONFLICT (sale_id, user_id) DO UPDATE
            SET units = holding.units + excluded.units
            WHERE holding.units + excluded.units <= (SELECT max_per_shopper FROM sale)
            RETURNING user_id
        ),
        raised AS (
            UPDATE flash_sale.sales
            SET taken = taken + won_units.units,
                sold_out_at = CASE
                    WHEN taken + won_units.units = units_total THEN coalesce(sold_out_at, $3)
                    ELSE sold_out_at
                END
            FROM (SELECT coalesce(sum(units), 0)::int AS units, (SELECT count(*) FROM held) AS held FROM won)
                AS won_units
            WHERE sale_id = $1
              AND won_units.units > 0
              AND state = 'published'
              AND taken + won_units.units <= units_total
              AND $3 >= opens_at
              AND $3 < closes_at
            RETURNING taken, taken = units_total AND sold_out_at = $3 AS sold_out_now
        )
        SELECT
            (SELECT count(*) FROM fresh) AS fresh,
            (SELECT count(DISTINCT user_id) FROM fresh) AS shoppers,
            (SELECT count(*) FROM won) AS won,
            (SELECT count(*) FROM held) AS held,
            (SELECT array_agg(claim_id) FROM known) AS known,
            raised.taken,
            raised.sold_out_now,
            sale.sku,
            sale.price_fen,
            sale.hold_seconds
        FROM (SELECT) AS always
        LEFT JOIN raised ON TRUE
        LEFT JOIN sale ON TRUE
        """,
        sale_id,
        _encode(wanted).decode(),
        max(claim.held_at for claim in wanted),
    )
    assert row is not None, "the left side always has a row"
    fresh = row["fresh"]
    written = row["won"] == fresh and row["held"] == row["shoppers"] and row["taken"] is not None
    return WinOutcome(
        complete=fresh == 0 or written,
        known=frozenset(row["known"] or ()),
        sku=row["sku"] or "",
        price_fen=row["price_fen"] or 0,
        hold_seconds=row["hold_seconds"] or 0,
        sold_out_now=bool(row["sold_out_now"]),
    )


async def find_claims(reader: Reader, claim_ids: Sequence[str]) -> dict[str, Claim]:
    """Return those of `claim_ids` that exist."""
    return await CLAIMS.fetch_by_id(
        reader,
        """
        SELECT kit.columns
        FROM flash_sale.claims
        WHERE claim_id = ANY($1::uuid[])
        """,
        list(claim_ids),
    )


async def lock_claims(tx: Tx, claim_ids: Sequence[str]) -> dict[str, Claim]:
    """Return those of `claim_ids` that exist, locked until `tx` ends, in the order of their ids."""
    return await CLAIMS.fetch_by_id(
        tx,
        """
        SELECT kit.columns
        FROM flash_sale.claims
        WHERE claim_id = ANY($1::uuid[])
        ORDER BY claim_id
        FOR NO KEY UPDATE
        """,
        list(claim_ids),
    )


async def live_claims_of(
    reader: Reader, sale_ids: Sequence[str], user_ids: Sequence[str]
) -> dict[tuple[str, str], list[Claim]]:
    """Return the claims, held or paid, of pairs of sale and shopper; one read for all who ask at once."""
    claims = await CLAIMS.fetch_all(
        reader,
        """
        SELECT claim.kit.columns
        FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[]) AS pair (sale_id, user_id)) AS asked
        JOIN flash_sale.claims AS claim ON claim.user_id = asked.user_id
                                       AND claim.sale_id = asked.sale_id
        WHERE claim.state IN ('held', 'paid')
        ORDER BY claim.claim_id
        """,
        list(sale_ids),
        list(user_ids),
    )
    found: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        found.setdefault((claim.sale_id, claim.user_id), []).append(claim)
    return found


async def page_of_claims(
    reader: Reader,
    *,
    sale_id: str | None = None,
    user_id: str | None = None,
    state: str | None = None,
    order_id: str | None = None,
    after: str | None = None,
    limit: int,
) -> list[Claim]:
    """Return claims in the order of their ids, past `after`."""
    return await CLAIMS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM flash_sale.claims
        WHERE ($1::uuid IS NULL OR sale_id = $1)
          AND ($2::text IS NULL OR user_id = $2)
          AND ($3::text IS NULL OR state = $3)
          AND ($4::text IS NULL OR order_id = $4)
          AND ($5::uuid IS NULL OR claim_id > $5)
        ORDER BY claim_id
        LIMIT $6
        """,
        sale_id,
        user_id,
        state,
        order_id,
        after,
        limit,
    )


async def occupying_after(reader: Reader, sale_id: str, after: str, limit: int) -> list[Occupied]:
    """Return a page of the claims that occupy units of a sale, in the order of their ids, past `after`."""
    rows = await reader.fetch(
        """
        SELECT claim_id, user_id, units - returned_units AS occupied, held_at
        FROM flash_sale.claims
        WHERE sale_id = $1
          AND state <> 'released'
          AND units > returned_units
          AND claim_id > $2
        ORDER BY claim_id
        LIMIT $3
        """,
        sale_id,
        after,
        limit,
    )
    return [Occupied(*row) for row in rows]


async def occupying(reader: Reader, claim_ids: Sequence[str]) -> dict[str, Occupied]:
    """Return those of `claim_ids` that occupy units."""
    rows = await reader.fetch(
        """
        SELECT claim_id, user_id, units - returned_units AS occupied, held_at
        FROM flash_sale.claims
        WHERE claim_id = ANY($1::text[]::uuid[])
          AND state <> 'released'
          AND units > returned_units
        """,
        claim_ids,
    )
    return {row["claim_id"]: Occupied(*row) for row in rows}


async def release(
    tx: Tx, claim_ids: Sequence[str], reason: ReleaseReason, now: datetime, user_id: str | None = None
) -> list[Claim]:
    """End holds and put their units back on sale; returns those that were held (by `user_id`, if given)."""
    claims = await CLAIMS.fetch_all(
        tx,
        """
        UPDATE flash_sale.claims
        SET state = 'released', release_reason = $2, ended_at = $3
        WHERE claim_id IN (
            SELECT claim_id
            FROM flash_sale.claims
            WHERE claim_id = ANY($1::uuid[])
              AND state = 'held'
              AND ($4::text IS NULL OR user_id = $4)
            ORDER BY claim_id
            FOR NO KEY UPDATE)
          AND state = 'held'
        RETURNING kit.columns
        """,
        list(claim_ids),
        reason,
        now,
        user_id,
    )
    await put_back(tx, [(claim.sale_id, claim.user_id, claim.units) for claim in claims])
    return claims


async def lock_lapsed(tx: Tx, lapsed_before: datetime, limit: int) -> list[str]:
    """Lock the holds whose time is over, oldest first; those that a payment has locked are left to it."""
    rows = await tx.fetch(
        """
        SELECT claim_id
        FROM flash_sale.claims
        WHERE state = 'held'
          AND held_until < $1
        ORDER BY held_until
        LIMIT $2
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        lapsed_before,
        limit,
    )
    return [row["claim_id"] for row in rows]


async def put_back(tx: Tx, units: Sequence[tuple[str, str, int]]) -> None:
    """Lower holdings and `taken` by (sale, shopper, units), holdings first, each in one order."""
    if not units:
        return
    columns = [list(column) for column in zip(*units, strict=True)]
    await tx.execute(
        """
        WITH back AS (
            SELECT back.sale_id, back.user_id, sum(back.units)::int AS units
            FROM unnest($1::uuid[], $2::text[], $3::int[]) AS back (sale_id, user_id, units)
            GROUP BY back.sale_id, back.user_id
        ),
        locked AS MATERIALIZED (
            SELECT holding.sale_id, holding.user_id
            FROM flash_sale.holdings AS holding
            JOIN back USING (sale_id, user_id)
            ORDER BY holding.sale_id, holding.user_id
            FOR NO KEY UPDATE OF holding
        )
        UPDATE flash_sale.holdings AS holding
        SET units = holding.units - back.units
        FROM back
        JOIN locked USING (sale_id, user_id)
        WHERE holding.sale_id = back.sale_id
          AND holding.user_id = back.user_id
        """,
        *columns,
    )
    await tx.execute(
        """
        WITH back AS (
            SELECT back.sale_id, sum(back.units)::int AS units
            FROM unnest($1::uuid[], $2::int[]) AS back (sale_id, units)
            GROUP BY back.sale_id
        ),
        locked AS MATERIALIZED (
            SELECT sale.sale_id
            FROM flash_sale.sales AS sale
            JOIN back USING (sale_id)
            ORDER BY sale.sale_id
            FOR NO KEY UPDATE OF sale
        )
        UPDATE flash_sale.sales AS sale
        SET taken = sale.taken - back.units
        FROM back
        JOIN locked USING (sale_id)
        WHERE sale.sale_id = back.sale_id
        """,
        columns[0],
        columns[2],
    )


async def lock_stock(tx: Tx, claims: Sequence[Claim]) -> None:
    """Lock the holdings and sales of several locked claims, for a transaction that goes through them one by one."""
    await tx.execute(
        """
        SELECT
        FROM flash_sale.holdings AS holding
        JOIN (SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[]) AS told (sale_id, user_id)) AS told
            USING (sale_id, user_id)
        ORDER BY holding.sale_id, holding.user_id
        FOR NO KEY UPDATE OF holding
        """,
        [claim.sale_id for claim in claims],
        [claim.user_id for claim in claims],
    )
    await tx.execute(
        """
        SELECT
        FROM flash_sale.sales
        WHERE sale_id = ANY($1::uuid[])
        ORDER BY sale_id
        FOR NO KEY UPDATE
        """,
        sorted({claim.sale_id for claim in claims}),
    )


async def add_lapses(tx: Tx, lapsed: Mapping[str, int], now: datetime, forgiven_before: datetime) -> dict[str, int]:
    """Count lapsed holds against shoppers; return each one's count. One older than `forgiven_before` starts anew."""
    user_ids = sorted(lapsed)
    rows = await tx.fetch(
        """
        INSERT INTO flash_sale.lapses AS known (user_id, lapses, last_lapsed_at)
        SELECT told.user_id, told.lapses, $3
        FROM unnest($1::text[], $2::int[]) AS told (user_id, lapses)
        ORDER BY told.user_id
        ON CONFLICT (user_id) DO UPDATE
        SET lapses = CASE WHEN known.last_lapsed_at < $4 THEN 0 ELSE known.lapses END + excluded.lapses,
            last_lapsed_at = excluded.last_lapsed_at
        RETURNING user_id, lapses
        """,
        user_ids,
        [lapsed[user_id] for user_id in user_ids],
        now,
        forgiven_before,
    )
    return {row["user_id"]: row["lapses"] for row in rows}


async def forgive(tx: Tx, user_id: str) -> bool:
    """Clear a shopper's lapsed holds: somebody who pays is no scalper. False if there were none."""
    forgiven: str | None = await tx.fetchval(
        "DELETE FROM flash_sale.lapses WHERE user_id = $1 RETURNING user_id", user_id
    )
    return forgiven is not None


async def given_back_before(
    reader: Reader, claim_id: str, user_id: str, since: datetime, limit: int
) -> datetime | None:
    """Return when the `limit`-th claim from the last was given back, in the sale of a held one, since `since`."""
    before: datetime | None = await reader.fetchval(
        """
        SELECT other.ended_at
        FROM flash_sale.claims AS claim
        JOIN flash_sale.claims AS other ON other.user_id = claim.user_id
                                       AND other.sale_id = claim.sale_id
        WHERE claim.claim_id = $1
          AND claim.user_id = $2
          AND claim.state = 'held'
          AND other.release_reason = 'shopper'
          AND other.ended_at > $3
        ORDER BY other.ended_at DESC
        OFFSET $4 - 1
        LIMIT 1
        """,
        claim_id,
        user_id,
        since,
        limit,
    )
    return before


async def count_by_state(reader: Reader, sale_id: str) -> dict[str, tuple[int, int]]:
    """Return claims and units by state; released ones by their reason."""
    rows = await reader.fetch(
        """
        SELECT coalesce(release_reason, state) AS state, count(*) AS claims, sum(units)::int AS units
        FROM flash_sale.claims
        WHERE sale_id = $1
        GROUP BY coalesce(release_reason, state)
        """,
        sale_id,
    )
    return {row["state"]: (row["claims"], row["units"]) for row in rows}
