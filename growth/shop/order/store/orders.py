"""Every SQL statement of the shop's room. Those on one order run under the lock that `lock_order` takes."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from growth.plumbing.postgres.database import Reader, Tx
from growth.shop.order import model
from growth.shop.order.hooks import LineTold, OrderPaid, OrderPlaced, PaidData, PlacedData, uses_of
from growth.shop.order.model import Known
from growth.vocabulary.orders import Order, OrderLine


async def take_turn(tx: Tx, subject: str) -> None:
    """Wait for other transactions on the same order or shopper; others wait for this one.

    Before anything is written: a transaction's place in the outbox is that of its first write, and what is told of one
    order must be read in the order in which it became known.
    """
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('shop.turn:' || $1, 0))", subject)


async def lock_order(tx: Tx, order_id: str, now: datetime) -> Known:
    """Hold the order, heard of or not, until the transaction ends; return what is known of it."""
    is_new = await tx.fetchval(
        """
        INSERT INTO shop.orders (order_id, first_heard_at)
        VALUES ($1, $2)
        ON CONFLICT (order_id) DO NOTHING
        RETURNING true
        """,
        order_id,
        now,
    )
    if is_new:
        return Known(order=Order(order_id=order_id), is_new=True)
    row = await tx.fetchrow(
        """
        SELECT user_id, placed_at, placed_content, paid_at, paid_fen, paid_content, closed_at, received_at
        FROM shop.orders
        WHERE order_id = $1
        FOR UPDATE
        """,
        order_id,
    )
    assert row is not None
    facts = dict(row)
    contents = {name: facts.pop(name) for name in ("placed_content", "paid_content")}
    return Known(order=Order(order_id=order_id, **facts), **contents)


async def place(tx: Tx, data: PlacedData, said: bytes) -> None:
    """Add that the order was placed; its lines only if nothing stronger is known."""
    is_paid = await tx.fetchval(
        """
        UPDATE shop.orders
        SET user_id = $2, placed_at = $3, placed_content = $4
        WHERE order_id = $1 AND placed_at IS NULL
        RETURNING paid_at IS NOT NULL
        """,
        data.order_id,
        data.user_id,
        data.placed_at,
        said,
    )
    assert is_paid is not None
    if not is_paid:
        await _add_lines(tx, data.order_id, data.lines)


async def pay(tx: Tx, data: PaidData, said: bytes) -> None:
    """Add that the order was paid; its lines replace those that were placed."""
    was_placed = await tx.fetchval(
        """
        UPDATE shop.orders
        SET user_id = $2, paid_at = $3, paid_fen = $4, paid_content = $5
        WHERE order_id = $1 AND paid_at IS NULL
        RETURNING placed_at IS NOT NULL
        """,
        data.order_id,
        data.user_id,
        data.paid_at,
        data.paid_fen,
        said,
    )
    assert was_placed is not None
    if was_placed:
        await tx.execute("DELETE FROM shop.order_lines WHERE order_id = $1", data.order_id)
    await _add_lines(tx, data.order_id, data.lines)


async def complete(tx: Tx, hook: OrderPlaced | OrderPaid, added: Sequence[LineTold], said: bytes) -> None:
    """Add lines to an order that was told without them."""
    order_id = hook.data.order_id
    await tx.execute(
        """
        UPDATE shop.orders
        SET paid_content = CASE WHEN $3 THEN $2 ELSE paid_content END,
            placed_content = CASE WHEN $3 THEN placed_content ELSE $2 END
        WHERE order_id = $1
        """,
        order_id,
        said,
        isinstance(hook, OrderPaid),
    )
    await _add_lines(tx, order_id, added)


async def _add_lines(tx: Tx, order_id: str, lines: Sequence[LineTold]) -> None:
    # The columns are for processes of the release before.
    used = [(line.line_id, use) for line in lines for use in uses_of(line)]
    await tx.execute(
        """
        WITH lines AS (
            INSERT INTO shop.order_lines (order_id, line_id, sku, units, amount_fen, claim_id, seat_id, coupon_id)
            SELECT $1, told.*
            FROM unnest($2::text[], $3::text[], $4::integer[], $5::bigint[], $6::uuid[], $7::uuid[], $8::uuid[]) AS told
        )
        INSERT INTO shop.line_uses (order_id, line_id, kind, id)
        SELECT $1, used.*
        FROM unnest($9::text[], $10::text[], $11::text[]) AS used
        """,
        order_id,
        [line.line_id for line in lines],
        [line.sku for line in lines],
        [line.units for line in lines],
        [line.amount_fen for line in lines],
        [line.claim_id for line in lines],
        [line.seat_id for line in lines],
        [line.coupon_id for line in lines],
        [line_id for line_id, _ in used],
        [use.kind for _, use in used],
        [use.id for _, use in used],
    )


async def take_shoppers_turn(tx: Tx, order_id: str, user_id: str | None) -> None:
    """Wait for whoever changes which order of a shopper is the first; others wait for this transaction.

    The shopper is whose the order is, `user_id` where that is not known. Before anything is written, as above: what is
    told here of their other orders is read after what those were told with.
    """
    await tx.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended(
            'shop.first_order:' || coalesce((SELECT user_id FROM shop.orders WHERE order_id = $1), $2), 0))
        """,
        order_id,
        user_id,
    )


