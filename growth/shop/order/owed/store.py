"""Every statement on what is owed back."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from growth.plumbing.postgres.database import Reader, Record, Tx
from growth.shop.order.owed.model import Owed, OwedState, RefundRequired
from growth.vocabulary.orders import OrderLine

Key = tuple[str, str]
"""An order and one of its lines."""


def _owed(row: Record) -> Owed:
    return Owed(**dict(row))


async def begin(tx: Tx, keys: Iterable[Key], now: datetime) -> None:
    """Have a row for each of the lines, which owes nothing yet: what is locked next is there, whoever came first."""
    wanted = sorted(keys)
    await tx.execute(
        """
        INSERT INTO shop.refunds_required (order_id, line_id, reasons, owed_fen, found_at, settled_at)
        SELECT order_id, line_id, '{}', 0, $3, $3
        FROM unnest($1::text[], $2::text[]) AS wanted (order_id, line_id)
        ORDER BY order_id, line_id
        ON CONFLICT (order_id, line_id) DO NOTHING
        """,
        [order_id for order_id, _ in wanted],
        [line_id for _, line_id in wanted],
        now,
    )


async def lock_of_order(tx: Tx, order_id: str) -> dict[str, Owed]:
    """Return what is or was owed of the lines of one order, by line, locked until `tx` ends."""
    rows = await tx.fetch(
        """
        SELECT order_id, line_id, reasons, owed_fen, found_at, settled_at
        FROM shop.refunds_required
        WHERE order_id = $1
        ORDER BY line_id
        FOR UPDATE
        """,
        order_id,
    )
    return {row["line_id"]: _owed(row) for row in rows}


async def lock(tx: Tx, keys: Iterable[Key]) -> dict[Key, Owed]:
    """Return what is or was owed of lines of many orders, locked in one order until `tx` ends."""
    wanted = sorted(keys)
    rows = await tx.fetch(
        """
        SELECT order_id, line_id, reasons, owed_fen, found_at, settled_at
        FROM shop.refunds_required
        WHERE (order_id, line_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
        ORDER BY order_id, line_id
        FOR UPDATE
        """,
        [order_id for order_id, _ in wanted],
        [line_id for _, line_id in wanted],
    )
    return {(row["order_id"], row["line_id"]): _owed(row) for row in rows}


async def lines(tx: Tx, keys: Iterable[Key]) -> Mapping[Key, tuple[str, OrderLine]]:
    """Return lines of paid orders, each with who paid."""
    wanted = sorted(keys)
    rows = await tx.fetch(
        """
        SELECT heard.order_id, heard.user_id, line.line_id, line.sku, line.units, line.amount_fen, line.refunded_units,
            line.refunded_fen
        FROM unnest($1::text[], $2::text[]) AS asked (order_id, line_id)
        JOIN shop.orders AS heard ON heard.order_id = asked.order_id AND heard.paid_at IS NOT NULL
        JOIN shop.order_lines AS line ON line.order_id = asked.order_id AND line.line_id = asked.line_id
        """,
        [order_id for order_id, _ in wanted],
        [line_id for _, line_id in wanted],
    )
    found = {}
    for row in rows:
        fields = dict(row)
        order_id, user_id = fields.pop("order_id"), fields.pop("user_id")
        found[order_id, row["line_id"]] = (user_id, OrderLine(**fields))
    return found


async def write(tx: Tx, owed: Sequence[Owed]) -> None:
    """Keep what is owed."""
    await tx.execute(
        """
        INSERT INTO shop.refunds_required AS known (order_id, line_id, reasons, owed_fen, found_at, settled_at)
        SELECT *
        FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bigint[], $5::timestamptz[], $6::timestamptz[])
            AS judged (order_id, line_id, reasons, owed_fen, found_at, settled_at)
        ORDER BY judged.order_id, judged.line_id
        ON CONFLICT (order_id, line_id) DO UPDATE
        SET reasons = excluded.reasons,
            owed_fen = excluded.owed_fen,
            settled_at = excluded.settled_at
        """,
        [one.order_id for one in owed],
        [one.line_id for one in owed],
        [one.reasons for one in owed],
        [one.owed_fen for one in owed],
        [one.found_at for one in owed],
        [one.settled_at for one in owed],
    )


async def page(
    reader: Reader,
    *,
    state: OwedState | None,
    order_id: str | None,
    user_id: str | None,
    before: tuple[datetime, str, str] | None,
    limit: int,
) -> list[RefundRequired]:
    """Return what is owed, found last first."""
    found_at, before_order, before_line = before or (None, None, None)
    rows = await reader.fetch(
        """
        SELECT owed.order_id, owed.line_id, heard.user_id, line.sku,
            CASE WHEN owed.settled_at IS NULL THEN greatest(0, owed.owed_fen - line.refunded_fen) ELSE 0 END
                AS amount_fen,
            ARRAY(SELECT jsonb_object_keys(owed.reasons) ORDER BY 1) AS reasons, owed.found_at, owed.settled_at
        FROM shop.refunds_required AS owed
        JOIN shop.orders AS heard USING (order_id)
        JOIN shop.order_lines AS line USING (order_id, line_id)
        WHERE ($1::text IS NULL OR (owed.settled_at IS NULL) = ($1 = 'open'))
          AND ($2::text IS NULL OR owed.order_id = $2)
          AND ($3::text IS NULL OR heard.user_id = $3)
          AND ($4::timestamptz IS NULL OR (owed.found_at, owed.order_id, owed.line_id) < ($4, $5, $6))
        ORDER BY owed.found_at DESC, owed.order_id DESC, owed.line_id DESC
        LIMIT $7
        """,
        state,
        order_id,
        user_id,
        found_at,
        before_order,
        before_line,
        limit,
    )
    return [RefundRequired(**dict(row)) for row in rows]
