"""What the room knows of one shopper: told, erased, merged."""

from datetime import datetime

from msgspec import Struct

from growth.mechanics.task.progress.model import MAX_LATE, Key, done_before, united
from growth.mechanics.task.progress.service import settle
from growth.mechanics.task.progress.store import counts as store
from growth.mechanics.task.progress.store import person as owner
from growth.mechanics.task.progress.store.person import TaskCountedKnown, TaskProgressKnown
from growth.plumbing.postgres.database import Reader, Tx

MAX_TOLD = 200
"""Rows of progress, and things counted, on the operator's page; the newest."""


class TasksKnown(Struct, frozen=True):
    """All of it, or the newest."""

    progress: list[TaskProgressKnown]
    counted: list[TaskCountedKnown]


async def export(reader: Reader, user_id: str) -> TasksKnown:
    """Return what a shopper did, and how far that went."""
    return TasksKnown(
        await owner.progress_of(reader, user_id, MAX_TOLD), await owner.counted_of(reader, user_id, MAX_TOLD)
    )


async def had(reader: Reader, user_id: str) -> list[str]:
    """Return the tasks that the shopper completed, as they are remembered, in periods that are not over."""
    done = await owner.done_of(reader, user_id, MAX_LATE.total_seconds())
    return [done_before(task_id, period_on) for task_id, period_on in done]


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Keep the numbers of tasks, and what refunds may take back, under `alias`. Nothing in a row names the shopper."""
    await store.lock(tx)
    await owner.rename(tx, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make the old id's progress the new one's: what counted for either counts, once.

    What both were given for one task stays given: a person is not made to owe because two ids were. Progress keeps what
    grants are keyed by, of both, so that refunds take both back.
    """
    await store.lock(tx)
    old, new = await owner.standings(tx, old_user_id), await owner.standings(tx, user_id)
    if not old:
        return
    mine = {(one.period_on, one.task_id): one for one in new}
    pairs = [(mine[one.period_on, one.task_id], one) for one in old if (one.period_on, one.task_id) in mine]
    stay = [united(ours, theirs) for ours, theirs in pairs]
    await store.put_others(tx, stay)
    names = {one.grant_id for one in stay}
    await owner.drop(tx, [one for pair in pairs for one in pair if one.grant_id not in names])
    await owner.rename(tx, old_user_id, user_id)
    await settle(tx, [Key(user_id, one.period_on, one.task_id) for one in old], now, {})
