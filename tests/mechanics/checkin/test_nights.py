"""Nights: who missed the day is frozen or told, each once, in bounded steps that go on where the last one stopped."""

import pytest

from growth.mechanics.checkin.model import CheckinPause
from growth.mechanics.checkin.streak.day_end.periodic import Night
from growth.mechanics.checkin.streak.model import DayKind
from tests.mechanics.checkin.conftest import Room, nth

pytestmark = pytest.mark.anyio


async def told(room: Room, type_: str) -> list[tuple[str, int]]:
    return [(event["user_id"], event["streak"]) for event in await room.events(type_)]


async def test_who_missed_a_day_is_frozen_with_a_card_and_told_without_one(room: Room) -> None:
    await room.program(uses_freeze_cards=True)
    for user_id in ("ann", "bob", "cat", "dan"):
        await room.taps_daily(user_id, 1, 2)
    await room.cards("ann", freeze=2)
    await room.taps_daily("cat", 3)
    await room.taps("eve", nth(2))
    await room.nights()
    room.at(nth(4), 0.1)
    await room.nights()
    assert await told(room, "frozen") == [("ann", 2)]
    assert await told(room, "streak_broken") == [("bob", 2), ("dan", 2)]
    assert await room.nights() == 0
    assert (await room.has("ann"))["freeze_card"] == 1
    assert [day.kind for day in await room.days("ann")][-1] == DayKind.FROZEN
    assert (await room.taps("ann", nth(4))).answer.streak == 3
    assert (await room.taps("bob", nth(4))).answer.streak == 1
    room.at(nth(6), 1)
    await room.nights()
    assert await told(room, "frozen") == [("ann", 2), ("ann", 3)]


async def test_a_tap_right_after_midnight_is_not_quicker_than_the_card(room: Room) -> None:
    """The walk comes a minute later; the card is used at the tap, and not again by the walk."""
    await room.program(uses_freeze_cards=True)
    for user_id in ("ann", "bob"):
        await room.taps_daily(user_id, 1, 2, 3)
    room.at(nth(4), 1)
    await room.nights()
    await room.cards("ann", freeze=1)
    assert (await room.taps("ann", nth(5), 0.001)).answer.streak == 4
    assert (await room.taps("bob", nth(5), 0.001)).answer.streak == 1
    await room.nights()
    room.at(nth(6), 1)
    await room.nights()
    assert await told(room, "frozen") == [("ann", 3)]
    assert await told(room, "streak_broken") == [("bob", 3)]
    assert "freeze_card" not in await room.has("ann")


async def test_a_card_that_comes_after_the_walk_saves_nothing(room: Room) -> None:
    await room.program(uses_freeze_cards=True)
    await room.taps_daily("ann", 1, 2)
    room.at(nth(4), 1)
    await room.nights()
    await room.cards("ann", freeze=1)
    assert (await room.taps("ann", nth(4), 2)).answer.streak == 1
    assert (await room.has("ann"))["freeze_card"] == 1


async def test_broken_is_told_after_as_many_days_as_the_program_says(room: Room) -> None:
    await room.program(broken_after_days=3)
    await room.taps_daily("ann", 1, 2)
    await room.taps_daily("bob", 1, 2, 5)
    for number in (4, 5, 6, 7, 8):
        room.at(nth(number), 1)
        await room.nights()
        assert await told(room, "streak_broken") == ([("ann", 2)] if number >= 6 else [])


async def test_a_worker_that_was_away_does_one_day_after_the_other(room: Room) -> None:
    await room.program(uses_freeze_cards=True)
    await room.taps_daily("ann", 1, 2)
    await room.cards("ann", freeze=2)
    await room.taps_daily("bob", 1, 2)
    room.at(nth(3), 1)
    await room.nights()
    room.at(nth(8), 1)
    await room.nights()
    assert [event["day"] for event in await room.events("frozen")] == [nth(3).isoformat(), nth(4).isoformat()]
    assert await told(room, "streak_broken") == [("bob", 2), ("ann", 2)]


