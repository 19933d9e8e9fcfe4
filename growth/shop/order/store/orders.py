"""Every SQL statement of the shop's room. Those on one order run in its turn, which `take_turns` takes."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from growth.plumbing.postgres.database import Reader, Tx
from growth.shop.order import model
from growth.shop.order.hooks import LineTold, uses_of
from growth.shop.order.model import Beside, Known
from growth.vocabulary.orders import Order, OrderLine

_encode = msgspec.json.Encoder().encode


async def take_turns(tx: Tx, subjects: Iterable[str]) -> None:
    """Wait for other transactions on the same orders, shoppers or spendings; others wait for this one.

    Before anything is written: a transaction's place in the outbox is that of its first write, and what is told of one
    order must be read in the order in which it became known.
    """
    await tx.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended('shop.turn:' || subject, 0))
        FROM unnest($1::text[]) AS subject
        """,
        sorted(set(subjects)),
    )


async def lock_orders(tx: Tx, order_ids: Sequence[str]) -> dict[str, Known]:
    """Hold those of the orders that were heard of until the transaction ends; return what is known of them.

    Whoever has an order's turn need not fear that another hears of it first.
    """
    rows = await tx.fetch(
        """
        SELECT order_id, user_id, placed_at, placed_content, paid_at, paid_fen, paid_content, closed_at, received_at
        FROM shop.orders
        WHERE order_id = ANY ($1::text[])
        ORDER BY order_id
        FOR UPDATE
        """,
        order_ids,
    )
    found = {}
    for row in rows:
        facts = dict(row)
        contents = {name: facts.pop(name) for name in ("placed_content", "paid_content")}
        found[row["order_id"]] = Known(order=Order(**facts), **contents)
    return found


async def write(
    tx: Tx, orders: Sequence[Known], lines: Mapping[str, Sequence[LineTold]], replaced: Sequence[str], now: datetime
) -> None:
    """Keep what is known of locked or new orders, and their `lines`; those of `replaced` give way to these."""
    if replaced:
        await tx.execute("DELETE FROM shop.order_lines WHERE order_id = ANY ($1::text[])", replaced)
    told = [(order_id, line) for order_id, theirs in lines.items() for line in theirs]
    await tx.execute(
        """
        WITH heard AS (
            INSERT INTO shop.orders AS known (order_id, user_id, placed_at, placed_content, paid_at, paid_fen,
                paid_content, closed_at, received_at, first_heard_at)
            SELECT order_id, user_id, placed_at, decode(placed_content, 'base64'), paid_at, paid_fen,
                decode(paid_content, 'base64'), closed_at, received_at, $4
            FROM json_to_recordset($1::json) AS heard (order_id text, user_id text, placed_at timestamptz,
                placed_content text, paid_at timestamptz, paid_fen bigint, paid_content text, closed_at timestamptz,
                received_at timestamptz)
            ORDER BY order_id
            ON CONFLICT (order_id) DO UPDATE
            SET user_id = excluded.user_id,
                placed_at = excluded.placed_at,
                placed_content = excluded.placed_content,
                paid_at = excluded.paid_at,
                paid_fen = excluded.paid_fen,
                paid_content = excluded.paid_content,
                closed_at = excluded.closed_at,
                received_at = excluded.received_at
        ),
        -- The columns of uses are for processes of the release before.
        lines AS (
            INSERT INTO shop.order_lines (order_id, line_id, sku, units, amount_fen, claim_id, seat_id, coupon_id)
            SELECT order_id, line_id, sku, units, amount_fen, claim_id, seat_id, coupon_id
            FROM json_to_recordset($2::json) AS line (order_id text, line_id text, sku text, units integer,
                amount_fen bigint, claim_id uuid, seat_id uuid, coupon_id uuid)
        )
        INSERT INTO shop.line_uses (order_id, line_id, kind, id)
        SELECT order_id, line_id, kind, id
        FROM json_to_recordset($3::json) AS used (order_id text, line_id text, kind text, id text)
        """,
        _encode([_row(known) for known in orders]).decode(),
        _encode([{"order_id": order_id, **msgspec.structs.asdict(line)} for order_id, line in told]).decode(),
        _encode(
            [
                {"order_id": order_id, "line_id": line.line_id, "kind": use.kind, "id": use.id}
                for order_id, line in told
                for use in uses_of(line)
            ]
        ).decode(),
        now,
    )


