"""What the room knows of one shopper: told, erased, merged."""

import pytest

from growth.mechanics.checkin import shopper
from growth.mechanics.checkin.model import CheckinMilestone
from tests.mechanics.checkin.conftest import Room, nth, points

pytestmark = pytest.mark.anyio


async def test_all_that_is_known_is_told(room: Room) -> None:
    await room.program(milestones=[CheckinMilestone(2, points(5))])
    await room.taps_daily("ann", 1, 2)
    told = await shopper.told(room.database, "ann")
    assert (told.streak, told.longest_streak, told.total_days, told.last_day) == (2, 2, 2, nth(2))
    assert [(one.day, one.kind) for one in told.days] == [(nth(2), "checked_in"), (nth(1), "checked_in")]
    assert [(one.of, one.days) for one in told.milestones] == [("total", 2)]
    assert (await shopper.told(room.database, "nobody")).streak == 0


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


async def test_two_ids_of_one_person_have_each_day_once_and_one_streak(room: Room) -> None:
    await room.program(milestones=[CheckinMilestone(2, points(5)), CheckinMilestone(5, points(50))])
    await room.taps_daily("old", 1, 2, 4)
    await room.taps_daily("new", 2, 3, 5)
    await room.calendars.remind("old", wants=True)
    for _ in range(2):
        async with room.database.transaction() as tx:
            await shopper.merge(tx, "old", "new", room.moment)
    told = await shopper.told(room.database, "new")
    assert (told.streak, told.longest_streak, told.total_days, told.wants_reminder) == (5, 5, 5, True)
    assert len(told.milestones) == 1
    assert (await shopper.told(room.database, "old")).days == []
    again = await room.taps("new", nth(5))
    assert not again.is_new
    assert (await room.taps("new", nth(6))).answer.streak == 6
