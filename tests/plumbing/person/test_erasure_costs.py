"""Erasing costs what the shopper has, not what the shop has: every table that is kept for good is asked by an index."""

import pytest

from growth.plumbing.postgres.database import Database

pytestmark = pytest.mark.anyio

FOREIGN_ROWS = 200_000

LOOKS = (
    ("UPDATE shop.orders SET user_id = 'b' WHERE user_id = 'a'", "orders"),
    ("UPDATE shop.events SET subject = 'b' WHERE subject = 'a' AND type = 'shopper.registered'", "events"),
    (
        "SELECT ctid FROM plumbing.audit WHERE plumbing.people_named(before, after) @> ARRAY['a'] OR subject = 'a'",
        "audit",
    ),
    (
        (
            "DELETE FROM plumbing.idempotency WHERE (person = 'a' AND person <> '')"
            " OR (others @> ARRAY['a'] AND others <> '{}')"
        ),
        "idempotency",
    ),
)


async def test_no_look_for_one_shopper_reads_what_is_kept_of_others(database: Database) -> None:
    await database.fetch(
        f"""
        INSERT INTO shop.orders (order_id, user_id, first_heard_at, placed_at, placed_content)
        SELECT 'o' || n, 'u' || n, now(), now(), '' FROM generate_series(1, {FOREIGN_ROWS}) AS n
        """
    )
    await database.fetch(
        """
        INSERT INTO shop.order_lines (order_id, line_id, sku, units, amount_fen)
        SELECT order_id, '1', 'tea', 1, 1 FROM shop.orders
        """
    )
    await database.fetch(
        f"""
        INSERT INTO shop.events (source, event_id, type, subject, content, outcome, received_at)
        SELECT 's', 'e' || n, 'order.paid', 'o' || n, '', 'applied', now() FROM generate_series(1, {FOREIGN_ROWS}) AS n
        """
    )
    await database.fetch(
        f"""
        INSERT INTO plumbing.audit (at, operator, action, subject, after, reason, request_id)
        SELECT now(), 'op', 'a', 'o' || n, jsonb_build_object('user_id', 'u' || n), '', ''
        FROM generate_series(1, {FOREIGN_ROWS // 10}) AS n
        """
    )
    await database.fetch(
        f"""
        INSERT INTO plumbing.idempotency (scope, person, key, fingerprint, answer, created_at, others)
        SELECT 'u' || n || ' s', 'u' || n, 'k', '', '', now(), ARRAY['v' || n]
        FROM generate_series(1, {FOREIGN_ROWS // 10}) AS n
        """
    )
    for table in ("shop.orders", "shop.events", "plumbing.audit", "plumbing.idempotency"):
        await database.fetch(f"ANALYZE {table}")
    for statement, table in LOOKS:
        plan = "\n".join(row[0] for row in await database.fetch(f"EXPLAIN {statement}"))
        assert "Seq Scan" not in plan, f"{table}: {plan}"
