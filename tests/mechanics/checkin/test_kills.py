"""The process dies between any two steps: nothing is half-done, and doing it again does it once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from growth.mechanics.checkin.model import CheckinMilestone
from growth.plumbing.postgres.database import CommitUnknown, Database, Tx
from growth.vocabulary.refusals import Unavailable
from tests.mechanics.checkin.conftest import Room, a_draft, assemble, nth, points

pytestmark = pytest.mark.anyio

TABLES = (
    "checkin.programs",
    "checkin.terms",
    "checkin.days",
    "checkin.states",
    "checkin.milestones",
    "checkin.make_ups",
    "checkin.walks",
    "ledger.transfers",
    "ledger.accounts",
    "plumbing.audit",
)
MAX_STEPS = 60


class Killed(Unavailable):
    """The process is gone."""


class Mortal(Database):
    """A pool whose transactions die before their n-th statement, or (the statement after the last) before COMMIT."""

    def __init__(self, database: Database, steps: int) -> None:
        super().__init__(database.pool, acquire_seconds=60)
        self.left = steps

    def _step(self) -> None:
        if self.left == 0:
            raise Killed("gone")
        self.left -= 1

    @asynccontextmanager
    async def transaction(self, **told: Any) -> AsyncIterator[Tx]:
        async with super().transaction(**told) as tx:
            for name in ("fetch", "fetchrow", "fetchval", "execute"):
                setattr(tx, name, self._mortal(getattr(tx, name)))
            yield tx
            self._step()

    def _mortal(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any) -> Any:
            self._step()
            return await call(*args)

        return run


class Lost(Database):
    """A pool that loses the answer to its first COMMIT, after Postgres has done it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.pool, acquire_seconds=60)
        self.lost = False

    @asynccontextmanager
    async def transaction(self, **told: Any) -> AsyncIterator[Tx]:
        async with super().transaction(**told) as tx:
            yield tx
        if not self.lost:
            self.lost = True
            raise CommitUnknown("the line was cut")


async def everything(database: Database) -> list[str]:
    found = []
    for table in TABLES:
        rows = await database.fetch(f"SELECT t::text AS row FROM {table} AS t ORDER BY 1")
        found += [f"{table} {row['row']}" for row in rows]
    rows = await database.fetch("SELECT type, subject, data::text AS data FROM plumbing.outbox ORDER BY position")
    return found + [f"outbox {tuple(row)}" for row in rows]


Act = Callable[[Room], Awaitable[Any]]
Story = Callable[[Room], Awaitable[Act]]


async def tapping(room: Room) -> Act:
    await room.taps_daily("ann", 1)
    return lambda mortal: mortal.taps("ann", nth(2))


async def tapping_with_a_card_right_after_midnight(room: Room) -> Act:
    await room.taps_daily("ann", 1, 2)
    await room.cards("ann", freeze=1)
    return lambda mortal: mortal.taps("ann", nth(4), 0.001)


async def tapping_late(room: Room) -> Act:
    await room.taps_daily("ann", 1, 3)
    return lambda mortal: mortal.taps("ann", nth(2))


async def making_up(room: Room) -> Act:
    await room.taps_daily("ann", 1, 3)
    await room.cards("ann", make_up=1)
    return lambda mortal: mortal.makes_up("ann", nth(2), "k")


async def a_night(room: Room) -> Act:
    for user_id in ("ann", "bob"):
        await room.taps_daily(user_id, 1, 2)
    await room.cards("ann", freeze=1)
    room.at(nth(3), 1)
    await room.nights()
    room.at(nth(4), 1)
    return lambda mortal: mortal.night.end_days(mortal.turn())


async def warning(room: Room) -> Act:
    await room.taps_daily("ann", 1, 2)
    await room.calendars.remind("ann", wants=True)
    room.at(nth(3), 22)
    return lambda mortal: mortal.night.warn(mortal.turn())


async def ending_the_program(room: Room) -> Act:
    room.at(nth(3))
    (program,) = await room.programs.page(state="published", before=None, limit=10)
    return lambda mortal: mortal.programs.end(mortal.act(), program.program_id)


async def changing_the_program(room: Room) -> Act:
    room.at(nth(3))
    (program,) = await room.programs.page(state="published", before=None, limit=10)
    draft = a_draft(title="New")
    return lambda mortal: mortal.programs.change(mortal.act(), program.program_id, program.version, draft)


@pytest.mark.parametrize(
    "story",
    [
        tapping,
        tapping_with_a_card_right_after_midnight,
        tapping_late,
        making_up,
        a_night,
        warning,
        ending_the_program,
        changing_the_program,
    ],
)
async def test_a_process_that_dies_anywhere_leaves_nothing_half_done(room: Room, story: Story) -> None:
    await room.program(uses_freeze_cards=True, milestones=[CheckinMilestone(2, points(50))])
    act = await story(room)
    before = await everything(room.database)
    for steps in range(MAX_STEPS):
        mortal = assemble(Mortal(room.database, steps), room.almanacs)
        try:
            await act(mortal)
        except Killed:
            assert await everything(room.database) == before, f"killed before step {steps}"
            continue
        assert steps > 2
        break
    else:
        pytest.fail("it never got to the end")
    assert await everything(room.database) != before


async def test_an_answer_lost_at_commit_is_found_and_earned_once(room: Room) -> None:
    await room.program()
    lossy = assemble(Lost(room.database), room.almanacs)
    told = await lossy.taps("ann", nth(1))
    assert (told.answer.streak, told.answer.day) == (1, nth(1))
    assert await room.points("ann") == 1
    assert len(await room.events("checked_in")) == 1
