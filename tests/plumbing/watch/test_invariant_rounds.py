"""Rounds in a shop that has grown: nobody's sentence silences another's, and asking closes no shop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch import invariant_rounds
from growth.plumbing.watch.invariant_rounds import InvariantRounds
from growth.plumbing.watch.invariants import Invariant, all_invariants, read_invariants, violations
from growth.plumbing.work import housekeeping
from growth.plumbing.work.housekeeping import Housekeeping
from growth.plumbing.work.periodic import Held, Turn
from growth.vocabulary.actors import Role
from tests.app import running_app

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
STATEMENT_SECONDS = 0.5

SLEEPS = Invariant("tea", "Nobody waits for tea", "SELECT pg_catalog.pg_sleep(60) AS slept")
WRONG = Invariant("tea", "There is a pot", "SELECT 1 / 0 AS pot")
BROKEN = Invariant("cup", "No cup is broken", "SELECT 7 AS cup")
HOLDS = Invariant("cup", "Every cup has a handle", "SELECT 1 WHERE FALSE")

PAGED = """-- name: No thing is bad
-- page: 3 of plumbing.things by thing bigint
SELECT thing
FROM page
WHERE is_bad;
"""


@contextlib.asynccontextmanager
async def rounds_of(dsn: str, invariants: Sequence[Invariant], seconds: float = 10) -> AsyncIterator[InvariantRounds]:
    database = await connect_postgres(
        dsn, max_connections=1, acquire_seconds=5, statement_seconds=seconds, connect_now=False
    )
    rounds = InvariantRounds(database, invariants)
    try:
        yield rounds
    finally:
        await rounds.close()


@pytest.fixture
def quiet() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


async def _states(rounds: InvariantRounds) -> dict[str, str]:
    return {one.name: one.state for one in (await rounds.ask(NOON)).outcomes}


# --- each by itself ---------------------------------------------------------------------------------------------------


async def test_a_slow_sentence_and_one_that_fails_are_told_and_a_fault_behind_them_too(postgres_dsn: str) -> None:
    async with rounds_of(postgres_dsn, [SLEEPS, WRONG, HOLDS, BROKEN], STATEMENT_SECONDS) as rounds:
        found = await rounds.ask(NOON)
    assert [(one.name, one.state) for one in found.outcomes] == [
        (SLEEPS.name, "slow"),
        (WRONG.name, "failed"),
        (HOLDS.name, "holds"),
        (BROKEN.name, "violated"),
    ]
    assert [(one.room, one.rows) for one in found.violations()] == [("cup", [{"cup": 7}])]
    assert found.outcomes[1].error == "DivisionByZeroError 22012"


async def test_negative_control_one_after_the_other_on_one_clock_tells_nothing(postgres_dsn: str) -> None:
    database = await connect_postgres(
        postgres_dsn, max_connections=1, acquire_seconds=5, statement_seconds=STATEMENT_SECONDS
    )
    try:
        with pytest.raises(Exception, match="did not answer"):
            await violations(database, (SLEEPS, BROKEN))
    finally:
        await database.close()


async def test_whom_a_round_did_not_reach_comes_first_in_the_next(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariant_rounds, "ROUND_SECONDS", STATEMENT_SECONDS / 2)
    monkeypatch.setattr(invariant_rounds, "DEAR_SECONDS", 1000.0)
    async with rounds_of(postgres_dsn, [SLEEPS, BROKEN, HOLDS], STATEMENT_SECONDS) as rounds:
        assert await _states(rounds) == {SLEEPS.name: "slow", BROKEN.name: "slow", HOLDS.name: "slow"}
        assert await _states(rounds) == {BROKEN.name: "violated", HOLDS.name: "holds", SLEEPS.name: "slow"}


async def test_a_postgres_that_is_away_is_told_of_every_sentence_and_raises_nothing(postgres_dsn: str) -> None:
    async with rounds_of(postgres_dsn.replace("/growth_test", "/nobody"), [HOLDS, BROKEN]) as rounds:
        assert set((await _states(rounds)).values()) == {"failed"}


# --- one at a time ----------------------------------------------------------------------------------------------------


async def test_a_hundred_who_ask_at_once_share_one_round_on_one_connection(postgres_dsn: str) -> None:
    slept = Invariant("tea", "It takes a while", "SELECT 1 WHERE pg_catalog.pg_sleep(0.3) IS NULL")
    async with rounds_of(postgres_dsn, [slept, BROKEN]) as rounds:
        found = await asyncio.gather(*[rounds.ask(NOON) for _ in range(100)])
        assert len({id(one) for one in found}) == 1
        assert len(found[0].outcomes) == 2


async def test_who_asks_again_in_a_small_shop_hears_what_is_so_now(postgres_dsn: str) -> None:
    outside = await asyncpg.connect(postgres_dsn)
    await outside.execute("CREATE TABLE plumbing.things (thing int)")
    told = Invariant("tea", "Nothing is there", "SELECT thing FROM plumbing.things")
    async with rounds_of(postgres_dsn, [told]) as rounds:
        assert await _states(rounds) == {told.name: "holds"}
        await outside.execute("INSERT INTO plumbing.things VALUES (1)")
        assert await _states(rounds) == {told.name: "violated"}
    await outside.close()


async def test_a_dear_round_is_told_again_for_ten_times_as_long_as_it_took(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariant_rounds, "DEAR_SECONDS", 0.0)
    monkeypatch.setattr(invariant_rounds, "REST", 10.0**6)
    async with rounds_of(postgres_dsn, [HOLDS]) as rounds:
        first = await rounds.ask(NOON)
        assert await rounds.ask(NOON) is first
        rounds._rested_at = 0.0
        assert await rounds.ask(NOON) is not first


async def test_who_waits_no_longer_hears_what_is_known_so_far_and_ends_it_for_nobody(postgres_dsn: str) -> None:
    waits = Invariant("tea", "It takes a while", "SELECT 1 WHERE pg_catalog.pg_sleep(1) IS NULL")
    async with rounds_of(postgres_dsn, [BROKEN, waits]) as rounds:
        early = await rounds.ask(NOON, 0.5)
        assert ([one.state for one in early.outcomes], early.ended_at) == (["violated"], None)
        whole = await rounds.ask(NOON)
        assert [one.state for one in whole.outcomes] == ["violated", "holds"]
        assert whole.ended_at is not None


# --- long tables ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def things(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Ten things, of which a page shows three."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("CREATE TABLE plumbing.things (thing bigint PRIMARY KEY, is_bad boolean DEFAULT FALSE)")
    await connection.execute("INSERT INTO plumbing.things SELECT generate_series(1, 10)")
    yield connection
    await connection.close()


@pytest.fixture
def paged(tmp_path: Path) -> Invariant:
    (tmp_path / "invariants.sql").write_text(PAGED)
    (found,) = read_invariants(tmp_path / "invariants.sql", "tea")
    return found


async def _bad(connection: asyncpg.Connection, *bad: int) -> None:
    await connection.execute("UPDATE plumbing.things SET is_bad = thing = ANY ($1::bigint[])", list(bad))


async def _shown(rounds: InvariantRounds) -> list[int]:
    return [row["thing"] for one in (await rounds.ask(NOON, walks=True)).outcomes for row in one.rows]


async def test_a_long_table_is_walked_page_by_page_and_its_end_looked_at_each_time(
    postgres_dsn: str, things: asyncpg.Connection, paged: Invariant
) -> None:
    await _bad(things, *range(1, 11))
    async with rounds_of(postgres_dsn, [paged]) as rounds:
        assert await _shown(rounds) == [1, 2, 3, 8, 9, 10]
        assert await _shown(rounds) == [4, 5, 6, 8, 9, 10]
        (walk,) = await rounds.walks(rounds._database)
        assert (walk.table, walk.is_under_way, walk.walked_at) == ("plumbing.things", True, None)
    # Another process goes on where this one was.
    async with rounds_of(postgres_dsn, [paged]) as rounds:
        assert await _shown(rounds) == [7, 8, 9, 10]
        assert await _shown(rounds) == [10, 8, 9]
        (walk,) = await rounds.walks(rounds._database)
        assert (walk.is_under_way, walk.walked_at) == (False, NOON)
        assert await _shown(rounds) == [1, 2, 3, 8, 9, 10]


async def test_a_fault_in_old_history_is_found_before_the_walk_begins_anew(
    postgres_dsn: str, things: asyncpg.Connection, paged: Invariant
) -> None:
    await _bad(things, 5)
    async with rounds_of(postgres_dsn, [paged]) as rounds:
        assert [bool(await _shown(rounds)) for _ in range(4)] == [False, True, False, False]
    assert [one.rows for one in await _all(postgres_dsn, paged)] == [[{"thing": 5}]]


async def _all(dsn: str, paged: Invariant) -> list[Any]:
    database = await connect_postgres(dsn, max_connections=1, acquire_seconds=5, statement_seconds=5)
    try:
        return list(await violations(database, (paged,)))
    finally:
        await database.close()


async def test_a_short_table_is_looked_at_whole_in_each_round(
    postgres_dsn: str, things: asyncpg.Connection, paged: Invariant
) -> None:
    await things.execute("DELETE FROM plumbing.things WHERE thing > 3")
    await _bad(things, 1, 3)
    async with rounds_of(postgres_dsn, [paged]) as rounds:
        assert [await _shown(rounds) for _ in range(3)] == [[1, 3]] * 3


async def test_every_paged_sentence_of_every_room_can_be_asked_in_pages(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [one for one in all_invariants() if one.page]
    assert len(found) > 20
    connection = await asyncpg.connect(postgres_dsn, server_settings={"search_path": ""})
    monkeypatch.setattr(invariant_rounds, "DEAR_SECONDS", 1000.0)
    for one in found:
        assert one.page is not None
        place = [
            {"uuid": "01a1fff0-f180-74f8-8537-f642d1a8a040", "date": "2026-11-25"}.get(type_, "1")
            for _, type_ in one.page.keys
        ]
        for after, until in ((None, None), (place, None), (None, place), (place, place)):
            sql, arguments = one.between(after, until)
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *arguments))
            assert plan
    await connection.close()
    async with rounds_of(postgres_dsn, found) as rounds:
        assert set((await _states(rounds)).values()) == {"holds"}


# --- told -------------------------------------------------------------------------------------------------------------


def _number(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_numbers_are_of_the_last_round_and_end_with_it(
    postgres_dsn: str, database: Database, monkeypatch: pytest.MonkeyPatch, quiet: list[Any]
) -> None:
    turn = Turn(database, "invariants", Held("test", 1, NOON))
    async with rounds_of(postgres_dsn, [SLEEPS, WRONG, HOLDS, BROKEN], STATEMENT_SECONDS) as rounds:
        assert await Housekeeping(database, rounds).check_invariants(turn) == 1
    assert _number("growth_invariant_violations") == 1
    assert _number("growth_invariants_unanswered", why="slow") == 1
    assert _number("growth_invariants_unanswered", why="failed") == 1
    assert {one["event"] for one in quiet} == {"invariant.violated", "invariant.unanswered"}
    # A worker that leads no more has no numbers of when it did.
    monkeypatch.setattr(housekeeping._last, "_until", 0.0)
    old = _number("growth_invariant_violations")
    assert old is not None
    assert old != old  # noqa: PLR0124 - not a number


async def test_a_viewer_hears_of_what_is_slow_and_what_is_broken_and_how_far_walks_are(
    postgres_dsn: str, redis_url: str
) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        app.growth.invariants._invariants += [BROKEN, WRONG]
        answers = await asyncio.gather(
            *[app.operator("GET", "/admin/v1/invariants", role=Role.VIEWER) for _ in range(5)]
        )
        assert {answer.status_code for answer in answers} == {200}
        body = answers[0].json()
        assert [one["name"] for one in body["violations"]] == [BROKEN.name]
        assert [(one["name"], one["error"]) for one in body["failed"]] == [(WRONG.name, "DivisionByZeroError 22012")]
        assert body["checked"] == len(all_invariants()) + 1
        assert body["walks"] == [], "who asks moves nothing"
