"""Every statement on refunds, under the lock of their order."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from growth.plumbing.postgres.database import Tx
from growth.shop.order.hooks import RefundedData
from growth.shop.order.refund.model import Refund, RefundedLine
from growth.vocabulary.orders import Order


async def content(tx: Tx, order_id: str, refund_id: str) -> bytes | None:
    """Return the content that a refund was told with, if it was."""
    said: bytes | None = await tx.fetchval(
        "SELECT content FROM shop.refunds WHERE order_id = $1 AND refund_id = $2",
        order_id,
        refund_id,
    )
    return said


async def keep(tx: Tx, data: RefundedData, refunded_at: datetime, said: bytes) -> None:
    """Keep a refund as it was told."""
    await tx.execute(
        "INSERT INTO shop.refunds (order_id, refund_id, content, refunded_at) VALUES ($1, $2, $3, $4)",
        data.order_id,
        data.refund_id,
        said,
        refunded_at,
    )
    await tx.execute(
        """
        INSERT INTO shop.refund_lines (order_id, refund_id, line_id, units, amount_fen)
        SELECT $1, $2, told.*
        FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS told
        """,
        data.order_id,
        data.refund_id,
        [line.line_id for line in data.lines],
        [line.units for line in data.lines],
        [line.amount_fen for line in data.lines],
    )


async def redate(tx: Tx, data: RefundedData, refunded_at: datetime) -> None:
    """A refund was told again; the earliest time counts."""
    await tx.execute(
        """
        UPDATE shop.refunds
        SET refunded_at = $3
        WHERE order_id = $1 AND refund_id = $2 AND refunded_at > $3
        """,
        data.order_id,
        data.refund_id,
        refunded_at,
    )


async def refunds(tx: Tx, order_ids: Sequence[str]) -> Mapping[str, Sequence[Refund]]:
    """Return what was told of refunds of orders, earliest first; orders without any are missing."""
    if not order_ids:
        return {}
    rows = await tx.fetch(
        """
        SELECT order_id, refund_id, refund.refunded_at, line.line_id, line.units, line.amount_fen
        FROM shop.refunds AS refund
        JOIN shop.refund_lines AS line USING (order_id, refund_id)
        WHERE refund.order_id = ANY ($1::text[])
        ORDER BY refund.refunded_at, refund_id, line.line_id
        """,
        order_ids,
    )
    told: dict[str, dict[str, Refund]] = {}
    for row in rows:
        theirs = told.setdefault(row["order_id"], {})
        refund = theirs.setdefault(row["refund_id"], Refund(row["refund_id"], row["refunded_at"], []))
        refund.lines.append((row["line_id"], row["units"], row["amount_fen"]))
    return {order_id: list(theirs.values()) for order_id, theirs in told.items()}


async def told_in_all(tx: Tx, order_id: str) -> dict[str, RefundedLine]:
    """Return what all refunds of the order say, by line."""
    rows = await tx.fetch(
        """
        SELECT line_id, sum(units)::bigint AS units, sum(amount_fen)::bigint AS fen
        FROM shop.refund_lines
        WHERE order_id = $1
        GROUP BY line_id
        """,
        order_id,
    )
    return {row["line_id"]: RefundedLine(row["units"], row["fen"]) for row in rows}


async def count(tx: Tx, order: Order) -> None:
    """Note how much of each line of a paid order counts as refunded."""
    await tx.execute(
        """
        UPDATE shop.order_lines AS line
        SET refunded_units = counted.units,
            refunded_fen = counted.fen
        FROM unnest($2::text[], $3::integer[], $4::bigint[]) AS counted (line_id, units, fen)
        WHERE line.order_id = $1
          AND line.line_id = counted.line_id
        """,
        order.order_id,
        [line.line_id for line in order.lines],
        [line.refunded_units for line in order.lines],
        [line.refunded_fen for line in order.lines],
    )