def _row(known: Known) -> dict[str, object]:
    order = known.order
    return {
        "order_id": order.order_id,
        "user_id": order.user_id,
        "placed_at": order.placed_at,
        "placed_content": known.placed_content,
        "paid_at": order.paid_at,
        "paid_fen": order.paid_fen,
        "paid_content": known.paid_content,
        "closed_at": order.closed_at,
        "received_at": order.received_at,
    }


async def take_shoppers_turns(tx: Tx, orders: Mapping[str, str | None]) -> None:
    """Wait for whoever changes which order of a shopper is the first; others wait for this transaction.

    The shoppers are those whose `orders` are, the one given where that is not known. Before anything is written, as
    above: what is told here of their other orders is read after what those were told with.
    """
    if not orders:
        return
    await tx.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended('shop.first_order:' || buyer.user_id, 0))
        FROM (
            SELECT DISTINCT coalesce(known.user_id, asked.user_id) AS user_id
            FROM unnest($1::text[], $2::text[]) AS asked (order_id, user_id)
            LEFT JOIN shop.orders AS known USING (order_id)
            ORDER BY user_id
        ) AS buyer
        """,
        list(orders),
        list(orders.values()),
    )


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
    return model.with_what_was_paid(Order(**head, lines=(await lines_of(reader, [order_id])).get(order_id, ())))


async def lines_of(reader: Reader, order_ids: Sequence[str]) -> dict[str, tuple[OrderLine, ...]]:
    """Return the lines of orders; those that have none are missing."""
    rows = await reader.fetch(
        """
        SELECT order_id, line_id, sku, units, amount_fen, refunded_units, refunded_fen,
            ARRAY(
                SELECT jsonb_build_object('kind', used.kind, 'id', used.id)
                FROM shop.line_uses AS used
                WHERE used.order_id = line.order_id
                  AND used.line_id = line.line_id
                ORDER BY used.kind
            ) AS uses
        FROM shop.order_lines AS line
        WHERE order_id = ANY ($1::text[])
        ORDER BY order_id, line_id
        """,
        order_ids,
    )
    found: dict[str, tuple[OrderLine, ...]] = {}
    for row in rows:
        fields = dict(row)
        order_id = fields.pop("order_id")
        found[order_id] = (*found.get(order_id, ()), msgspec.convert(fields, OrderLine))
    return found


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


async def beside(reader: Reader, orders: Iterable[Order]) -> dict[str, Beside]:
    """Return, by id, how paid orders stand among the others of their shoppers."""
    asked = [(order.order_id, order.user_id, order.paid_at) for order in orders]
    if not asked:
        return {}
    rows = await reader.fetch(
        """
        SELECT asked.order_id, other.paid_at, other.order_id AS other_id,
            ARRAY(
                SELECT later.order_id
                FROM shop.orders AS later
                WHERE later.user_id = asked.user_id
                  AND (later.paid_at, later.order_id) > (asked.paid_at, asked.order_id)
                  AND (other.order_id IS NULL OR (later.paid_at, later.order_id) <= (other.paid_at, other.order_id))
                ORDER BY later.paid_at, later.order_id
            ) AS later
        FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS asked (order_id, user_id, paid_at)
        LEFT JOIN LATERAL (
            SELECT bought.paid_at, bought.order_id
            FROM shop.orders AS bought
            JOIN shop.order_lines AS line USING (order_id)
            WHERE bought.user_id = asked.user_id
              AND bought.paid_at IS NOT NULL
              AND bought.paid_fen > 0
              AND bought.order_id <> asked.order_id
              AND line.refunded_units < line.units
              AND line.refunded_fen < line.amount_fen
            ORDER BY bought.paid_at, bought.order_id
            LIMIT 1
        ) AS other ON true
        """,
        *map(list, zip(*asked, strict=True)),
    )
    return {
        row["order_id"]: Beside(None if row["other_id"] is None else (row["paid_at"], row["other_id"]), row["later"])
        for row in rows
    }


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