async def close(tx: Tx, order_id: str, closed_at: datetime) -> None:
    """Add that the order was closed; told several times, the earliest counts."""
    await tx.execute(
        "UPDATE shop.orders SET closed_at = LEAST(closed_at, $2) WHERE order_id = $1",
        order_id,
        closed_at,
    )


async def receive(tx: Tx, order_id: str, received_at: datetime) -> bool:
    """Add that the goods were received; told several times, the earliest counts. Return whether this one does."""
    is_earliest = await tx.fetchval(
        """
        UPDATE shop.orders
        SET received_at = $2
        WHERE order_id = $1
          AND (received_at IS NULL OR received_at > $2)
        RETURNING true
        """,
        order_id,
        received_at,
    )
    return bool(is_earliest)


async def read_order(reader: Reader, order_id: str) -> Order | None:
    """Return all that is known of an order."""
    head = await reader.fetchrow(
        """
        SELECT order_id, user_id, placed_at, paid_at, paid_fen, closed_at, received_at
        FROM shop.orders
        WHERE order_id = $1
        """,
        order_id,
    )
    if head is None:
        return None
    return model.with_what_was_paid(Order(**head, lines=await lines_of(reader, order_id)))


async def lines_of(reader: Reader, order_id: str) -> tuple[OrderLine, ...]:
    """Return the lines of an order."""
    rows = await reader.fetch(
        """
        SELECT line_id, sku, units, amount_fen, refunded_units, refunded_fen,
            ARRAY(
                SELECT jsonb_build_object('kind', used.kind, 'id', used.id)
                FROM shop.line_uses AS used
                WHERE used.order_id = line.order_id
                  AND used.line_id = line.line_id
                ORDER BY used.kind
            ) AS uses
        FROM shop.order_lines AS line
        WHERE order_id = $1
        ORDER BY line_id
        """,
        order_id,
    )
    return msgspec.convert([dict(row) for row in rows], tuple[OrderLine, ...])


async def buyers(reader: Reader, user_ids: Sequence[str], except_order: str) -> dict[str, datetime]:
    """Return since when each has bought by another order than `except_order`: `Order.is_bought`, in SQL.

    Those who have not are missing.
    """
    rows = await reader.fetch(
        """
        SELECT bought.user_id, min(bought.paid_at) AS since
        FROM shop.orders AS bought
        JOIN shop.order_lines AS line USING (order_id)
        WHERE bought.user_id = ANY ($1::text[])
          AND bought.paid_at IS NOT NULL
          AND bought.paid_fen > 0
          AND bought.order_id <> $2
          AND line.refunded_units < line.units
          AND line.refunded_fen < line.amount_fen
        GROUP BY bought.user_id
        """,
        user_ids,
        except_order,
    )
    return {row["user_id"]: row["since"] for row in rows}


