"""What the room knows of one shopper: told, erased, merged."""

import pytest

from growth.mechanics.checkin import person as shopper
from growth.mechanics.checkin.model import CheckinMilestone
from growth.mechanics.checkin.streak.repair import service as repair
from tests.mechanics.checkin.conftest import Room, nth, points

pytestmark = pytest.mark.anyio


async def test_all_that_is_known_is_told(room: Room) -> None:
    await room.program(milestones=[CheckinMilestone(2, points(5))])
    await room.taps_daily("ann", 1, 2)
    told = await shopper.export(room.database, "ann")
    assert (told.streak, told.longest_streak, told.total_days, told.last_day) == (2, 2, 2, nth(2))
    assert [(one.day, one.kind) for one in told.days] == [(nth(2), "checked_in"), (nth(1), "checked_in")]
    assert [(one.of, one.days) for one in told.milestones] == [("total", 2)]
    assert (await shopper.export(room.database, "nobody")).streak == 0


async def test_erasing_leaves_nothing_and_can_be_done_again(room: Room) -> None:
    await room.program(milestones=[CheckinMilestone(2, points(5))])
    await room.taps_daily("ann", 1, 3)
    await room.cards("ann", make_up=1)
    await room.makes_up("ann", nth(2))
    for _ in range(2):
        async with room.database.transaction() as tx:
            await shopper.erase(tx, "ann", "erased:0")
    for table in ("states", "days", "milestones", "make_ups"):
        assert await room.database.fetchval(f"SELECT count(*) FROM checkin.{table} WHERE user_id = 'ann'") == 0


MILESTONES = [CheckinMilestone(3, points(300)), CheckinMilestone(3, points(500), "streak")]


async def unite(room: Room) -> None:
    async with room.database.transaction() as tx:
        await shopper.merge(tx, "old", "new", room.moment)


async def test_milestones_that_only_the_sum_of_two_ids_reaches_are_given_once(room: Room) -> None:
    await room.program(milestones=MILESTONES)
    await room.taps_daily("old", 1, 2)
    await room.taps_daily("new", 3, 4)
    before = await room.points("new")
    await unite(room)
    assert await room.points("new") == before + 800
    assert sorted(one.of for one in (await shopper.export(room.database, "new")).milestones) == ["streak", "total"]
    again = await room.taps("new", nth(5))
    assert (again.answer.streak, again.answer.total_days, again.answer.milestones) == (5, 5, [])
    await unite(room)
    assert await room.points("new") == before + 800 + again.answer.position


async def test_without_asking_what_was_reached_a_merge_skips_milestones_for_good(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(repair, "judge_milestones", nothing)
    await room.program(milestones=MILESTONES)
    await room.taps_daily("old", 1, 2)
    await room.taps_daily("new", 3, 4)
    await unite(room)
    assert (await room.taps("new", nth(5))).answer.milestones == []


async def test_a_merge_gives_nothing_for_a_program_that_has_ended(room: Room) -> None:
    program = await room.program(milestones=MILESTONES)
    await room.taps_daily("old", 1, 2)
    await room.taps_daily("new", 3, 4)
    await room.programs.end(room.act(), program.program_id)
    before = await room.points("new")
    await unite(room)
    assert await room.points("new") == before


async def test_two_ids_of_one_person_have_each_day_once_and_one_streak(room: Room) -> None:
    await room.program(milestones=[CheckinMilestone(2, points(5)), CheckinMilestone(5, points(50))])
    await room.taps_daily("old", 1, 2, 4)
    await room.taps_daily("new", 2, 3, 5)
    await room.calendars.remind("old", wants=True)
    for _ in range(2):
        async with room.database.transaction() as tx:
            await shopper.merge(tx, "old", "new", room.moment)
    told = await shopper.export(room.database, "new")
    assert (told.streak, told.longest_streak, told.total_days, told.wants_reminder) == (5, 5, 5, True)
    # The one that each had reached stays one; the one that only the sum reaches is given.
    assert sorted(one.days for one in told.milestones) == [2, 5]
    assert (await shopper.export(room.database, "old")).days == []
    again = await room.taps("new", nth(5))
    assert not again.is_new
    assert (await room.taps("new", nth(6))).answer.streak == 6
