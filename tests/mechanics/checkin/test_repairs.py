"""Make-ups: a card, a day, the streak and what it earns change together, once."""

import asyncio

import pytest

from growth.mechanics.checkin.model import CheckinMilestone, CheckinPause
from growth.mechanics.checkin.streak.model import DayKind
from growth.mechanics.checkin.streak.repair.model import (
    ALREADY_CHECKED_IN,
    BEFORE_PROGRAM,
    FROZEN_DAY,
    FUTURE_DAY,
    MONTH_LIMIT,
    NO_CARD,
    PAUSED_DAY,
    TOO_OLD,
)
from growth.vocabulary.events.checkin import CheckinReached
from growth.vocabulary.refusals import Kind, Refusal
from growth.vocabulary.rewards import MakeUpCardReward
from tests.mechanics.checkin.conftest import Room, assemble, nth, points

pytestmark = pytest.mark.anyio


async def refused(room: Room, user_id: str, number: int) -> Kind:
    with pytest.raises(Refusal) as refusal:
        await room.makes_up(user_id, nth(number))
    return refusal.value.kind


async def test_a_make_up_joins_two_streaks_and_gives_what_the_days_earn_now(room: Room) -> None:
    await room.program(milestones=[CheckinMilestone(5, points(500), "streak"), CheckinMilestone(6, points(100))])
    await room.taps_daily("ann", 1, 2, 3, 5, 6)
    await room.cards("ann", make_up=2)
    assert await room.points("ann") == 1 + 2 + 3 + 1 + 2
    made = await room.makes_up("ann", nth(4))
    assert (made.streak, made.longest_streak, made.total_days, made.make_ups_left) == (6, 6, 6, 2)
    assert made.milestones == [CheckinReached(5, "streak"), CheckinReached(6, "total")]
    assert await room.has("ann") == {"points": 1 + 2 + 3 + 4 + 5 + 6 + 600, "make_up_card": 1}
    told = await room.taps("ann", nth(7))
    assert (told.answer.streak, told.answer.position, told.answer.reward) == (7, 7, points(70))
    assert [day.kind for day in await room.days("ann")].count(DayKind.MADE_UP) == 1
    (event,) = await room.events("made_up")
    assert (event["day"], event["streak"], event["rewards"][0]["points"]) == (nth(4).isoformat(), 6, 4 + 8)


async def test_no_order_of_repairs_gives_more_than_the_days_earn(room: Room) -> None:
    """Each run of seven had its coupon day; joined, the fifteen days have two of them, not three."""
    await room.program(make_ups_per_month=31, make_up_within_days=31)
    await room.taps_daily("ann", *range(1, 8), *range(9, 16))
    await room.cards("ann", make_up=3)
    before = await room.points("ann")
    await room.makes_up("ann", nth(8))
    assert await room.points("ann") == before + 1
    await room.taps_daily("bob", 1, 3, 5, 7)
    await room.cards("bob", make_up=3)
    for number in (6, 2, 4):
        await room.makes_up("bob", nth(number))
    assert await room.points("bob") == 1 + 2 + 3 + 4 + 5 + 6 + 70


async def test_a_day_can_be_made_up_before_today_is_checked_in(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 1, 2)
    await room.cards("ann", make_up=1)
    room.at(nth(4))
    made = await room.makes_up("ann", nth(3))
    assert made.streak == 3
    assert (await room.taps("ann", nth(4))).answer.streak == 4


async def test_what_cannot_be_made_up_says_why_and_takes_no_card(room: Room) -> None:
    await room.program(make_up_within_days=5, pauses=[CheckinPause(nth(6), nth(6))], uses_freeze_cards=True)
    await room.taps_daily("ann", 3, 4)
    await room.cards("ann", make_up=5, freeze=1)
    room.at(nth(6), 1)
    await room.nights()
    await room.taps("ann", nth(7))
    room.at(nth(8))
    assert await refused(room, "ann", 8) is FUTURE_DAY
    assert await refused(room, "ann", 9) is FUTURE_DAY
    assert await refused(room, "ann", 7) is ALREADY_CHECKED_IN
    assert await refused(room, "ann", 6) is PAUSED_DAY
    assert await refused(room, "ann", 5) is FROZEN_DAY
    assert await refused(room, "ann", 2) is TOO_OLD
    assert await refused(room, "ann", 0) is BEFORE_PROGRAM
    assert (await room.has("ann"))["make_up_card"] == 5
    assert await refused(room, "bob", 5) is NO_CARD
    assert await room.days("bob") == []


async def test_a_month_has_no_more_make_ups_than_it_may(room: Room) -> None:
    await room.program(make_ups_per_month=2, make_up_within_days=31)
    await room.cards("ann", make_up=5)
    room.at(nth(7))
    for number in (1, 2):
        await room.makes_up("ann", nth(number))
    assert await refused(room, "ann", 3) is MONTH_LIMIT
    assert (await room.has("ann"))["make_up_card"] == 3


async def test_64_make_ups_at_once_of_one_day_take_one_card(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 1, 3)
    await room.cards("ann", make_up=5)
    other = assemble(room.database, room.almanacs)
    told = await asyncio.gather(
        *[(room, other)[n % 2].makes_up("ann", nth(2)) for n in range(64)], return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in told) == 1
    assert {one.kind.code for one in told if isinstance(one, Refusal)} == {ALREADY_CHECKED_IN.code}
    assert await room.has("ann") == {"points": 1 + 2 + 3, "make_up_card": 4}


async def test_one_card_and_64_make_ups_of_different_days_repair_one_day(room: Room) -> None:
    await room.program(make_ups_per_month=31, make_up_within_days=31)
    await room.cards("ann", make_up=1)
    room.at(nth(17))
    told = await asyncio.gather(*[room.makes_up("ann", nth(number)) for number in range(1, 17)], return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in told) == 1
    assert len(await room.days("ann")) == 1


async def test_a_make_up_asked_again_under_its_key_is_told_again(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 1, 3)
    await room.cards("ann", make_up=2)
    first = await room.repairs.make_up("ann", nth(2), "k")
    again = await room.repairs.make_up("ann", nth(2), "k")
    assert (first.replayed, again.replayed, first.answer == again.answer) == (False, True, True)
    assert (await room.has("ann"))["make_up_card"] == 1


async def test_a_tap_and_a_make_up_at_once_both_count(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 1, 2)
    await room.gives("ann", MakeUpCardReward(cards=1))
    room.at(nth(4))
    await asyncio.gather(room.check_ins.check_in("ann"), room.makes_up("ann", nth(3)))
    page = await room.calendars.page("ann", None)
    assert (page.streak, page.total_days) == (4, 4)
    assert await room.points("ann") == 1 + 2 + 3 + 4
