"""Databases of releases before: what rooms said is owed back is in one list, what columns said lines use is rows."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from growth.embedded import EmbeddedServers
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.postgres.migrate import MIGRATIONS_FOLDER, migrate_up
from growth.plumbing.watch.invariants import all_invariants
from growth.shop.order.owed.service import RefundsRequired
from growth.shop.order.store.orders import read_order
from growth.vocabulary.orders import Use
from tests import servers as test_servers
from tests.kit.invariants import violations

pytestmark = pytest.mark.anyio

BEFORE = "0020"

ROWS = """
    INSERT INTO shop.orders (order_id, user_id, paid_at, paid_fen, paid_content, first_heard_at)
    SELECT order_id, 'ann', now(), 10500, '', now()
    FROM unnest(ARRAY['both', 'part', 'part-back', 'back', 'elsewhere', 'early']) AS order_id;

    INSERT INTO shop.order_lines (order_id, line_id, sku, units, amount_fen, refunded_units, refunded_fen)
    VALUES ('both', '1', 'tea', 1, 10000, 0, 1000),
           ('part', '1', 'tea', 1, 10000, 0, 300),
           ('part-back', '1', 'tea', 1, 10000, 0, 2000),
           ('back', '1', 'tea', 1, 10000, 1, 0),
           ('elsewhere', '1', 'tea', 1, 10000, 0, 0),
           ('early', '1', 'tea', 1, 5000, 0, 5000),
           ('early', '2', 'cup', 1, 5000, 0, 3000);

    INSERT INTO shop.refunds (order_id, refund_id, content, refunded_at)
    SELECT order_id, 'r1', '', now()
    FROM unnest(ARRAY['both', 'part', 'part-back', 'back', 'early']) AS order_id;

    INSERT INTO shop.refund_lines (order_id, refund_id, line_id, units, amount_fen)
    VALUES ('both', 'r1', '1', 0, 1000),
           ('part', 'r1', '1', 0, 300),
           ('part-back', 'r1', '1', 0, 2000),
           ('back', 'r1', '1', 1, 0),
           ('early', 'r1', '1', 0, 7500),
           ('early', 'r1', '2', 0, 3000);

    INSERT INTO flash_sale.refunds_required (order_id, line_id, claim_id, reason, at)
    VALUES ('both', '1', gen_random_uuid(), 'flash_sale.sold_out', now()),
           ('back', '1', gen_random_uuid(), 'flash_sale.sold_out', now()),
           ('early', '2', gen_random_uuid(), 'flash_sale.sold_out', now()),
           ('never paid', '1', gen_random_uuid(), 'flash_sale.sold_out', now());

    INSERT INTO coupon.refunds_required (order_id, line_id, coupon_id, reason, amount_fen, at)
    VALUES ('both', '1', gen_random_uuid(), 'coupon.of_other_order', 9000, now());

    INSERT INTO group_buy.refunds_required (order_id, line_id, seat_id, reason, amount_fen, at)
    VALUES ('part', '1', gen_random_uuid(), 'group_buy.overpaid', 2000, now()),
           ('part-back', '1', gen_random_uuid(), 'group_buy.overpaid', 2000, now()),
           ('elsewhere', '1', gen_random_uuid(), 'group_buy.team_failed', 10000, now());
"""


@pytest.fixture
async def empty_dsn(servers: EmbeddedServers) -> AsyncIterator[str]:
    async with test_servers.database(servers, template="template1") as dsn:
        yield dsn


@asynccontextmanager
async def carried_over(dsn: str, folder: Path, *, before: str, rows: str) -> AsyncIterator[Database]:
    """A database with rows of the release that came before a migration, brought to this release."""
    for file in MIGRATIONS_FOLDER.glob("*.sql"):
        if file.name < before:
            shutil.copy(file, folder)
    await migrate_up(dsn, folder=folder)
    connection = await asyncpg.connect(dsn)
    await connection.execute(rows)
    await connection.close()
    await migrate_up(dsn)
    database = await connect_postgres(dsn, max_connections=2, acquire_seconds=5, statement_seconds=10)
    try:
        yield database
    finally:
        await database.close()


async def test_what_rooms_said_before_is_in_the_one_list(empty_dsn: str, tmp_path: Path) -> None:
    async with carried_over(empty_dsn, tmp_path, before=BEFORE, rows=ROWS) as database:
        page = await RefundsRequired(database).page(state=None, order_id=None, user_id=None, before=None, limit=99)
        found = {one.order_id: (one.line_id, one.amount_fen, one.reasons, one.settled_at is None) for one in page}
        assert found == {
            "both": ("1", 9000, ["coupon.of_other_order", "flash_sale.sold_out"], True),
            "part": ("1", 1700, ["group_buy.overpaid"], True),
            "part-back": ("1", 0, ["group_buy.overpaid"], False),
            "back": ("1", 0, ["flash_sale.sold_out"], False),
            "elsewhere": ("1", 10000, ["group_buy.team_failed"], True),
            "early": ("2", 0, ["flash_sale.sold_out"], False),
        }
        invariants = tuple(one for one in all_invariants() if one.room == "order")
        assert await violations(database, invariants) == []


WITH_USES = """
    INSERT INTO shop.orders (order_id, user_id, paid_at, paid_fen, paid_content, first_heard_at)
    VALUES ('o', 'ann', now(), 400, '', now());

    INSERT INTO shop.order_lines (order_id, line_id, sku, units, amount_fen, claim_id, seat_id, coupon_id)
    VALUES ('o', '1', 'tea', 1, 100, NULL, NULL, NULL),
           ('o', '2', 'tea', 1, 100, '0199c0de-0000-7000-8000-00000000000c', NULL, NULL),
           ('o', '3', 'tea', 1, 100, NULL, '0199c0de-0000-7000-8000-00000000005e',
            '0199c0de-0000-7000-8000-0000000000c0'),
           ('o', '4', 'tea', 1, 100, NULL, NULL, '0199c0de-0000-7000-8000-0000000000c0');
"""


async def test_what_columns_of_lines_said_the_lines_use(empty_dsn: str, tmp_path: Path) -> None:
    async with carried_over(empty_dsn, tmp_path, before="0031", rows=WITH_USES) as database:
        order = await read_order(database, "o")
        assert order is not None
        coupon = Use("coupon.coupon", "0199c0de-0000-7000-8000-0000000000c0")
        assert {line.line_id: line.uses for line in order.lines} == {
            "1": (),
            "2": (Use("flash_sale.claim", "0199c0de-0000-7000-8000-00000000000c"),),
            "3": (coupon, Use("group_buy.seat", "0199c0de-0000-7000-8000-00000000005e")),
            "4": (coupon,),
        }
        invariants = tuple(one for one in all_invariants() if one.room == "order")
        assert len(invariants) > 0
        assert await violations(database, invariants) == []
