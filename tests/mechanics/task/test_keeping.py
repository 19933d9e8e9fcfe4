"""Ending, forgetting, and what the room knows of one shopper."""

from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.task import model
from growth.mechanics.task import person as shopper
from growth.mechanics.task import store as tasks_store
from growth.mechanics.task.periodic import KEPT, KEPT_FOR_REFUNDS, LONGEST_PERIOD, end_closed_tasks, forget_old
from growth.rewards.granting import person as granting_shopper
from growth.rewards.ledger import person as ledger_shopper
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from tests.mechanics.task.conftest import POINTS, Room, a_draft, an_act, paid, refunded, rows_of, viewed

pytestmark = pytest.mark.anyio


async def test_a_closed_task_is_ended_once(room: Room) -> None:
    task = await room.task()
    after = room.turn(task.closes_at + timedelta(seconds=1))
    assert (await end_closed_tasks(after), await end_closed_tasks(after)) == (1, 0)
    found = (await tasks_store.find_tasks(room.database, [task.task_id]))[task.task_id]
    assert (found.state, found.ended_at) == ("ended", task.closes_at)
    assert [one["task_id"] for one in await room.told("ended")] == [task.task_id]


async def test_old_days_are_forgotten_and_their_numbers_are_not(room: Room) -> None:
    task = await room.task(period="daily", count=2)
    await room.does(viewed("ann", "1"), viewed("ann", "2"), viewed("bob", "3"))
    before = await room.tasks.stats(task.task_id, now())
    later = now() + KEPT + LONGEST_PERIOD
    assert await forget_old(room.turn(later - timedelta(days=2))) == 0
    assert await forget_old(room.turn(later + timedelta(days=2))) == 2
    assert await rows_of(room.database, "task.counted") == []
    after = await room.tasks.stats(task.task_id, now())
    assert (after.shoppers_open, after.shoppers_rewarded, after.periods) == (1, 1, before.periods)


async def test_what_refunds_may_take_back_is_kept_longer(room: Room) -> None:
    await room.task(event_type="shop.order_paid", undo_on_refund="whole", period="daily")
    await room.happens(paid("ann", "o1"))
    assert await forget_old(room.turn(now() + KEPT_FOR_REFUNDS)) == 0
    assert await forget_old(room.turn(now() + KEPT_FOR_REFUNDS + 2 * LONGEST_PERIOD)) == 1


async def test_what_is_done_once_is_kept_until_long_after_the_end(room: Room) -> None:
    task = await room.task()
    await room.does(viewed("ann", "1"))
    years = now() + timedelta(days=2000)
    assert await forget_old(room.turn(years)) == 0
    await room.tasks.end(an_act(), task.task_id)
    assert await forget_old(room.turn(now() + KEPT - timedelta(days=1))) == 0
    assert await forget_old(room.turn(years)) == 1
    assert await forget_old(room.turn(years)) == 0
    assert await tasks_store.remembered_tasks(room.database) == []


async def test_no_more_are_published_than_a_page_shows(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "MAX_PUBLISHED", 2)
    made = [(await room.tasks.create(an_act(), a_draft(), None, b"")).answer.task_id for _ in range(3)]
    for task_id in made[:2]:
        await room.tasks.publish(an_act(), task_id, accept_warnings=False)
    with pytest.raises(Refusal, match=r"task\.too_many"):
        await room.tasks.publish(an_act(), made[2], accept_warnings=False)
    await room.tasks.end(an_act(), made[0])
    await room.tasks.publish(an_act(), made[2], accept_warnings=False)


async def merge(room: Room, old: str, new: str) -> None:
    """As the roof does it: this room first, then those that hold what was given."""
    async with room.database.transaction() as tx:
        await shopper.merge(tx, old, new, now())
        await granting_shopper.merge(tx, old, new, now())
        await ledger_shopper.merge(tx, old, new, now())


async def test_the_room_tells_what_it_knows(room: Room) -> None:
    task = await room.task(count=2, distinct_by="sku")
    await room.does(viewed("ann", "1", "tea"), viewed("bob", "2"))
    known = await shopper.export(room.database, "ann")
    assert [(one.task_id, one.done, one.state) for one in known.progress] == [(task.task_id, 1, "open")]
    assert [(one.task_id, one.value) for one in known.counted] == [(task.task_id, "tea")]


async def test_an_erased_shopper_is_in_no_row_and_the_numbers_stay(room: Room) -> None:
    task = await room.task(event_type="shop.order_paid", undo_on_refund="whole")
    await room.happens(paid("ann-secret", "o1"), paid("bob", "o2"))
    before = await room.tasks.stats(task.task_id, now())
    for _ in range(2):
        async with room.database.transaction() as tx:
            await shopper.erase(tx, "ann-secret", "erased:1")
    rows = [
        row for table in ("task.progress", "task.counted", "task.past") for row in await rows_of(room.database, table)
    ]
    assert not [row for row in rows if "secret" in row]
    assert (await room.tasks.stats(task.task_id, now())).shoppers_rewarded == before.shoppers_rewarded
    assert await room.progress(task, "erased:1") == (1, "rewarded")


async def test_two_ids_of_one_person_have_done_together_what_each_had_done(room: Room) -> None:
    task = await room.task(count=3, distinct_by="sku")
    await room.does(
        viewed("old", "1", "tea"), viewed("old", "2", "cup"), viewed("new", "3", "tea"), viewed("new", "4", "pot")
    )
    for _ in range(2):
        await merge(room, "old", "new")
        assert await room.progress(task, "new") == (3, "rewarded")
        assert await room.points("new") == POINTS
    assert await room.progress(task, "old") == (0, "nothing")


@pytest.mark.parametrize("first", ["old", "new", "both"])
async def test_two_ids_of_one_person_keep_what_they_were_given_and_get_no_more(room: Room, first: str) -> None:
    task = await room.task(event_type="shop.order_paid", undo_on_refund="whole", count=2)
    orders: dict[str, list[str]] = {
        "old": ["o1", "o2"] if first != "new" else ["o1"],
        "new": ["o3", "o4"] if first != "old" else ["o3"],
    }
    await room.happens(*[paid(user, order) for user, of in orders.items() for order in of])
    await merge(room, "old", "new")
    total = sum(len(of) for of in orders.values())
    more = POINTS if first == "both" else 0
    assert (await room.progress(task, "new"), await room.points("new")) == ((total, "rewarded"), POINTS + more)
    for number, order in enumerate(["o1", "o3"]):
        await room.happens(refunded("new", order, refund_id=str(number)))
    left = total - 2
    # As if it had been refunded before the two were one: two orders bear one reward.
    expected: Any = ((left, "rewarded"), POINTS) if left >= 2 else ((left, "open"), 0)
    assert (await room.progress(task, "new"), await room.points("new")) == expected
    await room.happens(paid("new", "o5"), paid("new", "o6"))
    assert await room.points("new") == POINTS


async def test_an_id_that_did_nothing_merges_into_nothing(room: Room) -> None:
    await room.task()
    await merge(room, "old", "new")
    assert await rows_of(room.database, "task.progress") == []
