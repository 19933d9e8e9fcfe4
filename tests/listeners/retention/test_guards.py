"""Guards, each taken away once to see what it guards break."""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from growth.listeners.retention import model, store
from growth.listeners.retention.source import store as source_store
from growth.plumbing.outbox.outbox import Subscription, deliver, emit
from growth.plumbing.postgres.database import Database, Tx, connect_postgres
from growth.plumbing.watch.invariants import Violation
from growth.vocabulary.events.checkin import CheckinCheckedIn
from growth.vocabulary.facts import FunnelStage
from tests.kit.invariants import violations
from tests.listeners.retention.conftest import Room, a_room, at, sighting, step
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

AT_ONCE = 4
A_MOMENT_SECONDS = 1.0
"""So long nobody else is seen to look."""


@pytest.fixture
async def unguarded(postgres_dsn: str) -> Any:
    """The room on a database whose invariants may break."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    try:
        yield a_room(database)
    finally:
        await database.close()


def broken(found: Iterable[Violation]) -> set[str]:
    return {one.room for one in found}


async def tell_at_once(
    room: Room, monkeypatch: pytest.MonkeyPatch, *, within_seconds: float = PATIENCE_SECONDS
) -> None:
    """The same new day, told by several who have all looked before anyone writes."""
    looked = asyncio.Barrier(AT_ONCE)
    find = store.find

    async def find_together(*arguments: Any) -> Any:
        found = await find(*arguments)
        await looked.wait()
        return found

    await room.see(sighting("ann", "2026-03-01"))
    monkeypatch.setattr(store, "find", find_together)
    async with asyncio.timeout(within_seconds):
        await asyncio.gather(*(room.see(sighting("ann", "2026-03-02")) for _ in range(AT_ONCE)))


async def test_without_the_rooms_lock_a_day_told_twice_at_once_counts_twice(
    unguarded: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_lock(_tx: Tx) -> None:
        return

    monkeypatch.setattr(store, "lock", no_lock)
    await tell_at_once(unguarded, monkeypatch)
    assert broken(await violations(unguarded.database)) == {"retention"}


async def test_with_it_nobody_else_looks_meanwhile(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeoutError):
        await tell_at_once(room, monkeypatch, within_seconds=A_MOMENT_SECONDS)
    monkeypatch.undo()
    await asyncio.gather(*(room.see(sighting("ann", "2026-03-02")) for _ in range(AT_ONCE)))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE retention.cells SET active = active + 1 WHERE segment = 0 AND n = 1",
        "UPDATE retention.cells SET returned = returned + 1 WHERE segment >> 24 = 1 AND n = 1",
        "DELETE FROM retention.cells WHERE segment >> 24 = 4",
        "INSERT INTO retention.cells SELECT (1 << 24) + (1 << 8), n, cohort_day, 1, 0 FROM retention.cells LIMIT 1",
        "UPDATE retention.returns SET shoppers = shoppers + 1",
        "UPDATE retention.shoppers SET last_day = last_day + 1",
        "DELETE FROM retention.active_days WHERE day = DATE '2026-03-01'",
        "UPDATE retention.funnel_steps SET shoppers = shoppers + 1 WHERE step = 1",
        "INSERT INTO retention.former_ids VALUES ('ann', 'bob')",
    ],
)
async def test_what_was_counted_wrong_is_seen(unguarded: Room, statement: str) -> None:
    await unguarded.see(
        *(sighting("ann", f"2026-03-0{day}", "checkin") for day in (1, 2)),
        step("ann", "2026-03-01 13:00", FunnelStage.VIEWED),
        step("ann", "2026-03-01 14:00", FunnelStage.CLAIMED),
    )
    assert await violations(unguarded.database) == []
    async with unguarded.database.transaction() as tx:
        await tx.execute(statement)
    assert broken(await violations(unguarded.database)) == {"retention"}


async def test_a_projection_that_dies_has_counted_nothing_and_counts_once_when_told_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = a_room(database)
    listener = Subscription("retention.outbox", room.projection.listens_to, room.projection.hear)
    event = CheckinCheckedIn(
        at=at("2026-03-01 12:00"),
        program_id="p",
        user_id="ann",
        day=at("2026-03-01 12:00").date(),
        streak=1,
        total=1,
        rewards=[],
        milestones=[],
    )
    async with database.transaction() as tx:
        await emit(tx, event, event)
    put_counts = store.put_counts

    async def put_and_die(*arguments: Any) -> None:
        await put_counts(*arguments)
        raise ConnectionAbortedError

    monkeypatch.setattr(store, "put_counts", put_and_die)
    with pytest.raises(Exception):  # noqa: B017, PT011 - however it dies
        await deliver(database, listener)
    assert await database.fetchval("SELECT count(*) FROM retention.shoppers") == 0
    monkeypatch.undo()
    assert await deliver(database, listener) == 2
    assert await deliver(database, listener) == 0
    assert await database.fetchval("SELECT active FROM retention.cells WHERE segment = 0") == 1


def test_the_sentences_walk_as_many_mechanics_and_days_of_life_as_there_are() -> None:
    """Segments have four bits for a mechanic, and for a day of life; `model.py` asserts that there are no more."""
    sentences = Path(model.__file__).with_name("invariants.sql")
    walked = re.findall(r"generate_series\((\d), (\d+)\) AS (\w+)", sentences.read_text())
    ends = {name: {int(end) for _, end, one in walked if one == name} for name in ("mechanic", "tail")}
    assert ends == {"mechanic": {len(model.MECHANICS) - 1}, "tail": {1, model.EARLY_DAYS - 1}}
    segments = [
        model.segment(family, source=source, mechanic=mechanic, tail=tail)
        for family in model.Family
        for source in (0, 1, source_store.MAX_SOURCES + 1)
        for mechanic in range(len(model.MECHANICS))
        for tail in range(model.EARLY_DAYS)
    ]
    assert len(set(segments)) == len(segments)


def test_without_the_bound_on_mechanics_one_is_counted_as_another_of_another_source() -> None:
    one_too_many = model.segment(model.Family.CUBE, source=4, mechanic=16, tail=0)
    assert one_too_many == model.segment(model.Family.CUBE, source=5, mechanic=0, tail=0)
