"""The process dies between any two steps: nothing is half-done, and doing it again does it once."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from growth.mechanics.checkin.model import CheckinMilestone
from tests.kit.mortal import Deaf, dies_anywhere
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
    await dies_anywhere(room.database, TABLES, lambda mortal: act(assemble(mortal, room.almanacs)))


async def test_an_answer_lost_at_commit_is_found_and_earned_once(room: Room) -> None:
    await room.program()
    lossy = assemble(Deaf(room.database), room.almanacs)
    told = await lossy.taps("ann", nth(1))
    assert (told.answer.streak, told.answer.day) == (1, nth(1))
    assert await room.points("ann") == 1
    assert len(await room.events("checked_in")) == 1
