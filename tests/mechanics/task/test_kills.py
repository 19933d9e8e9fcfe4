"""The process dies between any two steps: nothing is half-done, and doing it again does it once."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.task import person as shopper
from growth.mechanics.task.periodic import KEPT, LONGEST_PERIOD, end_closed_tasks, forget_old
from growth.plumbing.outbox.outbox import deliver
from growth.vocabulary.clock import now
from tests.kit.mortal import MAX_STEPS, Killed, Mortal, dies_anywhere
from tests.mechanics.task.conftest import POINTS, Room, a_draft, an_act, assemble, paid, refunded, rows_of, viewed

pytestmark = pytest.mark.anyio

TABLES = (
    "task.tasks",
    "task.progress",
    "task.counted",
    "task.refunds",
    "task.past",
    "granting.grants",
    "ledger.accounts",
    "plumbing.audit",
)

Act = Callable[[Room], Awaitable[Any]]
Story = Callable[[Room], Awaitable[Act]]


async def counting(room: Room) -> Act:
    await room.task(count=2, period="daily")
    await room.does(viewed("bob", "0"))
    return lambda mortal: mortal.does(*[viewed(user, id_) for user in ("ann", "bob") for id_ in "12"])


async def hearing(room: Room) -> Act:
    await room.task(event_type="shop.order_paid", undo_on_refund="any")
    await room.happens(paid("ann", "o1"), paid("bob", "o2"))
    await room.happens(refunded("ann", "o1"), paid("cat", "o3"), refunded("dan", "o4"), deliver_now=False)
    return lambda mortal: deliver(mortal.database, mortal.subscription())


async def drafting(room: Room) -> Act:
    return lambda mortal: mortal.tasks.create(an_act(), a_draft(), "k", b"")


async def publishing(room: Room) -> Act:
    made = await room.tasks.create(an_act(), a_draft(), None, b"")
    return lambda mortal: mortal.tasks.publish(an_act(), made.answer.task_id, accept_warnings=False)


async def ending(room: Room) -> Act:
    task = await room.task()
    return lambda mortal: mortal.tasks.end(an_act(), task.task_id)


async def closing(room: Room) -> Act:
    task = await room.task()
    return lambda mortal: end_closed_tasks(mortal.turn(task.closes_at + timedelta(days=366)))


async def forgetting(room: Room) -> Act:
    await room.task(event_type="shop.order_paid", undo_on_refund="any")
    await room.task(period="daily")
    await room.does(viewed("ann", "1"), viewed("bob", "2"))
    await room.happens(refunded("dan", "o4"))
    # Two transactions: refunds first. What is forgotten is not missed, so either may be done without the other.
    return lambda mortal: forget_old(mortal.turn(now() + KEPT + 2 * LONGEST_PERIOD))


async def merging(room: Room) -> Act:
    await room.task(count=2)
    await room.task(event_type="shop.order_paid", undo_on_refund="any")
    await room.does(viewed("ann", "1"), viewed("old", "2"))
    await room.happens(paid("ann", "o1"), paid("old", "o2"))

    async def act(mortal: Room) -> None:
        async with mortal.database.transaction() as tx:
            await shopper.merge(tx, "old", "ann", now())

    return act


@pytest.mark.parametrize("story", [counting, hearing, drafting, publishing, ending, closing, merging])
async def test_a_process_that_dies_anywhere_leaves_nothing_half_done(room: Room, story: Story) -> None:
    act = await story(room)
    await dies_anywhere(room.database, TABLES, lambda mortal: act(assemble(mortal)))


async def test_forgetting_that_dies_anywhere_goes_on_later(room: Room) -> None:
    act = await forgetting(room)
    for steps in range(MAX_STEPS):
        try:
            await act(assemble(Mortal(room.database, steps)))
        except Killed:
            continue
        break
    assert await rows_of(room.database, "task.progress") == []
    assert await rows_of(room.database, "task.refunds") == []
    assert len(await rows_of(room.database, "task.past")) == 1


async def test_what_a_dead_process_had_heard_is_heard_again_once(room: Room) -> None:
    task = await room.task(event_type="shop.order_paid")
    await room.happens(paid("ann", "o1"), deliver_now=False)
    for steps in range(1, 12, 3):
        mortal = assemble(Mortal(room.database, steps))
        with pytest.raises(Killed):
            await deliver(mortal.database, mortal.subscription())
    await room.hears()
    await room.hears()
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((1, "rewarded"), POINTS)
