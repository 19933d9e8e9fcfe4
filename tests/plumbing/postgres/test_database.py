"""What a caller learns of a transaction is true, whatever happens to the line to Postgres."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from structlog.testing import capture_logs

from growth.plumbing.postgres import database as postgres
from growth.plumbing.postgres.database import CommitUnknown, Database, Tx, connect_postgres
from growth.vocabulary.refusals import Kind, Refusal, Unavailable
from tests.patience import PATIENCE_SECONDS
from tests.plumbing.postgres_proxy import PostgresProxy

pytestmark = pytest.mark.anyio

NO = Kind("test.no", "No.")


@pytest.fixture(autouse=True)
async def notes(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("CREATE TABLE public.notes (note text PRIMARY KEY)")
    await connection.close()


async def _note(tx: Tx, note: str) -> None:
    await tx.execute("INSERT INTO public.notes (note) VALUES ($1)", note)


async def _notes(database: Database) -> list[str]:
    return [row["note"] for row in await database.fetch("SELECT note FROM public.notes ORDER BY note")]


Step = Callable[[Tx], Awaitable[object]]


async def _transact(database: Database, *steps: Step) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), database.transaction() as tx:
        for step in steps:
            await step(tx)


def _writes(note: str) -> Step:
    return lambda tx: _note(tx, note)


def _raises(error: BaseException) -> Step:
    async def step(_: Tx) -> None:
        raise error

    return step


def _then(action: Callable[[], Awaitable[object]]) -> Step:
    async def step(tx: Tx) -> None:
        tx.after_commit(action)

    return step


async def _never() -> None:
    pytest.fail("nothing follows what is not known to be committed")


async def _backend(tx: Tx) -> int:
    pid = await tx.fetchval("SELECT pg_backend_pid()")
    assert isinstance(pid, int)
    return pid


async def _all_connections_work(database: Database, size: int) -> None:
    """Use every connection of the pool at once: none is lost, none is left in a transaction."""
    barrier = asyncio.Barrier(size)

    async def use() -> None:
        async with database.transaction() as tx:
            assert await tx.fetchval("SELECT pg_current_xact_id_if_assigned() IS NULL")
            await barrier.wait()

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(size):
            group.create_task(use())


async def test_a_transaction_commits_when_left_and_then_does_what_follows(database: Database) -> None:
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append(await _notes(database))

    async with database.transaction() as tx:
        await _note(tx, "a")
        tx.after_commit(look)
        assert seen == []
    assert seen == [["a"]]


@pytest.mark.parametrize("error", [Refusal(NO), ValueError("a bug"), asyncio.CancelledError()])
async def test_an_error_rolls_back_comes_through_unchanged_and_nothing_follows(
    database: Database, error: BaseException
) -> None:
    with pytest.raises(type(error)) as raised:
        await _transact(database, _then(_never), _writes("a"), _raises(error))
    assert raised.value is error
    assert await _notes(database) == []


async def test_what_follows_a_commit_cannot_undo_or_hold_up_the_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "MAX_AFTER_COMMIT_SECONDS", 0.05)
    done: list[str] = []

    async def fails() -> None:
        raise Unavailable("Redis")

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def works() -> None:
        done.append("worked")

    with capture_logs() as logs:
        async with asyncio.timeout(PATIENCE_SECONDS), database.transaction() as tx:
            await _note(tx, "a")
            for action in (fails, hangs, works):
                tx.after_commit(action)
    assert done == ["worked"]
    assert [entry["event"] for entry in logs] == ["postgres.after_commit_failed"] * 2
    assert await _notes(database) == ["a"]


async def test_a_lost_answer_to_commit_is_unknown_and_it_happened(
    database: Database, proxied: Database, proxy: PostgresProxy
) -> None:
    proxy.cut_after_commit = True
    with pytest.raises(CommitUnknown):
        await _transact(proxied, _writes("a"))
    assert proxy.committed.is_set()
    assert await _notes(database) == ["a"]
    proxy.cut_after_commit = False
    await _all_connections_work(proxied, 2)


async def test_a_commit_that_never_arrived_is_unknown_and_did_not_happen(
    database: Database, proxied: Database, proxy: PostgresProxy
) -> None:
    proxy.cut_before_commit = True
    with pytest.raises(CommitUnknown):
        await _transact(proxied, _writes("a"))
    assert await _notes(database) == []
    proxy.cut_before_commit = False
    await _all_connections_work(proxied, 2)


async def test_a_commit_without_an_answer_in_time_is_unknown(
    database: Database, proxied: Database, proxy: PostgresProxy
) -> None:
    with pytest.raises(CommitUnknown):
        await _transact(proxied, _writes("a"), lambda _: proxy.freeze())
    proxy.thaw()
    await _all_connections_work(proxied, 2)


async def test_nothing_follows_a_commit_nobody_knows_of(proxied: Database, proxy: PostgresProxy) -> None:
    proxy.cut_after_commit = True
    with pytest.raises(CommitUnknown):
        await _transact(proxied, _writes("a"), _then(_never))


async def test_a_line_cut_within_a_transaction_is_unavailable_and_known_to_be_rolled_back(
    database: Database, proxied: Database, proxy: PostgresProxy
) -> None:
    with pytest.raises(Unavailable) as raised:
        await _transact(proxied, _writes("a"), lambda _: proxy.cut(), _writes("b"))
    assert not isinstance(raised.value, CommitUnknown)
    assert await _notes(database) == []
    await _all_connections_work(proxied, 2)


@pytest.mark.parametrize("error", [Refusal(NO), ValueError("a bug"), asyncio.CancelledError()])
async def test_a_rollback_on_a_dead_line_does_not_mask_the_error(
    proxied: Database, proxy: PostgresProxy, error: BaseException
) -> None:
    with pytest.raises(type(error)) as raised:
        await _transact(proxied, _writes("a"), lambda _: proxy.cut(), _raises(error))
    assert raised.value is error
    await _all_connections_work(proxied, 2)


async def test_a_rollback_on_a_frozen_line_does_not_mask_the_error(
    database: Database, proxied: Database, proxy: PostgresProxy
) -> None:
    with pytest.raises(Refusal):
        await _transact(proxied, _writes("a"), lambda _: proxy.freeze(), _raises(Refusal(NO)))
    proxy.thaw()
    assert await _notes(database) == []
    await _all_connections_work(proxied, 2)


async def test_a_line_that_dies_after_the_commit_does_not_undo_the_answer(
    database: Database, proxied: Database, proxy: PostgresProxy
) -> None:
    followed: list[bool] = []

    async def follow() -> None:
        followed.append(True)

    proxy.cut_behind_commit = True
    for note in "abc":
        async with proxied.transaction() as tx:
            await _note(tx, note)
            tx.after_commit(follow)
    assert followed == [True, True, True]
    assert await _notes(database) == ["a", "b", "c"]
    proxy.cut_behind_commit = False
    await _all_connections_work(proxied, 2)


async def test_a_backend_killed_in_the_middle_is_unavailable(database: Database) -> None:
    async def kill(tx: Tx) -> None:
        assert await database.fetchval("SELECT pg_terminate_backend($1, 5000)", await _backend(tx))

    with pytest.raises(Unavailable):
        await _transact(database, _writes("a"), kill, _writes("b"))
    assert await _notes(database) == []
    await _all_connections_work(database, 10)


async def test_a_killed_idle_connection_is_replaced_without_anyone_noticing(
    database: Database, postgres_dsn: str
) -> None:
    async with database.transaction() as tx:
        pid = await _backend(tx)
    connection = await asyncpg.connect(postgres_dsn)
    assert await connection.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    await connection.close()
    await _all_connections_work(database, 10)


async def test_an_exhausted_pool_is_unavailable_in_bounded_time(proxied: Database) -> None:
    async with proxied.transaction(), proxied.transaction():
        with pytest.raises(Unavailable):
            async with proxied.transaction():
                pytest.fail("there were only two")
        with pytest.raises(Unavailable):
            await proxied.fetchval("SELECT 1")
    await _all_connections_work(proxied, 2)


async def test_nobody_there_is_unavailable_and_comes_back_by_itself(proxied: Database, proxy: PostgresProxy) -> None:
    assert await proxied.fetchval("SELECT 1") == 1
    await proxy.refuse()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await proxied.fetchval("SELECT 1")
        with pytest.raises(Unavailable):
            async with proxied.transaction():
                pytest.fail("nobody is there")


async def test_a_frozen_postgres_is_unavailable_in_bounded_time(proxied: Database, proxy: PostgresProxy) -> None:
    assert await proxied.fetchval("SELECT 1") == 1
    await proxy.freeze()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Unavailable):
            await proxied.fetchval("SELECT 1")
    proxy.thaw()
    await _all_connections_work(proxied, 2)


async def test_a_statement_that_takes_too_long_is_unavailable(proxied: Database) -> None:
    with pytest.raises(Unavailable):
        async with proxied.transaction() as tx:
            await tx.execute("SELECT pg_sleep(30)")
    await _all_connections_work(proxied, 2)


async def test_of_two_in_a_deadlock_one_was_crossed_and_the_other_commits(database: Database) -> None:
    async with database.transaction() as tx:
        await _note(tx, "a")
        await _note(tx, "b")
    both = asyncio.Barrier(2)

    async def touch(first: str, second: str) -> None:
        async with database.transaction() as tx:
            await tx.execute("UPDATE public.notes SET note = note WHERE note = $1", first)
            await both.wait()
            await tx.execute("UPDATE public.notes SET note = note WHERE note = $1", second)

    results = await asyncio.gather(touch("a", "b"), touch("b", "a"), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Crossed", "NoneType"]


@pytest.mark.parametrize("at", range(12))
async def test_a_cancelled_caller_leaves_no_connection_behind(database: Database, at: int) -> None:
    """Cancel after so many steps of the loop, wherever that is: the write happened whole or not at all."""

    async def write() -> None:
        async with database.transaction() as tx:
            await _note(tx, "a")
            await _note(tx, "b")

    task = asyncio.create_task(write())
    for _ in range(at):
        await asyncio.sleep(0.0005)
    task.cancel()
    await asyncio.wait([task])
    assert await _notes(database) in ([], ["a", "b"])
    await _all_connections_work(database, 10)


async def test_a_second_cancel_during_the_rollback_leaves_no_connection_behind(
    proxied: Database, proxy: PostgresProxy, database: Database
) -> None:
    inside = asyncio.Event()

    async def write() -> None:
        async with proxied.transaction() as tx:
            await _note(tx, "a")
            await proxy.freeze()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    proxy.thaw()
    await _all_connections_work(proxied, 2)
    assert await _notes(database) == []


async def test_a_swallowed_error_of_a_statement_is_not_taken_for_a_commit(database: Database) -> None:
    """Postgres answers COMMIT of a failed transaction with ROLLBACK, and no error."""

    async def swallow(tx: Tx) -> None:
        with contextlib.suppress(asyncpg.UniqueViolationError):
            await _note(tx, "a")

    with pytest.raises(RuntimeError):
        await _transact(database, _writes("a"), swallow)
    assert await _notes(database) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda tx: tx.fetchval("SELECT $1::int", 2**40),
        lambda tx: tx.fetchval("SELECT $1::text", 7),
        lambda tx: tx.fetchval("SELECT 1", "one too many"),
        lambda tx: tx.fetchval("SELECT $1::text", "a\x00b"),
        lambda tx: tx.fetchval("SELECT nothing"),
    ],
    ids=["too large", "wrong type", "too many", "NUL", "no such column"],
)
async def test_a_bug_of_ours_is_not_told_as_postgres_failing(database: Database, wrong: Step) -> None:
    """Unavailable means: try again. A caller's bad value or a wrong statement fails again forever."""
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await _transact(database, wrong)
    await _all_connections_work(database, 10)


async def test_ids_are_strings_and_json_is_values(database: Database) -> None:
    row = await database.fetchrow(
        """
        SELECT $1::uuid AS id, $2::uuid[] AS ids, $3::jsonb AS value, NULL::jsonb AS nothing
        """,
        "01a1fff0-f180-74f8-8537-f642d1a8a040",
        ["01a1fff0-f180-74f8-8537-f642d1a8a040"],
        {"a": [1, None, "ü"]},
    )
    assert row is not None
    assert dict(row) == {
        "id": "01a1fff0-f180-74f8-8537-f642d1a8a040",
        "ids": ["01a1fff0-f180-74f8-8537-f642d1a8a040"],
        "value": {"a": [1, None, "ü"]},
        "nothing": None,
    }


async def test_a_statement_must_name_its_schema(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetch("SELECT note FROM notes")


async def test_closing_ends_in_bounded_time_with_a_transaction_open(postgres_dsn: str) -> None:
    database = await connect_postgres(postgres_dsn, max_connections=2, acquire_seconds=0.2, statement_seconds=1)
    inside = asyncio.Event()

    async def hold() -> None:
        async with database.transaction():
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await database.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(Unavailable):
        await database.fetchval("SELECT 1")
