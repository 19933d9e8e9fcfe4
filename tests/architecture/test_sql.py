"""SQL: literal, in the function that runs it, of the room's own schema, fully qualified, and known to Postgres."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import asyncpg
import pytest

from growth.kit.campaign.model import CampaignKind
from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.rows import Table
from growth.plumbing.watch.invariants import read_invariants
from tests.architecture.source import HOUSE, Module, called, calls, modules, path_of

pytestmark = pytest.mark.anyio

RUNS_SQL = {"fetch", "fetchrow", "fetchval", "execute", "executemany", "cursor"}
READS_ROWS = {"fetch_all", "fetch_one", "fetch_by_id"}
"""Methods of a `Table`: the statement comes after who runs it."""

ROOF = {
    "web.py": "asks whether Postgres answers",
    "embedded/": "looks after a server, not after tables",
}
"""Where SQL may stand besides stores and the plumbing."""

NOT_LITERAL: Mapping[str, str] = {
    "plumbing/person/erasure.py": "the same for several tables; names are checked before they are put in",
    "plumbing/postgres/partitions.py": "DDL takes no parameters; names are checked before they are put in",
    "plumbing/watch/invariants.py": "wraps the statements of our own files",
    "plumbing/person/memory.py": "BEGIN takes no parameters; what is put in are numbers",
    "plumbing/watch/invariant_rounds.py": "asks for keys of the tables that those files name",
    "plumbing/postgres/migrate.py": "runs the migrations",
    "plumbing/postgres/database.py": "the one door that all others go through",
    "plumbing/postgres/rows.py": "puts a table's columns into what stores write",
    "embedded/": "creates databases, whose names are no parameters",
}

KEYWORDS = re.compile(
    r"\b(select|insert|update|delete|from|where|set|values|returning|join|on|and|or|limit|order by|group by|with|as)\b"
)
STRINGS_AND_COMMENTS = re.compile(r"'(?:[^']|'')*'|--[^\n]*")


class Statement(NamedTuple):
    """One SQL literal and where it stands."""

    where: str
    path: str
    sql: str
    arguments: int | None
    """How many go with it; None where they are spread from a list."""


def is_under(path: str, places: Iterable[str]) -> bool:
    return any(path == place or (place.endswith("/") and path.startswith(place)) for place in places)


def runs_of(module: Module) -> Iterator[ast.Call]:
    """The calls that run SQL: `tx.fetch("...")`, not `redis.execute_command`, nor a method of ours called `execute`."""
    for call in calls(module):
        if isinstance(call.func, ast.Attribute) and called(call) in RUNS_SQL | READS_ROWS and call.args:
            yield call


def statement_of(call: ast.Call) -> ast.expr:
    return call.args[min(place_of(call), len(call.args) - 1)]


def place_of(call: ast.Call) -> int:
    return 1 if called(call) in READS_ROWS else 0


def literal_of(argument: ast.expr) -> str | None:
    """A statement as it stands there; `log.sql("...")` is one, written for the outbox and said of another log too.

    So is `kind.sql("...")`, written for `kit.campaigns` and said of a kind of campaign.
    """
    if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Attribute) and called(argument) == "sql":
        argument = argument.args[0]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def statements(module: Module) -> Iterator[Statement]:
    for call in runs_of(module):
        sql = literal_of(statement_of(call))
        if sql is not None:
            # Of many at once each row brings its own.
            is_spread = called(call) == "executemany" or any(isinstance(arg, ast.Starred) for arg in call.args)
            arguments = None if is_spread else len(call.args) - 1 - place_of(call)
            for path, said in said_of_kinds(module, call, sql):
                yield Statement(module.at(call), path, said, arguments)


def said_of_kinds(module: Module, call: ast.Call, sql: str) -> Iterator[tuple[str, str]]:
    """The statement as it is run, and the room by whose rules it stands: the kit's once for each kind of campaign."""
    statement = statement_of(call)
    argument = call if called(call) in READS_ROWS else statement
    if module.path == "plumbing/person/owned.py":
        are_to_meet = "ON CONFLICT" in sql
        yield from ((path, one.sql(sql)) for path, one in owned_tables() if (one.key is not None) == are_to_meet)
    elif not isinstance(argument, ast.Call) or "kit." not in sql:
        yield module.path, sql
    elif module.path.startswith("kit/"):
        yield from ((path, kind.sql(sql)) for path, kind in kinds() if kind.over or "kit.over" not in sql)
    else:
        assert isinstance(argument.func, ast.Attribute)
        table = vars(import_module(module.name))[ast.unparse(argument.func.value)]
        assert isinstance(table, Table)
        yield module.path, table.sql(sql)


