"""Every SQL statement of the shop's room. Those on one order run under the lock that `lock_order` takes."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from growth.plumbing.postgres import Reader, Tx
from growth.shop.hooks import KnownHook, LineTold, PaidData, PlacedData, RefundedData
from growth.shop.model import Answer, Known, Refund
from growth.vocabulary.orders import LineOutcome, Order, OrderLine, Outcome


async def take_turn(tx: Tx, subject: str) -> None:
    """Wait for other transactions on the same order or shopper; others wait for this one.

    Before anything is written: a transaction's place in the outbox is that of its first write, and what is told of one
    order must be read in the order in which it became known.
    """
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('shop.turn:' || $1, 0))", subject)


async def begin_event(
    tx: Tx, hook: KnownHook, subject: str, said: bytes, now: datetime
) -> tuple[str, bytes, Answer] | None:
    """Take the event's id for this transaction; return None, or the subject, content and answer it was taken with.

    Waits for another transaction that holds the same id, and sees what became of it.
    """
    is_first = await tx.fetchval(
        """
        INSERT INTO shop.events (source, event_id, type, subject, content, received_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (source, event_id) DO NOTHING
        RETURNING true
        """,
        hook.source,
        hook.id,
        hook.__struct_config__.tag,
        subject,
        said,
        now,
    )
    if is_first:
        return None
    row = await tx.fetchrow(
        """
        SELECT subject, content, outcome, code, detail, lines
        FROM shop.events
        WHERE source = $1 AND event_id = $2
        """,
        hook.source,
        hook.id,
    )
    assert row is not None
    lines = tuple(msgspec.convert(row["lines"], list[LineOutcome]))
    return row["subject"], row["content"], Answer(Outcome(row["outcome"]), row["code"], row["detail"], lines)


async def end_event(tx: Tx, hook: KnownHook, answer: Answer) -> None:
    """Keep what the event is answered, for every redelivery."""
    await tx.execute(
        """
        UPDATE shop.events
        SET outcome = $3, code = $4, detail = $5, lines = $6
        WHERE source = $1 AND event_id = $2
        """,
        hook.source,
        hook.id,
        answer.outcome,
        answer.code,
        answer.detail,
        answer.lines,
    )


async def lock_order(tx: Tx, order_id: str, now: datetime) -> Known:
    """Hold the order, heard of or not, until the transaction ends; return what is known of it."""
    await tx.execute(
        """
        INSERT INTO shop.orders (order_id, first_heard_at)
        VALUES ($1, $2)
        ON CONFLICT (order_id) DO NOTHING
        """,
        order_id,
        now,
    )
    row = await tx.fetchrow(
        """
        SELECT user_id, placed_content, paid_content, closed_at, received_at
        FROM shop.orders
        WHERE order_id = $1
        FOR UPDATE
        """,
        order_id,
    )
    assert row is not None
    return Known(
        user_id=row["user_id"],
        placed_content=row["placed_content"],
        paid_content=row["paid_content"],
        is_closed=row["closed_at"] is not None,
        is_received=row["received_at"] is not None,
    )


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
    """Add that the order was paid; its lines replace those that were placed, and refunds told before now count."""
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
    await tx.execute(
        """
        UPDATE shop.order_lines AS line
        SET refunded_units = LEAST(line.units, told.units),
            refunded_fen = LEAST(line.amount_fen, told.amount_fen)
        FROM (
            SELECT line_id, sum(units) AS units, sum(amount_fen) AS amount_fen
            FROM shop.refund_lines
            WHERE order_id = $1
            GROUP BY line_id
        ) AS told
        WHERE line.order_id = $1 AND line.line_id = told.line_id
        """,
        data.order_id,
    )


async def _add_lines(tx: Tx, order_id: str, lines: Sequence[LineTold]) -> None:
    await tx.execute(
        """
        INSERT INTO shop.order_lines (order_id, line_id, sku, units, amount_fen, claim_id, seat_id, coupon_id)
        SELECT $1, told.*
        FROM unnest($2::text[], $3::text[], $4::integer[], $5::bigint[], $6::uuid[], $7::uuid[], $8::uuid[]) AS told
        """,
        order_id,
        [line.line_id for line in lines],
        [line.sku for line in lines],
        [line.units for line in lines],
        [line.amount_fen for line in lines],
        [line.claim_id for line in lines],
        [line.seat_id for line in lines],
        [line.coupon_id for line in lines],
    )


async def is_first_order(tx: Tx, user_id: str, order_id: str) -> bool:
    """Say whether the shopper is known to have paid no other order; others of theirs wait for this transaction."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('shop.first_order:' || $1, 0))", user_id)
    # A statement of its own: it sees what was committed while the lock was waited for.
    is_first: bool = await tx.fetchval(
        """
        SELECT NOT EXISTS (
            SELECT
            FROM shop.orders
            WHERE user_id = $1
              AND paid_at IS NOT NULL
              AND order_id <> $2
        )
        """,
        user_id,
        order_id,
    )
    return is_first


async def close(tx: Tx, order_id: str, closed_at: datetime) -> None:
    """Add that the order was closed; told several times, the earliest counts."""
    await tx.execute(
        "UPDATE shop.orders SET closed_at = LEAST(closed_at, $2) WHERE order_id = $1",
        order_id,
        closed_at,
    )


