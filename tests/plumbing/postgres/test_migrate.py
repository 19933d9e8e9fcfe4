"""Migrations: forward only, once, in order, and never past a file that changed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from growth.embedded import EmbeddedServers
from growth.plumbing.postgres.migrate import MigrationError, MigrationState, migrate_up, migration_status
from tests import servers as test_servers

RUNNERS = 8


@pytest.fixture
async def empty_dsn(servers: EmbeddedServers) -> AsyncIterator[str]:
    async with test_servers.database(servers, template="template1") as dsn:
        yield dsn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "0001_toys.sql", "CREATE SCHEMA toys; CREATE TABLE toys.ball (id int PRIMARY KEY);")
    write(tmp_path, "0002_toys.sql", "INSERT INTO toys.ball VALUES (1);")
    return tmp_path


def write(folder: Path, name: str, sql: str) -> None:
    (folder / name).write_text(sql)


async def fetchval(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def states(dsn: str, folder: Path) -> dict[str, MigrationState]:
    return {status.name: status.state for status in await migration_status(dsn, folder=folder)}


async def test_pending_migrations_are_applied_in_order_and_only_once(empty_dsn: str, folder: Path) -> None:
    assert await migrate_up(empty_dsn, folder=folder) == ["0001_toys.sql", "0002_toys.sql"]
    assert await migrate_up(empty_dsn, folder=folder) == []
    assert await fetchval(empty_dsn, "SELECT count(*) FROM toys.ball") == 1


async def test_a_new_file_is_applied_to_a_database_that_has_the_others(empty_dsn: str, folder: Path) -> None:
    await migrate_up(empty_dsn, folder=folder)
    write(folder, "0010_toys.sql", "INSERT INTO toys.ball VALUES (2);")
    assert await migrate_up(empty_dsn, folder=folder) == ["0010_toys.sql"]


async def test_many_runners_at_once_do_the_work_once_and_all_succeed(empty_dsn: str, folder: Path) -> None:
    write(folder, "0003_toys.sql", "SELECT pg_catalog.pg_sleep(0.3);")
    done = await asyncio.gather(*(migrate_up(empty_dsn, folder=folder) for _ in range(RUNNERS)))
    assert max(done, key=len) == ["0001_toys.sql", "0002_toys.sql", "0003_toys.sql"]
    assert sum(len(names) for names in done) == 3


async def test_a_runner_gives_up_waiting_for_another_that_does_not_finish(empty_dsn: str, folder: Path) -> None:
    write(folder, "0003_toys.sql", "SELECT pg_catalog.pg_sleep(1.5);")
    slow = asyncio.create_task(migrate_up(empty_dsn, folder=folder))
    await asyncio.sleep(0.3)
    with pytest.raises(MigrationError, match=r"has held the migration lock for 0\.2 s"):
        await migrate_up(empty_dsn, wait_seconds=0.2, folder=folder)
    assert len(await slow) == 3


async def test_a_failing_migration_leaves_nothing_behind_and_keeps_those_before_it(
    empty_dsn: str, folder: Path
) -> None:
    write(folder, "0003_toys.sql", "CREATE TABLE toys.kite (id int); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match=r"0003_toys\.sql failed and was rolled back: division by zero"):
        await migrate_up(empty_dsn, folder=folder)
    assert await fetchval(empty_dsn, "SELECT to_regclass('toys.kite')") is None
    assert await states(empty_dsn, folder) == {
        "0001_toys.sql": MigrationState.APPLIED,
        "0002_toys.sql": MigrationState.APPLIED,
        "0003_toys.sql": MigrationState.PENDING,
    }


async def test_a_file_edited_after_it_was_applied_stops_the_runner_and_is_named(empty_dsn: str, folder: Path) -> None:
    await migrate_up(empty_dsn, folder=folder)
    write(folder, "0001_toys.sql", "CREATE SCHEMA toys;")
    write(folder, "0003_toys.sql", "INSERT INTO toys.ball VALUES (3);")
    with pytest.raises(MigrationError, match=r"0001_toys\.sql was edited after it had been applied"):
        await migrate_up(empty_dsn, folder=folder)
    assert await states(empty_dsn, folder) == {
        "0001_toys.sql": MigrationState.CHANGED,
        "0002_toys.sql": MigrationState.APPLIED,
        "0003_toys.sql": MigrationState.PENDING,
    }


async def test_other_line_ends_are_no_edit(empty_dsn: str, folder: Path) -> None:
    (folder / "0003_toys.sql").write_bytes(b"SELECT\n1;\n")
    await migrate_up(empty_dsn, folder=folder)
    (folder / "0003_toys.sql").write_bytes(b"SELECT\r\n1;\r\n")
    assert await migrate_up(empty_dsn, folder=folder) == []


async def test_a_file_numbered_below_an_applied_one_is_refused(empty_dsn: str, folder: Path) -> None:
    write(folder, "0009_toys.sql", "SELECT 1;")
    await migrate_up(empty_dsn, folder=folder)
    write(folder, "0005_late.sql", "SELECT 1;")
    with pytest.raises(MigrationError, match=r"0005_late\.sql comes before 0009_toys\.sql"):
        await migrate_up(empty_dsn, folder=folder)


async def test_an_applied_file_that_is_gone_is_refused(empty_dsn: str, folder: Path) -> None:
    await migrate_up(empty_dsn, folder=folder)
    (folder / "0001_toys.sql").unlink()
    with pytest.raises(MigrationError, match=r"0001_toys\.sql was applied to this database, but the file is gone"):
        await migrate_up(empty_dsn, folder=folder)


async def test_the_release_before_runs_on_a_database_the_newer_one_migrated(empty_dsn: str, folder: Path) -> None:
    await migrate_up(empty_dsn, folder=folder)
    (folder / "0002_toys.sql").unlink()
    assert await migrate_up(empty_dsn, folder=folder) == []
    assert (await states(empty_dsn, folder))["0002_toys.sql"] is MigrationState.UNKNOWN


async def test_a_table_without_its_schema_is_refused(empty_dsn: str, folder: Path) -> None:
    write(folder, "0003_toys.sql", "CREATE TABLE kite (id int);")
    with pytest.raises(MigrationError, match="no schema has been selected"):
        await migrate_up(empty_dsn, folder=folder)


async def test_a_migration_may_not_commit_by_itself(empty_dsn: str, folder: Path) -> None:
    write(folder, "0003_toys.sql", "COMMIT;")
    with pytest.raises(MigrationError, match=r"0003_toys\.sql ended its transaction by itself"):
        await migrate_up(empty_dsn, folder=folder)


async def test_a_migration_does_not_queue_for_a_table_in_use_forever(
    empty_dsn: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("growth.plumbing.postgres.migrate.LOCK_TIMEOUT_MILLISECONDS", 100)
    await migrate_up(empty_dsn, folder=folder)
    write(folder, "0003_toys.sql", "ALTER TABLE toys.ball ADD COLUMN colour text;")
    connection = await asyncpg.connect(empty_dsn)
    async with connection.transaction():
        await connection.execute("SELECT FROM toys.ball")
        with pytest.raises(MigrationError, match="lock timeout"):
            await migrate_up(empty_dsn, folder=folder)
    await connection.close()
    assert await migrate_up(empty_dsn, folder=folder) == ["0003_toys.sql"]


@pytest.mark.parametrize("name", ["1_toys.sql", "0003-toys.sql", "0003_Toys.sql", "toys.sql"])
async def test_a_file_with_another_kind_of_name_is_refused(empty_dsn: str, folder: Path, name: str) -> None:
    write(folder, name, "SELECT 1;")
    with pytest.raises(MigrationError, match=r"is not named NNNN_<room>\.sql"):
        await migrate_up(empty_dsn, folder=folder)


async def test_two_files_with_one_number_are_refused(empty_dsn: str, folder: Path) -> None:
    write(folder, "0002_other.sql", "SELECT 1;")
    with pytest.raises(MigrationError, match=r"0002_toys\.sql has the number of 0002_other\.sql"):
        await migrate_up(empty_dsn, folder=folder)


async def test_asking_for_the_status_of_an_empty_database_writes_nothing(empty_dsn: str, folder: Path) -> None:
    assert set((await states(empty_dsn, folder)).values()) == {MigrationState.PENDING}
    assert await fetchval(empty_dsn, "SELECT to_regnamespace('plumbing')") is None


async def test_the_database_of_a_test_is_migrated(postgres_dsn: str) -> None:
    assert await migrate_up(postgres_dsn) == []