@cache
def kinds() -> tuple[tuple[str, CampaignKind[Any, Any]], ...]:
    """Every kind of campaign, with the module that makes it."""
    found = {
        value: module.path
        for module in modules()
        if module.file == "model.py" and "CampaignKind(" in module.text and not module.path.startswith("kit/")
        for value in vars(import_module(module.name)).values()
        if isinstance(value, CampaignKind)
    }
    return tuple((path, kind) for kind, path in found.items())


@cache
def owned_tables() -> tuple[tuple[str, Owned], ...]:
    """Every table of shoppers that a store declares, with the module that does."""
    stores = [module for module in modules() if module.is_store and "Owned(" in module.text]
    return tuple(
        (module.path, value)
        for module in stores
        for value in vars(import_module(module.name)).values()
        if isinstance(value, Owned)
    )


def invariant_statements() -> Iterator[Statement]:
    for path in HOUSE.rglob("invariants.sql"):
        for invariant in read_invariants(path, path.parent.name):
            yield Statement(f"{path_of(path)}: {invariant.name}", path_of(path), invariant.sql, 0)


def not_literal(module: Module) -> list[str]:
    """A statement put together at run time can neither be read nor prepared here."""
    return [module.at(call) for call in runs_of(module) if literal_of(statement_of(call)) is None]


def out_of_place(module: Module) -> list[str]:
    if module.is_store or is_under(module.path, {"plumbing/", *ROOF}):
        return []
    return [statement.where for statement in statements(module)]


def commits(module: Module) -> list[str]:
    """A store works within the transaction of its service."""
    if not module.is_store:
        return []
    words = {"COMMIT", "ROLLBACK", "BEGIN", "END", "START"}
    told = [said.where for said in statements(module) if said.sql.split(maxsplit=1)[0].upper() in words]
    return told + [module.at(call) for call in calls(module) if called(call) in {"transaction", "commit"}]


def schema_of(path: str) -> str:
    """The one schema whose tables a file may name: one room, one word."""
    parts = PurePosixPath(path).parts
    room = parts[1] if parts[0] in {"mechanics", "rewards", "listeners", "shopper", "shop"} else parts[0]
    return SCHEMAS.get(room, room)


SCHEMAS = {
    "order": "shop",  # a reserved word of SQL
}
"""Rooms whose tables stand under another word."""


def schemas() -> set[str]:
    migrations = "\n".join(path.read_text(encoding="utf-8") for path in (HOUSE / "migrations").glob("*.sql"))
    return set(re.findall(r"(?:CREATE SCHEMA|SCHEMA \w+ RENAME TO) (?:IF NOT EXISTS )?(\w+)", migrations))


def foreign_schemas(statement: Statement, schemas: set[str]) -> list[str]:
    sql = STRINGS_AND_COMMENTS.sub("", statement.sql)
    named = {schema for schema in re.findall(r"(?<![\w.])(\w+)\.\w+", sql) if schema in schemas}
    return [f"{statement.where} names {schema}" for schema in sorted(named - {schema_of(statement.path)})]


def wrong_arguments(statement: Statement) -> list[str]:
    if statement.arguments is None:
        return []
    wanted = {int(number) for number in re.findall(r"\$(\d+)", STRINGS_AND_COMMENTS.sub("", statement.sql))}
    if wanted == set(range(1, statement.arguments + 1)):
        return []
    return [f"{statement.where} uses {sorted(wanted)} of {statement.arguments} arguments"]


def quiet_keywords(statement: Statement) -> list[str]:
    found = sorted(set(KEYWORDS.findall(STRINGS_AND_COMMENTS.sub("", statement.sql))))
    return [f"{statement.where}: {word}" for word in found]


async def unknown_to_postgres(dsn: str, statements: Iterable[Statement]) -> list[str]:
    """Prepare each; with an empty search path that also proves that every table names its schema."""
    faults = []
    connection = await asyncpg.connect(dsn, server_settings={"search_path": ""})
    try:
        for statement in statements:
            try:
                await connection.prepare(statement.sql)
            except asyncpg.PostgresError as error:
                faults.append(f"{statement.where}: {error}")
    finally:
        await connection.close()
    return faults


def every_statement() -> list[Statement]:
    """All that can be prepared: the literals of stores and plumbing, and the invariants."""
    found = [said for module in modules() if not is_under(module.path, ROOF) for said in statements(module)]
    # The one script: what makes the table of migrations.
    alone = [said for said in found if not (said.path == "plumbing/postgres/migrate.py" and ";" in said.sql)]
    return alone + list(invariant_statements())


def example(sql: str, *arguments: str, path: str = "mechanics/tea/store.py") -> Module:
    call = ", ".join([f'"""{sql}"""', *arguments])
    return Module(path, f"async def read(tx):\n    await tx.fetch({call})\n")


def only(module: Module) -> Statement:
    return next(statements(module))


