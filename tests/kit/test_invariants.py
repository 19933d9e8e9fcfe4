"""After a test only sentences are asked that can have been broken: those that read a table with rows."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.invariants import Invariant, all_invariants
from growth.plumbing.watch.invariants import violations as violations_of_all
from tests.kit.invariants import may_break, tables, violations

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    database = await connect_postgres(postgres_dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
    yield database
    await database.close()


def relations(node: Any) -> Iterator[str]:
    """Every table that a plan reads."""
    if isinstance(node, dict):
        if "Relation Name" in node:
            yield f"{node['Schema']}.{node['Relation Name']}"
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from relations(one)


async def test_a_sentence_is_asked_as_soon_as_any_table_that_it_reads_has_a_row(database: Database) -> None:
    known = await tables(database)
    nothing = dict.fromkeys(known, False)
    roots = await database.fetch(
        "SELECT oid::regclass::text AS part, pg_partition_root(oid)::regclass::text AS whole"
        " FROM pg_catalog.pg_class WHERE relispartition"
    )
    whole = {row["part"]: row["whole"] for row in roots}
    for one in all_invariants():
        plan = await database.fetchval(f"EXPLAIN (VERBOSE, FORMAT JSON) {one.sql}")
        read = {whole.get(name, name) for name in relations(json.loads(plan)) if not name.startswith("pg_catalog.")}
        assert all(may_break(one, nothing | {name: True}) for name in read), one.name
        assert not read or not may_break(one, nothing), one.name


async def test_of_empty_tables_every_sentence_holds(database: Database) -> None:
    assert await violations_of_all(database) == []


async def test_a_row_that_breaks_a_sentence_is_found(database: Database) -> None:
    nobody = Invariant("shop", "no order", "SELECT order_id FROM shop.orders")
    constant = Invariant("shop", "never", "SELECT 1 AS one")
    assert [one.name for one in await violations(database, (nobody, constant))] == ["never"]
    await database.fetch("INSERT INTO shop.orders (order_id, user_id, first_heard_at) VALUES ('o', 'u', now())")
    assert [one.name for one in await violations(database, (nobody, constant))] == ["no order", "never"]
