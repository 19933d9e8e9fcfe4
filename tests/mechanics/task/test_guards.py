"""Negative controls: each guard is taken away once, and something breaks that held with it."""

import asyncio
from typing import Any

import asyncpg
import pytest

from growth.mechanics.task.model import ONCE
from growth.mechanics.task.progress.model import Key
from growth.mechanics.task.progress.service import settle
from growth.mechanics.task.progress.store import counts as store
from growth.plumbing.outbox.outbox import Envelope
from growth.plumbing.postgres.database import Tx
from growth.plumbing.watch.invariants import all_invariants
from growth.rewards.granting.model import Budget
from growth.vocabulary.clock import now
from growth.vocabulary.events import Event
from tests.kit.invariants import violations
from tests.mechanics.group_buy.test_guards import Undone, Without
from tests.mechanics.task.conftest import POINTS, Room, assemble, paid, refunded, viewed
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

RULES = tuple(rule for rule in all_invariants() if rule.room == "task")


async def broken_without(room: Room, guard: str, instead: str, *stories: Any) -> list[str]:
    """Tell `stories` in one transaction that has lost a guard; return which invariants break."""
    broken: list[str] = []
    try:
        async with room.database.transaction() as tx:
            without: Any = Without(tx, guard, instead)
            for story in stories:
                if isinstance(story, Envelope):
                    await room.projection.from_outbox(without, [story])
                else:
                    await room.projection.from_activities(without, [story])
            assert without.found, "the guard is no longer written like this"
            broken = [violation.name for violation in await violations(tx, RULES)]
            raise Undone  # noqa: TRY301
    except Undone:
        return broken


async def test_without_the_unique_row_an_event_told_again_is_an_error(room: Room) -> None:
    task = await room.task(count=5)
    one = viewed("ann", "1")
    await room.does(one)
    await room.does(one)
    assert await room.progress(task, "ann") == (1, "open")
    with pytest.raises(asyncpg.UniqueViolationError):
        await broken_without(
            room, "ON CONFLICT (user_id, period_on, task_id, value, occurrence_id) DO NOTHING", "", one
        )


async def test_without_the_memory_of_refunds_what_was_refunded_counts(room: Room) -> None:
    await room.task(event_type="shop.order_paid", undo_on_refund="whole")
    await room.happens(refunded("ann", "o1"))
    broken = await broken_without(
        room, "refund.undo_key IS NOT NULL THEN $2", "FALSE THEN $2", Envelope("1", paid("ann", "o1"))
    )
    assert broken == ["What was refunded counts no more"]


async def test_without_undoing_what_was_refunded_counts(room: Room) -> None:
    await room.task(event_type="shop.order_paid", undo_on_refund="whole")
    await room.happens(paid("ann", "o1"))
    broken = await broken_without(
        room, "WHERE counted.undo_key = told.undo_key", "WHERE FALSE", Envelope("1", refunded("ann", "o1"))
    )
    assert broken == ["What was refunded counts no more"]


async def test_without_counting_distinct_values_one_product_is_three(room: Room) -> None:
    task = await room.task(event_type="shop.order_paid", undo_on_refund="whole", distinct_by="lines.sku", count=3)
    stories = [Envelope(str(number), paid("ann", f"o{number}", "tea")) for number in range(3)]
    broken = await broken_without(room, "count(DISTINCT counted.value)", "count(counted.value)", *stories)
    assert "Progress is what counted and was not undone" in broken
    assert "Who reached the count has done it, and nobody else has" not in broken, "it was rewarded"
    await room.told_again(stories)
    assert await room.progress(task, "ann") == (1, "open")


async def test_without_the_state_in_the_statement_a_reward_is_decided_twice(room: Room) -> None:
    task = await room.task()
    await room.does(viewed("ann", "1"))
    again = store.DecidedProgress(
        user_id="ann",
        period_on=ONCE,
        task_id=task.task_id,
        was="open",
        state="rewarded",
        coupons={},
        kept=[],
    )
    async with room.database.transaction() as tx:
        assert await store.decide(tx, [again], now()) == 0
    async with room.database.transaction() as tx:
        without: Any = Without(tx, "AND progress.state = told.was", "")
        with pytest.raises(asyncpg.CheckViolationError):
            await store.decide(without, [again], now())
        await tx.execute("ROLLBACK; BEGIN")


LOCK = "pg_advisory_xact_lock(hashtextextended('task.progress', 0))"


@pytest.mark.parametrize("instead", [LOCK, "1"])
async def test_without_the_lock_two_that_count_at_once_do_not_see_each_other(room: Room, instead: str) -> None:
    task = await room.task(event_type="shop.order_paid", undo_on_refund="whole", count=3)
    await room.happens(paid("ann", "o1"))
    counted = asyncio.Event()

    async def tell(event: Event, then: Any) -> None:
        async with room.database.transaction() as tx:
            without: Any = Without(tx, LOCK, instead)
            await assemble(room.database).projection.from_outbox(
                without, [Envelope(str(event.__struct_config__.tag), event)]
            )
            await then()

    async def until_the_other_waits() -> None:
        counted.set()
        while not await room.database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            pass

    async def nothing() -> None:
        pass

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as both:
        both.create_task(tell(paid("ann", "o2"), until_the_other_waits))
        await counted.wait()
        both.create_task(tell(refunded("ann", "o1"), nothing))
    broken = [violation.name for violation in await violations(room.database)]
    assert broken == ([] if instead is LOCK else ["Progress is what counted and was not undone"])
    # Once more, with the lock, mends it: progress is recomputed, never added to.
    await room.happens(paid("ann", "o3"))
    assert await room.progress(task, "ann") == (2, "open")


async def test_without_the_key_of_the_grant_a_reward_is_given_twice(room: Room) -> None:
    """The state says "open" again, as if it had never been decided: only the key stands between."""
    task = await room.task(budget=Budget(max_grants=10))
    await room.does(viewed("ann", "1"))
    undone = "UPDATE task.progress SET state = 'open', attempt = 0"

    async def again(tx: Tx | Any) -> None:
        await tx.execute(undone)
        await settle(tx, [Key("ann", ONCE, task.task_id)], now(), {})

    async with room.database.transaction() as tx:
        await again(tx)
    assert await room.points("ann") == POINTS
    assert await room.progress(task, "ann") == (1, "rewarded")
    async with room.database.transaction() as tx:
        with pytest.raises(asyncpg.UniqueViolationError):
            await again(Without(tx, "ON CONFLICT (key) DO NOTHING", ""))
        await tx.execute("ROLLBACK; BEGIN")


async def test_the_controls_change_nothing_when_all_guards_are_there(room: Room) -> None:
    await room.task(event_type="shop.order_paid", undo_on_refund="whole")
    stories = [Envelope("1", paid("ann", "o1")), Envelope("2", refunded("ann", "o1")), Envelope("1", paid("ann", "o1"))]
    assert await broken_without(room, "task.progress", "task.progress", *stories) == []
