"""What the clock does to tasks: ends them, and forgets what nobody can ask for any more."""

from datetime import date, datetime, timedelta

from growth.kit.campaign.service import end_over
from growth.mechanics.task import store
from growth.mechanics.task.model import ONCE, TASKS, Task
from growth.mechanics.task.progress.model import MAX_LATE
from growth.mechanics.task.progress.store import counts as progress_store
from growth.mechanics.task.progress.store import pruning as past
from growth.plumbing.work.periodic import Turn

END_BATCH = 100
"""Tasks ended in one transaction."""
FORGET_BATCH = 2_000
"""Rows of progress, and of refunds, deleted in one transaction."""
KEPT = MAX_LATE + timedelta(days=15)
"""Rows of a period that is over; nothing so late counts any more."""
KEPT_FOR_REFUNDS = timedelta(days=200)
"""The same, where a refund may take something back. What is refunded later takes nothing back."""
LONGEST_PERIOD = timedelta(days=8)
"""A week, and a day for zones."""


async def end_closed_tasks(turn: Turn) -> int:
    """End tasks whose window has closed; return how many, up to `END_BATCH`."""
    async with turn.transaction() as tx:
        return await end_over(tx, TASKS, turn.now, turn.now, END_BATCH)


async def forget_old(turn: Turn) -> int:
    """Delete progress of old periods, and old refunds; return how many rows, up to `FORGET_BATCH` of either."""
    async with turn.transaction() as tx:
        refunds = await past.forget_refunds(tx, turn.now - KEPT, FORGET_BATCH)
    forgotten = 0
    async with turn.transaction() as tx:
        await progress_store.lock(tx)
        for task in await store.remembered_tasks(tx):
            left = FORGET_BATCH - forgotten
            if left <= 0:
                break
            gone = await past.forget_progress(tx, task, before_period(task, turn.now), left)
            forgotten += gone
            if gone == 0 and task.ended_at is not None and task.ended_at < turn.now - _kept(task) - LONGEST_PERIOD:
                await store.mark_forgotten(tx, task.task_id, turn.now)
    return max(refunds, forgotten)


def before_period(task: Task, now: datetime) -> date:
    """Return the day whose earlier periods of a task are forgotten."""
    if task.period == "once":
        is_over = task.ended_at is not None and task.ended_at < now - _kept(task)
        return ONCE + timedelta(days=1) if is_over else ONCE
    return (now - _kept(task) - LONGEST_PERIOD).date()


def _kept(task: Task) -> timedelta:
    return KEPT if task.undo_on_refund == "no" else KEPT_FOR_REFUNDS