async def receive(tx: Tx, order_id: str, received_at: datetime) -> None:
    """Add that the goods were received; told several times, the earliest counts."""
    await tx.execute(
        "UPDATE shop.orders SET received_at = LEAST(received_at, $2) WHERE order_id = $1",
        order_id,
        received_at,
    )


async def refund_content(tx: Tx, order_id: str, refund_id: str) -> bytes | None:
    """Return the content that a refund was told with, if it was."""
    said: bytes | None = await tx.fetchval(
        "SELECT content FROM shop.refunds WHERE order_id = $1 AND refund_id = $2",
        order_id,
        refund_id,
    )
    return said


async def count_refund(tx: Tx, data: RefundedData) -> bool:
    """Add a refund to the paid lines: to all of them, or, if one has less left than that, to none."""
    status = await tx.execute(
        """
        WITH told AS (
            SELECT *
            FROM unnest($2::text[], $3::integer[], $4::bigint[]) AS told (line_id, units, amount_fen)
        ), fitting AS (
            SELECT count(*) AS lines
            FROM told
            JOIN shop.order_lines AS line ON line.order_id = $1 AND line.line_id = told.line_id
            WHERE line.refunded_units + told.units <= line.units
              AND line.refunded_fen + told.amount_fen <= line.amount_fen
        )
        UPDATE shop.order_lines AS line
        SET refunded_units = line.refunded_units + told.units,
            refunded_fen = line.refunded_fen + told.amount_fen
        FROM told, fitting
        WHERE line.order_id = $1
          AND line.line_id = told.line_id
          AND fitting.lines = cardinality($2::text[])
        """,
        data.order_id,
        [line.line_id for line in data.lines],
        [line.units for line in data.lines],
        [line.amount_fen for line in data.lines],
    )
    return bool(status == f"UPDATE {len(data.lines)}")


async def keep_refund(tx: Tx, data: RefundedData, refunded_at: datetime, said: bytes) -> None:
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


async def redate_refund(tx: Tx, data: RefundedData, refunded_at: datetime) -> None:
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


async def refunds(tx: Tx, order_id: str) -> Sequence[Refund]:
    """Return what was told of refunds of the order, earliest first."""
    rows = await tx.fetch(
        """
        SELECT refund_id, refund.refunded_at, line.line_id, line.units, line.amount_fen
        FROM shop.refunds AS refund
        JOIN shop.refund_lines AS line USING (order_id, refund_id)
        WHERE refund.order_id = $1
        ORDER BY refund.refunded_at, refund_id, line.line_id
        """,
        order_id,
    )
    told: dict[str, Refund] = {}
    for row in rows:
        refund = told.setdefault(row["refund_id"], Refund(row["refund_id"], row["refunded_at"], []))
        refund.lines.append((row["line_id"], row["units"], row["amount_fen"]))
    return list(told.values())


async def refunds_beyond(tx: Tx, order_id: str) -> Mapping[str, bool]:
    """Return the lines of which more was refunded than they have, and for each whether the order has it at all."""
    rows = await tx.fetch(
        """
        SELECT told.line_id, line.line_id IS NOT NULL AS is_known
        FROM (
            SELECT line_id, sum(units) AS units, sum(amount_fen) AS amount_fen
            FROM shop.refund_lines
            WHERE order_id = $1
            GROUP BY line_id
        ) AS told
        LEFT JOIN shop.order_lines AS line ON line.order_id = $1 AND line.line_id = told.line_id
        WHERE line.line_id IS NULL
           OR told.units > line.units
           OR told.amount_fen > line.amount_fen
        ORDER BY told.line_id
        """,
        order_id,
    )
    return {row["line_id"]: row["is_known"] for row in rows}


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
    lines = await reader.fetch(
        """
        SELECT line_id, sku, units, amount_fen, claim_id, seat_id, coupon_id, refunded_units, refunded_fen
        FROM shop.order_lines
        WHERE order_id = $1
        ORDER BY line_id
        """,
        order_id,
    )
    return Order(**head, lines=tuple(OrderLine(**line) for line in lines))


async def buyers(reader: Reader, user_ids: Sequence[str], except_order: str) -> frozenset[str]:
    """Return those who paid an order, `except_order` aside, of which something was not paid back."""
    rows = await reader.fetch(
        """
        SELECT DISTINCT bought.user_id
        FROM shop.orders AS bought
        JOIN shop.order_lines AS line USING (order_id)
        WHERE bought.user_id = ANY ($1::text[])
          AND bought.paid_at IS NOT NULL
          AND bought.order_id <> $2
          AND line.refunded_units < line.units
        """,
        user_ids,
        except_order,
    )
    return frozenset(row["user_id"] for row in rows)


async def bought_since(reader: Reader, user_ids: Sequence[str]) -> dict[str, datetime]:
    """Return when each of `user_ids` first paid for what was not all paid back; those who did not are missing."""
    rows = await reader.fetch(
        """
        SELECT bought.user_id, min(bought.paid_at) AS since
        FROM shop.orders AS bought
        JOIN shop.order_lines AS line USING (order_id)
        WHERE bought.user_id = ANY ($1::text[])
          AND bought.paid_at IS NOT NULL
          AND line.refunded_units < line.units
        GROUP BY bought.user_id
        """,
        user_ids,
    )
    return {row["user_id"]: row["since"] for row in rows}
