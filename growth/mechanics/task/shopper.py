"""What the room knows of one shopper: told, erased, merged."""

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct

from growth.mechanics.task.progress import store
from growth.mechanics.task.progress.model import Key, Standing, done_once
from growth.mechanics.task.progress.owner import store as owner
from growth.mechanics.task.progress.service import settle
from growth.plumbing.postgres import Reader, Tx

MAX_TOLD = 200
"""Rows of progress, and things counted, on the operator's page; the newest."""


class TaskProgressKnown(Struct, frozen=True, kw_only=True):
    """Progress in one period of one task."""

    task_id: str
    period_on: date
    done: int
    state: str
    undone: int
    reached_at: datetime | None
    changed_at: datetime


class TaskCountedKnown(Struct, frozen=True, kw_only=True):
    """Something that counted."""

    task_id: str
    value: str
    at: datetime
    undone_at: datetime | None


class TasksKnown(Struct, frozen=True):
    """All of it, or the newest."""

    progress: list[TaskProgressKnown]
    counted: list[TaskCountedKnown]


async def told(reader: Reader, user_id: str) -> TasksKnown:
    """Return what a shopper did, and how far that went."""
    return TasksKnown(
        [TaskProgressKnown(**row) for row in await owner.progress_of(reader, user_id, MAX_TOLD)],
        [TaskCountedKnown(**row) for row in await owner.counted_of(reader, user_id, MAX_TOLD)],
    )


async def had(reader: Reader, user_id: str) -> list[str]:
    """Return the tasks that the shopper completed, as they are remembered: those done once are not done again."""
    done = await owner.progress_of(reader, user_id, MAX_TOLD)
    return [done_once(row["task_id"]) for row in done if row["state"] != "open"]


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Keep the numbers of tasks, and what refunds may take back, under `alias`. Nothing in a row names the shopper."""
    await store.lock(tx)
    await owner.rename(tx, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make the old id's progress the new one's: what counted for either counts, once.

    What both were given for one task stays given: a person is not made to owe because two ids were. Progress keeps the
    new id's reward, and a refund takes that one back.
    """
    await store.lock(tx)
    old, new = await owner.standings(tx, old_user_id), await owner.standings(tx, user_id)
    if not old:
        return
    mine = {(one.period_on, one.task_id): one for one in new}
    pairs = [(one, mine[one.period_on, one.task_id]) for one in old if (one.period_on, one.task_id) in mine]
    # Of two rows the one with the reward stays; what it may not give again is what neither may.
    losers = [theirs if theirs.state == "open" or ours.state != "open" else ours for theirs, ours in pairs]
    await owner.keep_no_more(tx, [_with_both(loser, pairs) for loser in losers])
    await owner.drop(tx, losers)
    await owner.rename(tx, old_user_id, user_id)
    await settle(tx, [Key(user_id, one.period_on, one.task_id) for one in old], now, {})


def _with_both(loser: Standing, pairs: Sequence[tuple[Standing, Standing]]) -> tuple[Standing, list[int]]:
    """Return the row that stays in place of `loser`, and the places that neither may give again."""
    theirs, ours = next(pair for pair in pairs if loser in pair)
    return (ours if loser is theirs else theirs), sorted({*theirs.kept, *ours.kept})
