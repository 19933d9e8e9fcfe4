"""Every room's sentences are found and asked, and each can be broken: one that cannot says nothing."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch import invariants
from growth.plumbing.watch.invariants import Invariant, all_invariants, read_invariants, violations

pytestmark = pytest.mark.anyio

BREAKERS = {
    "No event carries a transaction number that Postgres has not reached.": """
        INSERT INTO plumbing.outbox (xid, event_id, type, subject, at, data)
        VALUES ('999999999999', '01a1fff0-f180-74f8-8537-f642d1a8a040', 't', 's', now(), '{}')
    """,
    "No subscriber has read past a transaction that is still running.": """
        INSERT INTO plumbing.cursors (subscription, xid)
        VALUES ('s', '999999999999')
    """,
    "An answer is kept for a day, not for two, as long as newer ones come.": """
        INSERT INTO plumbing.idempotency
        VALUES ('s', 'k', '', '', now() - INTERVAL '49 hours'), ('s', 'newer', '', '', now())
    """,
    "Nobody leads a task for longer than its lease can be.": """
        INSERT INTO plumbing.leases
        VALUES ('t', 'h', 1, now() + INTERVAL '49 hours')
    """,
    "Every operator has a role, and is revoked no earlier than made.": """
        ALTER TABLE plumbing.operators DROP CONSTRAINT operators_role_check;
        INSERT INTO plumbing.operators
        VALUES ('ann', sha256('k'), 4, now(), NULL)
    """,
}


def test_every_sentence_of_the_plumbing_has_something_that_breaks_it() -> None:
    assert {one.name for one in all_invariants() if one.room == "plumbing"} == set(BREAKERS)


@pytest.mark.parametrize("name", BREAKERS)
async def test_negative_control_each_sentence_is_broken_by_what_it_forbids(postgres_dsn: str, name: str) -> None:
    database = await _connect(postgres_dsn)
    try:
        assert await violations(database) == []
        async with database.transaction() as tx:
            await tx.execute(BREAKERS[name])
        (broken,) = await violations(database)
        assert (broken.room, broken.name) == ("plumbing", name)
        assert broken.rows
    finally:
        await database.close()


async def _connect(dsn: str) -> Database:
    return await connect_postgres(dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)


def test_every_rooms_file_is_found_and_each_sentence_is_said_once() -> None:
    found = all_invariants()
    folders = {path.parent.name for path in invariants.ROOT.rglob(invariants.FILE_NAME)}
    assert {one.room for one in found} == folders
    assert len({(one.room, one.name) for one in found}) == len(found)


async def test_only_the_first_rows_are_shown(database: Database) -> None:
    many = Invariant("test", "There are no numbers.", "SELECT number FROM generate_series(1, 1000) AS number")
    none = Invariant("test", "Two is not one.", "SELECT 1 WHERE 1 = 2")
    (broken,) = await violations(database, (none, many))
    assert broken.rows == [{"number": number} for number in range(1, invariants.MAX_ROWS_SHOWN + 1)]


def _written(folder: Path, text: str) -> Sequence[Invariant]:
    (folder / "invariants.sql").write_text(text)
    return read_invariants(folder / "invariants.sql", "room")


def test_a_file_is_read_statement_by_statement(tmp_path: Path) -> None:
    text = """-- What this file is about.

-- name: One.
-- Because of this.
SELECT ';' AS one
WHERE FALSE;

-- name: Two.
SELECT 2;  -- not the end of a line
SELECT
"""
    with pytest.raises(AssertionError):
        _written(tmp_path, text)
    found = _written(tmp_path, text.replace("SELECT 2;  -- not the end of a line\nSELECT\n", "SELECT 2\n;\n"))
    assert [(one.room, one.name, one.sql) for one in found] == [
        ("room", "One.", "-- Because of this.\nSELECT ';' AS one\nWHERE FALSE"),
        ("room", "Two.", "SELECT 2"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT 1;",
        "-- name: One.\nSELECT 1",
        "-- name: One.\nSELECT 1;\nSELECT 2;",
        "-- name: One.\n-- name: Two.\nSELECT 2;",
    ],
)
def test_a_statement_that_would_not_be_asked_is_a_mistake(tmp_path: Path, text: str) -> None:
    with pytest.raises(AssertionError):
        _written(tmp_path, text)