async def bought_before(reader: Reader, user_id: str, order_ids: Sequence[str]) -> frozenset[str]:
    """Return those of a shopper's paid orders that were paid after another by which the shopper has bought."""
    rows = await reader.fetch(
        """
        SELECT asked.order_id
        FROM shop.orders AS asked
        WHERE asked.order_id = ANY ($2::text[])
          AND EXISTS (
            SELECT
            FROM shop.orders AS bought
            JOIN shop.order_lines AS line USING (order_id)
            WHERE bought.user_id = $1
              AND bought.paid_fen > 0
              AND (bought.paid_at, bought.order_id) < (asked.paid_at, asked.order_id)
              AND line.refunded_units < line.units
              AND line.refunded_fen < line.amount_fen
          )
        """,
        user_id,
        order_ids,
    )
    return frozenset(row["order_id"] for row in rows)


async def kept_orders(
    reader: Reader, user_id: str, since: datetime, after: tuple[datetime, str] | None, limit: int
) -> list[Order]:
    """Return orders by which a shopper has bought (`Order.is_bought`), paid at `since` or later, by time of payment.

    Those after the one paid at and named as `after` says.
    """
    rows = await reader.fetch(
        """
        SELECT bought.order_id, bought.user_id, bought.placed_at, bought.paid_at, bought.paid_fen, bought.closed_at,
            bought.received_at,
            jsonb_agg(
                to_jsonb(line) || jsonb_build_object('uses', ARRAY(
                    SELECT jsonb_build_object('kind', used.kind, 'id', used.id)
                    FROM shop.line_uses AS used
                    WHERE used.order_id = line.order_id
                      AND used.line_id = line.line_id
                    ORDER BY used.kind
                ))
                ORDER BY line.line_id
            ) AS lines
        FROM shop.orders AS bought
        JOIN shop.order_lines AS line USING (order_id)
        WHERE bought.user_id = $1
          AND bought.paid_fen > 0
          AND bought.paid_at >= $2
          AND ($3::timestamptz IS NULL OR (bought.paid_at, bought.order_id) > ($3, $4))
        GROUP BY bought.order_id
        HAVING bool_or(line.refunded_units < line.units AND line.refunded_fen < line.amount_fen)
        ORDER BY bought.paid_at, bought.order_id
        LIMIT $5
        """,
        user_id,
        since,
        *(after or (None, None)),
        limit,
    )
    return [model.with_what_was_paid(msgspec.convert(dict(row), Order)) for row in rows]


async def first_bought(reader: Reader, user_id: str, except_order: str) -> tuple[datetime, str] | None:
    """Return when, and by which order, a shopper has bought first, but for `except_order`: as `buyers` says."""
    row = await reader.fetchrow(
        """
        SELECT bought.paid_at, bought.order_id
        FROM shop.orders AS bought
        JOIN shop.order_lines AS line USING (order_id)
        WHERE bought.user_id = $1
          AND bought.paid_at IS NOT NULL
          AND bought.paid_fen > 0
          AND bought.order_id <> $2
          AND line.refunded_units < line.units
          AND line.refunded_fen < line.amount_fen
        ORDER BY bought.paid_at, bought.order_id
        LIMIT 1
        """,
        user_id,
        except_order,
    )
    return None if row is None else (row["paid_at"], row["order_id"])


async def paid_between(
    reader: Reader, user_id: str, after: tuple[datetime, str], until: tuple[datetime, str] | None
) -> list[str]:
    """Return a shopper's orders that were paid after one and no later than another: all later ones without that."""
    until_at, until_order = until or (None, None)
    rows = await reader.fetch(
        """
        SELECT order_id
        FROM shop.orders
        WHERE user_id = $1
          AND (paid_at, order_id) > ($2, $3)
          AND ($4::timestamptz IS NULL OR (paid_at, order_id) <= ($4, $5))
        ORDER BY paid_at, order_id
        """,
        user_id,
        *after,
        until_at,
        until_order,
    )
    return [row["order_id"] for row in rows]
