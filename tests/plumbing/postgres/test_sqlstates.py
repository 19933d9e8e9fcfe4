"""Whose trouble an error of Postgres is stands in a table, for every state that the driver has a class for."""

import inspect

import asyncpg
import pytest
from asyncpg import exceptions

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.postgres.sqlstates import VERDICTS, ErrorMeaning, verdict
from growth.vocabulary.refusals import Refusal, Unavailable

pytestmark = pytest.mark.anyio

SICK = """
    08000 08001 08003 08004 08006 08007 08P01
    25006 25P03 25P04 26000 40003 42P05 54000
    57000 57P01 57P02 57P03 57P04 57P05 XX000 XX001 XX002
"""
OUTSIDE = """
    28000 28P01 3D000 42501 53000 53100 53200 53300 53400 55000 55006 57014
    58000 58030 58P01 58P02 58P03 F0000 F0001
"""
AGAIN = "40000 40001 40P01 55P03 72000"

CLASSES = {
    one.sqlstate: one
    for _, one in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(one, asyncpg.PostgresError | asyncpg.PostgresWarning) and one.sqlstate
}


def test_every_state_of_the_driver_has_a_verdict_of_the_table() -> None:
    """A class that nobody has thought of would be told as a bug of ours."""
    assert {state[:2] for state in CLASSES} <= {key for key in VERDICTS if len(key) == 2}
    assert {key for key in VERDICTS if len(key) == 5} <= set(CLASSES)


@pytest.mark.parametrize("state", sorted(state for state in CLASSES if not state.startswith("01")))
def test_each_state_is_what_it_is(state: str) -> None:
    said = verdict(CLASSES[state](""))
    if state in SICK.split():
        assert said is ErrorMeaning.SICK
    elif state in OUTSIDE.split() or state.startswith("HV"):
        assert said is ErrorMeaning.OUTSIDE
    elif state in AGAIN.split() or CLASSES[state] is asyncpg.InvalidCachedStatementError:
        assert said is ErrorMeaning.AGAIN
    else:
        assert said is ErrorMeaning.OURS


def test_a_state_of_a_release_to_come_is_judged_by_its_class() -> None:
    error = asyncpg.PostgresError("")
    for state, expected in (
        ("53999", ErrorMeaning.OUTSIDE),
        ("ZZ999", ErrorMeaning.OURS),
        ("22999", ErrorMeaning.OURS),
    ):
        error.sqlstate = state  # type: ignore[misc]
        assert verdict(error) is expected


@pytest.mark.parametrize("error", [OSError(), TimeoutError(), asyncpg.InterfaceError(""), asyncpg.ProtocolError("")])
def test_a_line_that_breaks_is_the_outside(error: Exception) -> None:
    assert verdict(error) is ErrorMeaning.OUTSIDE


@pytest.mark.parametrize("error", [ValueError(), AssertionError(), Refusal, Unavailable("x"), KeyError()])
def test_what_is_not_of_postgres_passes_through(error: Exception) -> None:
    assert verdict(error) is ErrorMeaning.OURS


async def test_a_migration_beside_is_told_as_try_again(postgres_dsn: str) -> None:
    """A statement that was prepared before a column changed fails once, in a transaction; asyncpg then forgets it."""
    database = await connect_postgres(postgres_dsn, max_connections=1, acquire_seconds=5, statement_seconds=5)
    other = await asyncpg.connect(postgres_dsn)
    try:
        await other.execute("CREATE TABLE public.things (thing int)")
        await database.fetch("SELECT * FROM public.things")
        await other.execute("ALTER TABLE public.things ADD COLUMN more int")
        with pytest.raises(Unavailable):
            async with database.transaction() as tx:
                await tx.fetch("SELECT * FROM public.things")
        async with database.transaction() as tx:
            assert await tx.fetch("SELECT * FROM public.things") == []
    finally:
        await other.close()
        await database.close()


async def test_data_too_large_for_an_index_are_ours_and_a_refusal_of_ids_is_not(database: Database) -> None:
    """Both are 54000. Were the first taken for the outside, a reader would try it again for ever."""
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE public.wide (value text PRIMARY KEY)")
    with pytest.raises(asyncpg.ProgramLimitExceededError):
        async with database.transaction() as tx:
            await tx.execute(
                """
                INSERT INTO public.wide
                SELECT string_agg(md5(number::text), '')
                FROM generate_series(1, 1000) AS number
                """
            )
    with pytest.raises(Unavailable):
        async with database.transaction() as tx:
            await tx.execute(
                """
                DO $$ BEGIN
                    RAISE 'database is not accepting commands that assign new transaction IDs' USING ERRCODE = '54000';
                END $$
                """
            )
