"""A session that cannot do what the next transaction needs is not given out again; nobody asks Postgres for that."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from growth.plumbing.postgres import database as postgres
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.vocabulary.refusals import Unavailable
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

SIZE = 4


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "RECYCLE_SECONDS", 0.1)


@pytest.fixture
async def outside(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody who administers the server."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("CREATE TABLE public.notes (note int)")
    yield connection
    await connection.close()


@pytest.fixture
async def pool(postgres_dsn: str, outside: asyncpg.Connection) -> AsyncIterator[Database]:
    database = await connect_postgres(postgres_dsn, max_connections=SIZE, acquire_seconds=5, statement_seconds=5)
    yield database
    await database.close()


async def _write(pool: Database) -> None:
    async with pool.transaction() as tx:
        await tx.execute("INSERT INTO public.notes VALUES (1)")


async def _pids(pool: Database) -> set[int]:
    """The sessions of the whole pool, each used once, at once."""
    together = asyncio.Barrier(SIZE)

    async def one() -> int:
        async with pool.transaction() as tx:
            pid = await tx.fetchval("SELECT pg_backend_pid()")
            await together.wait()
            assert isinstance(pid, int)
            return pid

    return set(await asyncio.gather(*[one() for _ in range(SIZE)]))


async def _becomes_read_only(outside: asyncpg.Connection, pool: Database) -> None:
    """As after a failover to a server that does not write yet: whoever connects now gets a read-only session."""
    name = await outside.fetchval("SELECT quote_ident(current_database())")
    await outside.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await pool.pool.expire_connections()
    await _pids(pool)


async def _writes_again(outside: asyncpg.Connection) -> None:
    name = await outside.fetchval("SELECT quote_ident(current_database())")
    await outside.execute("SET default_transaction_read_only = off")
    await outside.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


async def _until_it_writes(pool: Database) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await _write(pool)
            except Unavailable:
                await asyncio.sleep(0.02)


async def test_sessions_of_a_read_only_time_are_not_kept_when_it_is_over(
    pool: Database, outside: asyncpg.Connection
) -> None:
    await _becomes_read_only(outside, pool)
    with pytest.raises(Unavailable):
        await _write(pool)
    await _writes_again(outside)
    await _until_it_writes(pool)
    # Every session, not the one that was asked.
    for _ in range(SIZE):
        await asyncio.gather(*[_write(pool) for _ in range(SIZE)])


async def test_who_only_read_meanwhile_finds_sessions_that_write(pool: Database, outside: asyncpg.Connection) -> None:
    """No write failed: the sessions said by themselves that they could not."""
    await _becomes_read_only(outside, pool)
    await _writes_again(outside)
    await asyncio.sleep(postgres.RECYCLE_SECONDS * 2)
    await _pids(pool)
    await _write(pool)


async def test_negative_control_a_pool_that_notes_nothing_gives_read_only_sessions_again_and_again(
    pool: Database, outside: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "_note", lambda _self, _error: None)
    monkeypatch.setattr(pool, "_writes", False)
    await _becomes_read_only(outside, pool)
    await _writes_again(outside)
    await asyncio.sleep(postgres.RECYCLE_SECONDS * 2)
    for _ in range(SIZE * 3):
        with pytest.raises(Unavailable):
            await _write(pool)


async def test_a_server_that_stays_read_only_is_not_asked_for_sessions_without_end(
    pool: Database, outside: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "RECYCLE_SECONDS", 3600.0)
    await _becomes_read_only(outside, pool)
    pool._recycle_at = 0.0
    with pytest.raises(Unavailable):
        await _write(pool)
    pids = await _pids(pool)
    for _ in range(50):
        with pytest.raises(Unavailable):
            await _write(pool)
    assert await _pids(pool) == pids
    # For whoever looks after the test: an hour is for ever.
    pool._recycle_at = time.monotonic()


@pytest.mark.parametrize("state", ["57P01", "08006", "54000", "XX001", "26000"])
async def test_an_error_of_the_server_or_the_session_makes_all_sessions_anew(pool: Database, state: str) -> None:
    before = await _pids(pool)
    with pytest.raises(Unavailable):
        async with pool.transaction() as tx:
            await tx.execute(f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$")
    assert not await _pids(pool) & before


@pytest.mark.parametrize("state", ["40001", "55P03", "53100", "57014", "23505"])
async def test_an_error_that_leaves_the_session_well_keeps_it(pool: Database, state: str) -> None:
    before = await _pids(pool)
    with pytest.raises((Unavailable, asyncpg.PostgresError)):
        async with pool.transaction() as tx:
            await tx.execute(f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$")
    assert await _pids(pool) == before


@pytest.mark.parametrize(
    "statement", ["SET timezone = 'Asia/Tokyo'", "SET search_path = public", "BEGIN", "BEGIN; SELECT 1 / 0"]
)
async def test_a_session_that_somebody_left_in_another_state_is_closed(pool: Database, statement: str) -> None:
    async with pool._connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        try:
            await connection.execute(statement)
        except asyncpg.DivisionByZeroError:
            assert connection.is_in_transaction()
    assert pid not in await _pids(pool)
    assert await pool.fetchval("SELECT current_setting('TimeZone')") == "UTC"
    assert await pool.fetchval("SELECT current_setting('search_path')") in {"", '""'}


async def test_a_replica_is_read_only_and_well(postgres_dsn: str, outside: asyncpg.Connection) -> None:
    replica = await connect_postgres(
        postgres_dsn, max_connections=SIZE, acquire_seconds=5, statement_seconds=5, writes=False
    )
    try:
        await _becomes_read_only(outside, replica)
        before = await _pids(replica)
        await asyncio.sleep(postgres.RECYCLE_SECONDS * 2)
        assert await _pids(replica) == before
    finally:
        await _writes_again(outside)
        await replica.close()


async def test_giving_a_session_back_asks_postgres_nothing(pool: Database) -> None:
    """A transaction of one statement is three questions: BEGIN, the statement, COMMIT."""
    asked: list[str] = []
    async with pool._connection() as connection:
        session: asyncpg.Connection = connection._con  # type: ignore[attr-defined]
    session.add_query_logger(lambda record: asked.append(record.query))
    for _ in range(SIZE):
        asked.clear()
        await _write(pool)
        if asked:
            break
    assert [query.split()[0] for query in asked] == ["BEGIN", "INSERT", "COMMIT"]
