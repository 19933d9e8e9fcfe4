"""Checking in: once a day, whatever the taps; what it earns commits with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.checkin.model import CheckinMilestone, CheckinPause
from growth.mechanics.checkin.streak.model import NO_PROGRAM, PAUSED
from growth.plumbing.postgres.database import Database, Tx
from growth.rewards.granting.model import Budget
from growth.vocabulary.events.checkin import CheckinReached
from growth.vocabulary.refusals import Refusal
from tests.mechanics.checkin.conftest import Room, a_draft, assemble, nth, points

pytestmark = pytest.mark.anyio

TAPS = 64


async def test_seven_days_in_a_row_earn_the_table_and_then_it_starts_again(room: Room) -> None:
    await room.program()
    earned = []
    for number in range(1, 10):
        told = await room.taps("ann", nth(number))
        earned.append((told.answer.streak, told.answer.position, told.answer.reward))
    assert [streak for streak, _, _ in earned] == list(range(1, 10))
    assert [position for _, position, _ in earned] == [1, 2, 3, 4, 5, 6, 7, 1, 2]
    assert [reward for _, _, reward in earned] == [points(number) for number in (1, 2, 3, 4, 5, 6, 70, 1, 2)]
    assert await room.points("ann") == 94


async def test_64_taps_at_once_at_three_processes_are_one_day_one_reward_and_63_same_bodies(room: Room) -> None:
    await room.program()
    room.at(nth(1))
    processes = [room, assemble(room.database, room.almanacs), assemble(room.database, room.almanacs)]
    told = await asyncio.gather(*[processes[n % 3].check_ins.check_in("ann") for n in range(TAPS)])
    assert sum(one.is_new for one in told) == 1
    assert {str(one.answer) for one in told} == {str(told[0].answer)}
    assert len(await room.days("ann")) == 1
    assert await room.points("ann") == 1
    assert len(await room.events("checked_in")) == 1


async def test_the_same_crowd_at_three_processes_in_any_order_is_each_shopper_once_a_day(room: Room) -> None:
    """Batches of the same shoppers in other orders: no deadlock, nobody is turned away."""
    await room.program()
    processes = [room, assemble(room.database, room.almanacs), assemble(room.database, room.almanacs)]
    users = [f"u{number}" for number in range(60)]
    for number in (1, 2, 3):
        room.at(nth(number))
        orders = [users, users[::-1], users[30:] + users[:30]]
        told = await asyncio.gather(
            *[
                one.check_ins.check_in(user_id)
                for one, order in zip(processes, orders, strict=True)
                for user_id in order
            ]
        )
        assert sum(one.is_new for one in told) == len(users)
        assert {one.answer.streak for one in told} == {number}
    assert len(await room.events("checked_in")) == 3 * len(users)


async def test_a_missed_day_breaks_the_streak_and_the_table_starts_again(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 1, 2, 3)
    told = await room.taps("ann", nth(5))
    assert (told.answer.streak, told.answer.longest_streak, told.answer.total_days, told.answer.position) == (
        1,
        3,
        4,
        1,
    )


async def test_a_tap_a_millisecond_before_midnight_is_of_that_day_and_one_at_midnight_of_the_next(room: Room) -> None:
    await room.program()
    room.check_ins._monotonic = lambda: 0.0
    midnight = room.almanacs.zone.begins_at(nth(2))
    room.almanacs.moment = midnight - timedelta(milliseconds=1)
    before = await room.check_ins.check_in("ann")
    room.almanacs.moment = midnight
    after = await room.check_ins.check_in("ann")
    assert (before.answer.day, after.answer.day, after.answer.streak) == (nth(1), nth(2), 2)


async def test_a_tap_that_waited_over_midnight_is_of_the_day_on_which_it_arrived(room: Room) -> None:
    await room.program()
    clock = [100.0]
    room.check_ins._monotonic = lambda: clock[0]
    tap = asyncio.ensure_future(room.check_ins.check_in("ann"))
    await asyncio.sleep(0)
    clock[0] += 5
    room.almanacs.moment = room.almanacs.zone.begins_at(nth(2)) + timedelta(seconds=2)
    assert (await tap).answer.day == nth(1)


async def test_a_tap_overtaken_by_one_of_the_next_day_still_counts(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 1, 2)
    await room.taps("ann", nth(4))
    told = await room.taps("ann", nth(3))
    assert (told.is_new, told.answer.day, told.answer.streak) == (True, nth(3), 3)
    again = await room.taps("ann", nth(3))
    assert (again.is_new, again.answer.streak) == (False, 3)
    room.at(nth(4), 20)
    (program,) = await room.programs.page(state="published", before=None, limit=10)
    await room.programs.pause(room.act(), program.program_id)
    assert (await room.taps("ann", nth(3))).answer == again.answer
    room.at(nth(4), 21)
    await room.programs.resume(room.act(), program.program_id)
    newest = await room.taps("ann", nth(5))
    assert newest.answer.streak == 5
    assert await room.points("ann") == 1 + 2 + 3 + 4 + 5


async def test_a_key_is_kept_for_a_day_and_a_client_that_never_changes_it_keeps_its_streak(room: Room) -> None:
    await room.program()
    for number in (1, 2, 3):
        room.at(nth(number), hours=12 + number / 60)
        told = await room.check_ins.check_in("ann", "constant")
        assert (told.answer.day, told.answer.streak, told.is_new, told.replayed) == (nth(number), number, True, False)
    room.at(nth(4), hours=11.9)
    late = await room.check_ins.check_in("ann", "constant")
    assert (late.answer.day, late.replayed) == (nth(3), True)


async def test_a_milestone_that_an_edit_adds_is_given_once_to_who_has_reached_it(room: Room) -> None:
    program = await room.program(milestones=[CheckinMilestone(2, points(5))])
    await room.taps_daily("ann", 1, 2, 3)
    had = await room.points("ann")
    added = [CheckinMilestone(2, points(5)), CheckinMilestone(3, points(100)), CheckinMilestone(3, points(9), "streak")]
    await room.programs.change(room.act(), program.program_id, program.version, a_draft(milestones=added))
    told = await room.taps("ann", nth(4))
    assert sorted((one.days, one.of) for one in told.answer.milestones) == [(3, "streak"), (3, "total")]
    assert await room.points("ann") == had + 4 + 109
    await room.taps_daily("ann", 5, 6)
    assert await room.points("ann") == had + 4 + 109 + 5 + 6


async def test_a_tap_asked_again_past_midnight_under_its_key_is_the_same_tap(room: Room) -> None:
    await room.program()
    room.at(nth(1))
    first = await room.check_ins.check_in("ann", "k")
    room.at(nth(2), hours=11)
    again = await room.check_ins.check_in("ann", "k")
    assert (again.answer, again.is_new, again.replayed) == (first.answer, False, True)
    other = await asyncio.gather(*[room.check_ins.check_in("ann", key) for key in ("l", "l", None, "m")])
    assert {one.answer.day for one in other} == {nth(2)}
    assert sorted((one.is_new, one.replayed) for one in other) == [(False, False)] * 2 + [(False, True), (True, False)]
    assert await room.points("ann") == 1 + 2


async def test_checking_in_reads_no_day_however_many_there_are(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 1, 2, 3)
    reads: list[str] = []

    class Watched(Database):
        @asynccontextmanager
        async def transaction(self, **told: Any) -> AsyncIterator[Tx]:
            async with super().transaction(**told) as tx:
                for name in ("fetch", "fetchrow", "fetchval", "execute"):
                    setattr(tx, name, _noted(getattr(tx, name), reads))
                yield tx

    watched = assemble(Watched(room.database.pool, acquire_seconds=60), room.almanacs)
    await watched.taps("ann", nth(4))
    assert reads
    assert [query for query in reads if "FROM checkin.days" in query or "JOIN checkin.days" in query] == []
    steps = len(reads)
    reads.clear()
    room.at(nth(5))
    await asyncio.gather(*[watched.check_ins.check_in(f"u{number}") for number in range(100)])
    assert len(reads) <= 3 * steps


def _noted(call: Callable[..., Awaitable[Any]], reads: list[str]) -> Callable[..., Awaitable[Any]]:
    async def run(query: str, *args: object) -> Any:
        reads.append(query)
        return await call(query, *args)

    return run


async def test_who_is_refused_leaves_no_row(room: Room) -> None:
    with pytest.raises(Refusal):
        await room.taps("ann", nth(1))
    assert await room.database.fetchval("SELECT count(*) FROM checkin.states") == 0


async def test_one_shopper_on_both_sides_of_midnight_in_one_batch_has_two_days(room: Room) -> None:
    await room.program()
    clock = [100.0]
    room.check_ins._monotonic = lambda: clock[0]
    room.almanacs.moment = room.almanacs.zone.begins_at(nth(2)) + timedelta(seconds=1)
    early = asyncio.ensure_future(room.check_ins.check_in("ann"))
    await asyncio.sleep(0)
    clock[0] += 3
    late = asyncio.ensure_future(room.check_ins.check_in("ann"))
    room.almanacs.moment += timedelta(seconds=1)
    days = {(await one).answer.day for one in (early, late)}
    assert days == {nth(1), nth(2)}


async def test_without_a_program_and_in_a_pause_there_is_nothing_to_check_in_to(room: Room) -> None:
    with pytest.raises(Refusal) as refused:
        await room.taps("ann", nth(1))
    assert refused.value.kind is NO_PROGRAM
    await room.program(pauses=[CheckinPause(nth(3), nth(4))], until_day=nth(6))
    await room.taps_daily("ann", 1, 2)
    with pytest.raises(Refusal) as refused:
        await room.taps("ann", nth(3))
    assert (refused.value.kind, refused.value.members["paused_until"]) == (PAUSED, nth(4))
    assert (await room.taps("ann", nth(5))).answer.streak == 3
    with pytest.raises(Refusal) as refused:
        await room.taps("ann", nth(7))
    assert refused.value.kind is NO_PROGRAM


async def test_an_operators_pause_breaks_no_streak_however_long(room: Room) -> None:
    program = await room.program()
    await room.taps_daily("ann", 1, 2)
    room.at(nth(3), 9)
    await room.programs.pause(room.act(), program.program_id)
    with pytest.raises(Refusal) as refused:
        await room.taps("ann", nth(3))
    assert refused.value.kind is PAUSED
    room.at(nth(6), 9)
    await room.programs.resume(room.act(), program.program_id)
    assert (await room.taps("ann", nth(7))).answer.streak == 3
    assert (await room.taps("ann", nth(9))).answer.streak == 1


async def test_milestones_are_reached_once_and_told_with_the_tap_that_reaches_them(room: Room) -> None:
    await room.program(
        milestones=[
            CheckinMilestone(2, points(100)),
            CheckinMilestone(3, points(1000), "streak"),
            CheckinMilestone(9, points(5000)),
        ]
    )
    first = await room.taps("ann", nth(1))
    assert first.answer.next_milestone is not None
    assert (first.answer.next_milestone.days, first.answer.next_milestone.in_days) == (2, 1)
    second = await room.taps("ann", nth(2))
    assert second.answer.milestones == [CheckinReached(2, "total")]
    assert second.answer.reward == [*points(2), *points(100)]
    third = await room.taps("ann", nth(3))
    assert third.answer.milestones == [CheckinReached(3, "streak")]
    assert (await room.taps_daily("ann", 5, 6, 7)).answer.milestones == []
    assert await room.points("ann") == (1 + 2 + 3) * 2 + 1100


async def test_what_the_budget_does_not_pay_is_told_and_the_day_counts(room: Room) -> None:
    await room.program(budget=Budget(max_value=2))
    await room.taps_daily("ann", 1)
    told = await room.taps("ann", nth(2))
    assert (told.answer.reward, told.answer.not_granted[0].code, told.answer.streak) == ([], "budget_spent", 2)


async def test_streaks_go_on_from_one_program_to_the_next_and_the_table_begins_anew(room: Room) -> None:
    old = await room.program()
    await room.taps_daily("ann", 1, 2, 3)
    room.at(nth(4), 8)
    await room.programs.end(room.act(), old.program_id)
    await room.program(from_day=nth(6), rewards=[points(9)])
    told = await room.taps("ann", nth(6))
    assert (told.answer.streak, told.answer.position, told.answer.total_days) == (4, 1, 1)
    assert told.answer.reward == points(9)


async def test_an_edit_changes_what_comes_and_not_what_was(room: Room) -> None:
    program = await room.program()
    await room.taps_daily("ann", 1, 2)
    room.at(nth(3), 8)
    await room.programs.change(room.act(), program.program_id, program.version, a_draft(rewards=[points(40)]))
    told = await room.taps("ann", nth(3))
    assert (told.answer.streak, told.answer.reward) == (3, points(40))
    page = await room.calendars.page("ann", None)
    rewards = {one.day: one.reward for one in page.days}
    assert [rewards.get(nth(number)) for number in (1, 2, 3) if nth(number) in rewards] == [
        [points(1), points(2), points(40)][number - 1] for number in (1, 2, 3) if nth(number) in rewards
    ]


async def test_a_caller_who_leaves_and_a_refused_neighbour_harm_nobody(room: Room) -> None:
    await room.program()
    room.at(nth(1))
    taps = [asyncio.ensure_future(room.check_ins.check_in(f"u{number}")) for number in range(8)]
    await asyncio.sleep(0)
    taps[3].cancel()
    told = await asyncio.gather(*taps, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in told) == 7
    await room.check_ins.drain()
    assert len(await room.days("u3")) == 1
