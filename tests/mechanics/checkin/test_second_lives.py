"""Who was erased and is back gets nothing again for a day or a milestone that was had before."""

from datetime import UTC, datetime

import pytest

from growth.mechanics.checkin import person as shopper
from growth.mechanics.checkin.model import CheckinMilestone
from growth.mechanics.checkin.streak.repair.model import ALREADY_CHECKED_IN
from growth.plumbing.person import store as person
from growth.vocabulary.ids import new_alias
from growth.vocabulary.refusals import Refusal
from tests.mechanics.checkin.conftest import Room, nth, points

pytestmark = pytest.mark.anyio

MILESTONES = [CheckinMilestone(2, points(300)), CheckinMilestone(3, points(500), "streak")]


async def is_back(room: Room, user_id: str) -> None:
    """Erase a shopper, as the house does it, and have the shop tell of the id again."""
    at = datetime.now(UTC)
    async with room.database.transaction(people=[user_id], alone=True) as tx:
        had = await shopper.had(tx, user_id)
        await shopper.erase(tx, user_id, new_alias())
        await person.note_erasure(tx, user_id, had, at)
        await person.note_return(tx, user_id, at)


async def test_a_day_that_counted_is_checked_in_and_the_next_one_is_open(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 19, 20)
    await is_back(room, "ann")
    before = await room.points("ann")
    with pytest.raises(Refusal) as refused:
        await room.taps("ann", nth(20))
    assert refused.value.kind is ALREADY_CHECKED_IN
    assert await room.points("ann") == before
    told = await room.taps("ann", nth(21))
    assert (told.is_new, told.answer.streak) == (True, 1)


async def test_a_neighbour_in_the_batch_checks_in(room: Room) -> None:
    await room.program()
    await room.taps("ann", nth(20))
    await is_back(room, "ann")
    assert (await room.taps("bob", nth(20))).is_new


async def test_a_milestone_is_given_once_in_all_lives(room: Room) -> None:
    await room.program(milestones=MILESTONES)
    await room.taps_daily("ann", 1, 2, 3)
    await is_back(room, "ann")
    told = [await room.taps("ann", nth(number)) for number in (4, 5, 6)]
    assert [one.answer.milestones for one in told] == [[], [], []]
    # Remembered in the next life too, though this one was not given it.
    await is_back(room, "ann")
    told = [await room.taps("ann", nth(number)) for number in (7, 8, 9)]
    assert [one.answer.milestones for one in told] == [[], [], []]


async def test_a_day_that_counted_is_not_made_up_and_costs_no_card(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 17, 18)
    await is_back(room, "ann")
    await room.cards("ann", make_up=2)
    room.at(nth(20))
    with pytest.raises(Refusal) as refused:
        await room.makes_up("ann", nth(18))
    assert refused.value.kind is ALREADY_CHECKED_IN
    # A day that was missed is made up.
    await room.makes_up("ann", nth(19))
    assert (await room.has("ann"))["make_up_card"] == 1


async def test_a_tap_that_was_overtaken_by_the_next_day_is_of_the_day_that_counted(room: Room) -> None:
    await room.program()
    await room.taps("ann", nth(19))
    await is_back(room, "ann")
    await room.taps("ann", nth(20))
    with pytest.raises(Refusal) as refused:
        await room.repairs.check_in_late("ann", nth(19))
    assert refused.value.kind is ALREADY_CHECKED_IN


async def test_two_ids_of_one_person_reach_together_what_neither_had_in_any_life(room: Room) -> None:
    await room.program(milestones=MILESTONES)
    await room.taps_daily("ann", 1, 2)
    await is_back(room, "ann")
    await room.taps("ann", nth(3))
    await room.taps_daily("bob", 4)
    before = await room.points("bob")
    async with room.database.transaction(people=["ann", "bob"], alone=True) as tx:
        await shopper.merge(tx, "ann", "bob", room.moment)
        await person.note_merge(tx, "ann", "bob")
    # Two days in all: the erased life was given for that.
    assert await room.points("bob") == before
    assert (await room.taps("bob", nth(5))).answer.milestones[0].days == 3


async def test_what_is_over_is_not_remembered(room: Room) -> None:
    program = await room.program(milestones=MILESTONES)
    await room.taps_daily("ann", 1, 2)
    assert len([one for one in await shopper.had(room.database, "ann") if program.program_id in one]) == 1
    room.at(nth(3))
    await room.programs.end(room.act(), program.program_id)
    assert [one for one in await shopper.had(room.database, "ann") if program.program_id in one] == []