def test_statements_are_literals() -> None:
    faults = [fault for module in modules() if not is_under(module.path, NOT_LITERAL) for fault in not_literal(module)]
    assert faults == []


@pytest.mark.parametrize(
    "query",
    ['f"SELECT {column}"', '"SELECT " + column', "QUERY", '"SELECT %s" % column', 'log.sql(f"SELECT {column}")'],
)
def test_a_statement_put_together_is_seen(query: str) -> None:
    assert not_literal(Module("shop/order/store/orders.py", f"async def read(tx):\n    await tx.fetchval({query})\n"))


@pytest.mark.parametrize("query", ['f"SELECT {column}"', "QUERY", 'QUERY, "SELECT 1"'])
def test_a_statement_put_together_for_a_table_is_seen(query: str) -> None:
    text = f"async def read(tx):\n    await ORDERS.fetch_all(tx, {query})\n"
    assert not_literal(Module("shop/order/store/orders.py", text))


def test_a_statement_for_a_table_has_its_columns_and_no_others() -> None:
    said = [one.sql for one in every_statement() if one.path == "mechanics/group_buy/team/store/teams.py"]
    assert any("seat.seat_id, seat.team_id, seat.group_buy_id" in sql for sql in said)
    assert not any("kit.columns" in one.sql for one in every_statement())


def test_statements_stand_in_stores_and_in_the_plumbing() -> None:
    assert [fault for module in modules() for fault in out_of_place(module)] == []


def test_a_statement_in_a_service_is_seen() -> None:
    assert out_of_place(example("SELECT 1", path="mechanics/tea/service.py"))


def test_stores_never_commit() -> None:
    assert [fault for module in modules() for fault in commits(module)] == []


@pytest.mark.parametrize("line", ["await tx.execute('COMMIT')", "async with database.transaction() as tx: pass"])
def test_a_store_that_commits_is_seen(line: str) -> None:
    assert commits(Module("mechanics/tea/store.py", f"async def write(database, tx):\n    {line}\n"))


def test_a_room_names_its_own_schema_only() -> None:
    assert [fault for said in every_statement() for fault in foreign_schemas(said, schemas())] == []


def test_another_rooms_schema_is_seen() -> None:
    known = {"tea", "shop", "plumbing"}
    assert foreign_schemas(only(example("SELECT 1 FROM tea.cups JOIN shop.orders ON TRUE")), known)
    assert foreign_schemas(only(example("SELECT o.id FROM tea.cups AS o WHERE name = 'shop.orders'")), known) == []
    assert schemas() >= {"plumbing", "shop", "flash_sale"}


def test_every_argument_is_used_and_there() -> None:
    assert [fault for said in every_statement() for fault in wrong_arguments(said)] == []


@pytest.mark.parametrize(("sql", "arguments"), [("SELECT $1", []), ("SELECT $2", ["a", "b"]), ("SELECT 1", ["a"])])
def test_an_argument_too_many_or_too_few_is_seen(sql: str, arguments: list[str]) -> None:
    assert wrong_arguments(only(example(sql, *arguments)))


def test_keywords_are_in_capitals() -> None:
    assert [fault for said in every_statement() for fault in quiet_keywords(said)] == []


def test_a_quiet_keyword_is_seen() -> None:
    assert quiet_keywords(only(example("select 1 from tea.cups")))


async def test_postgres_knows_every_statement(postgres_dsn: str) -> None:
    said = every_statement()
    assert len(said) > 50
    assert await unknown_to_postgres(postgres_dsn, said) == []


@pytest.mark.parametrize(
    "sql",
    ["SELECT missing FROM shop.orders", "SELECT 1 FROM orders", "SELECT $1::text = 1", "SELECT 1 FROM shop.order"],
)
async def test_a_statement_that_postgres_does_not_know_is_seen(postgres_dsn: str, sql: str) -> None:
    assert await unknown_to_postgres(postgres_dsn, [only(example(sql))])


def test_a_statement_of_the_kit_is_said_of_every_kind_of_campaign() -> None:
    literal = 'kind.sql("""SELECT kit.columns FROM kit.campaigns""")'
    module = Module("kit/campaign/store.py", f"async def read(tx, kind):\n    await tx.fetch({literal})\n")
    tables = {re.findall(r"FROM (\S+)", statement.sql)[0] for statement in statements(module)}
    assert {"task.tasks", "flash_sale.series", "coupon.templates"} <= tables
    assert len(tables) == len(kinds())


def test_what_becomes_of_shoppers_rows_is_said_of_every_table_of_theirs() -> None:
    said = [one.sql for module in modules() if module.path == "plumbing/person/owned.py" for one in statements(module)]
    assert len(said) == len(owned_tables())
    assert any("UPDATE granting.grants" in sql for sql in said)
    assert any("DELETE FROM referral.progress" in sql for sql in said)