async def test_pauses_and_closed_days_break_nothing_and_use_no_card(room: Room) -> None:
    program = await room.program(uses_freeze_cards=True, pauses=[CheckinPause(nth(3), nth(4))])
    await room.taps_daily("ann", 1, 2)
    await room.cards("ann", freeze=1)
    room.at(nth(5), 9)
    await room.nights()
    await room.programs.pause(room.act(), program.program_id)
    room.at(nth(7), 9)
    await room.nights()
    await room.programs.resume(room.act(), program.program_id)
    assert (await room.taps("ann", nth(7))).answer.streak == 3
    assert await told(room, "frozen") == []
    assert await told(room, "streak_broken") == []
    assert (await room.has("ann"))["freeze_card"] == 1


async def test_a_walk_takes_small_steps_and_goes_on_where_it_was_killed(room: Room) -> None:
    await room.program(uses_freeze_cards=True)
    users = [f"u{number}" for number in range(10)]
    for user_id in users:
        await room.taps_daily(user_id, 1, 2)
    for user_id in users[::2]:
        await room.cards(user_id, freeze=1)
    room.at(nth(3), 1)
    await room.nights()
    room.at(nth(4), 1)
    small = Night(room.almanacs, 3)
    assert await small.end_days(room.turn()) == 3
    assert len(await room.events("frozen")) + len(await room.events("streak_broken")) == 3
    another = Night(room.almanacs, 3)
    while await another.end_days(room.turn()):
        pass
    assert sorted(user_id for user_id, _ in await told(room, "frozen")) == users[::2]
    assert sorted(user_id for user_id, _ in await told(room, "streak_broken")) == users[1::2]


async def test_who_asked_for_it_is_told_once_that_the_streak_is_at_risk(room: Room) -> None:
    await room.program(warn_hours=4)
    for user_id in ("ann", "bob", "cat", "dan"):
        await room.taps_daily(user_id, 1, 2)
    await room.taps("eve", nth(2))
    for user_id in ("ann", "cat", "dan", "eve"):
        await room.calendars.remind(user_id, wants=True)
    await room.calendars.remind("dan", wants=False)
    await room.taps_daily("cat", 3)
    room.at(nth(3), 19.9)
    assert await room.night.warn(room.turn()) == 0
    room.at(nth(3), 20.5)
    while await room.night.warn(room.turn()):
        pass
    (event,) = await room.events("streak_at_risk")
    assert (event["user_id"], event["day"], event["streak"], event["hours_left"]) == ("ann", nth(3).isoformat(), 2, 4)
    room.at(nth(3), 23)
    assert await room.night.warn(room.turn()) == 0
    room.at(nth(4), 23)
    while await room.night.warn(room.turn()):
        pass
    assert [event["user_id"] for event in await room.events("streak_at_risk")] == ["ann", "cat"]


async def test_a_program_whose_last_day_is_over_ends_by_itself(room: Room) -> None:
    await room.program(until_day=nth(2))
    await room.taps_daily("ann", 1, 2)
    room.at(nth(2), 23.9)
    assert await room.programs.end_over(room.turn()) == 0
    room.at(nth(3), 0)
    assert await room.programs.end_over(room.turn()) == 1
    assert len(await room.events("program_ended")) == 1
    room.at(nth(9), 1)
    await room.nights()
    assert await told(room, "streak_broken") == []


async def test_months_are_made_ahead_and_days_land_in_them(room: Room) -> None:
    room.at(nth(1))
    await room.programs.prepare_months(room.turn())
    assert await room.programs.prepare_months(room.turn()) == 0
    await room.program()
    await room.taps_daily("ann", 1, 2)
    rows = await room.database.fetch("SELECT tableoid::regclass::text AS part FROM checkin.days")
    assert {row["part"] for row in rows} <= {f"checkin.days_{nth(number):%Y%m}" for number in (1, 2)}
