"""The projection: from what is told to progress and rewards, exactly once, a few statements for a whole batch."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from growth.kit.campaign.audience import Audiences, Candidate
from growth.mechanics.task import store as tasks_store
from growth.mechanics.task.countable import CORRECTED, catalogue, undoers
from growth.mechanics.task.model import Task
from growth.mechanics.task.progress.model import (
    MAX_LATE,
    CountedProgress,
    Counting,
    Key,
    Occurrence,
    TaskGiven,
    Watched,
    done_before,
    grant_keys,
    judge,
    occurred_at,
    occurrences_again,
    order_keys,
    surplus,
    undo_keys,
    user_ids_of,
)
from growth.mechanics.task.progress.store import counts as store
from growth.mechanics.task.progress.store.counts import DecidedProgress
from growth.plumbing.outbox.outbox import Envelope, emit
from growth.plumbing.postgres.database import Tx
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Grant
from growth.shopper.activity.model import Activity
from growth.vocabulary.alike import alike
from growth.vocabulary.events.shop import ShopOrderCorrected
from growth.vocabulary.events.task import TaskCompleted, TaskUndone
from growth.vocabulary.ids import is_alias

COUNT_BATCH = 5_000
"""Rows written in one statement: a batch of events may name more shoppers than it has events."""

REFUNDED = "shop.order_refunded"
REASON = "task.reward"
UNDONE = "task.undone"


class Reached(Struct, frozen=True):
    """A shopper who did what a task asks for, and what follows."""

    standing: CountedProgress
    task: Task
    grants: Mapping[int, Grant]
    """By place in the reward list."""


class TaskProjection:
    """Counts, for all tasks. One per process; what it remembers of tasks is asked for again with every batch."""

    def __init__(self, zone: ZoneInfo, audiences: Audiences) -> None:
        self._zone = zone
        self._audiences = audiences
        self._known: dict[str, Task] = {}
        self._tasks = Watched((), zone)

    async def from_outbox(self, tx: Tx, envelopes: Sequence[Envelope]) -> None:
        """Count what rooms told, in its order. For a `Subscription` to `outbox_types()`."""
        live, tasks = await self._live(tx)
        for is_corrected, told in groupby(envelopes, lambda one: isinstance(one.event, ShopOrderCorrected)):
            if is_corrected:
                await self._decide_again(tx, list(told), live)
            else:
                await self._hear(tx, tasks, list(told), live)

    async def _hear(self, tx: Tx, tasks: Watched, envelopes: Sequence[Envelope], live: store.Live) -> None:
        occurrences, undone = [], []
        for envelope in envelopes:
            event = envelope.event
            type_ = str(event.__struct_config__.tag)
            if live.is_undoable:
                undone += undo_keys(type_, event)
            if event.facts and tasks.wants(type_):
                at = occurred_at(event, event.facts)
                occurrences += [
                    Occurrence(
                        occurrence_id=envelope.event_id, user_id=user_id, type=type_, at=at, counted_at=at, data=event
                    )
                    for user_id in user_ids_of(event, event.facts)
                ]
        await self._take(tx, tasks, occurrences, undone, live.now)

    async def _decide_again(self, tx: Tx, corrections: Sequence[Envelope], live: store.Live) -> None:
        """Let of each order count what counts of it as it is now, whatever of it had counted.

        What had counted was told in time; so is what is said of it now, unless it turns out to be much older.
        """
        told = {
            one.event.order_id: (one.event_id, one.event)
            for one in corrections
            # Of an erased shopper's orders nothing is given any more, nor taken back.
            if isinstance(one.event, ShopOrderCorrected) and not is_alias(one.event.user_id)
        }
        if not told:
            return
        await store.lock(tx)
        orders = {key: order_id for order_id in told for key in order_keys(order_id)}
        before = await store.uncount(tx, list(orders))
        if live.is_undoable:
            refunded = [event for _, event in told.values() if event.has_refund]
            await store.remember_refunds(
                tx, [key for event in refunded for key in undo_keys(REFUNDED, event)], live.now
            )
        had_counted = {(orders[one.undo_key], one.key.task_id): one.at for one in before}
        tasks = {**self._known, **await _others(tx, self._known, {one.key.task_id for one in before})}
        countings = [
            counting
            for order_id, (event_id, event) in told.items()
            for task in tasks.values()
            if task.task_id in self._known or (order_id, task.task_id) in had_counted
            for occurrence in occurrences_again(event_id, event, task.event_type)
            for counting in judge(
                task, occurrence, had_counted.get((order_id, task.task_id), live.now), self._zone
            ).countings
        ]
        countings = await self._of_the_admitted(tx, await _without_done_before(tx, countings), tasks)
        counted = await _count(tx, countings, live.now)
        had = [one.key for one in before]
        await settle(tx, had + counted, live.now, tasks, [key for key in had if key not in counted])

    async def from_activities(self, tx: Tx, activities: Sequence[Activity]) -> None:
        """Count what clients and the shop told. For a `Subscription` to `activity_types()` in the log of events."""
        live, tasks = await self._live(tx)
        occurrences = [
            # Its name is this id and its day; here the id alone counts, once in a period.
            alike(Occurrence, one, occurrence_id=one.activity_id)
            for one in activities
            if tasks.wants(one.type)
        ]
        await self._take(tx, tasks, occurrences, [], live.now)

    async def _live(self, tx: Tx) -> tuple[store.Live, Watched]:
        """Return what may count now. Tasks are read only when they are new or were changed."""
        live = await store.live(tx, MAX_LATE.total_seconds())
        versions = live.versions
        known = {task_id: task.version for task_id, task in self._known.items()}
        if known != versions:
            changed = [task_id for task_id, version in versions.items() if known.get(task_id) != version]
            kept = {task_id: task for task_id, task in self._known.items() if task_id in versions}
            self._known = kept | await tasks_store.find_tasks(tx, changed)
            self._tasks = Watched(self._known.values(), self._zone)
        return live, self._tasks

    async def _take(
        self, tx: Tx, tasks: Watched, occurrences: Sequence[Occurrence], undone: Sequence[str], now: datetime
    ) -> None:
        countings: list[Counting] = [one for occurrence in occurrences for one in tasks.countings(occurrence, now)]
        countings = await self._of_the_admitted(tx, await _without_done_before(tx, countings), self._known)
        if not countings and not undone:
            return
        await store.lock(tx)
        refunded: list[Key] = []
        if undone:
            await store.remember_refunds(tx, undone, now)
            refunded = await store.undo(tx, undone, now)
        keys = refunded + await _count(tx, countings, now)
        await settle(tx, keys, now, self._known, refunded)

    async def _of_the_admitted(self, tx: Tx, countings: list[Counting], tasks: Mapping[str, Task]) -> list[Counting]:
        """Leave out what shoppers did who were outside of the task's audience then, as far as is known by now."""
        asked = {
            place: Candidate(tasks[one.task_id].audience, one.user_id, one.at)
            for place, one in enumerate(countings)
            if tasks[one.task_id].audience
        }
        missed = await self._audiences.outside(tx, asked) if asked else {}
        return [one for place, one in enumerate(countings) if place not in missed]


async def _count(tx: Tx, countings: Sequence[Counting], now: datetime) -> list[Key]:
    keys: list[Key] = []
    for start in range(0, len(countings), COUNT_BATCH):
        keys += await store.count(tx, countings[start : start + COUNT_BATCH], now)
    return keys


async def _without_done_before(tx: Tx, countings: Sequence[Counting]) -> list[Counting]:
    """Leave out what an erased shopper who is back did in the period already, for as long as that is remembered."""
    asked = [(one.user_id, done_before(one.task_id, one.period_on)) for one in countings]
    had = await tx.people.units_had(tx, asked)
    return [one for one, pair in zip(countings, asked, strict=True) if pair not in had]


async def _others(tx: Tx, known: Mapping[str, Task], task_ids: Collection[str]) -> Mapping[str, Task]:
    """Return those of `task_ids` that are not known: they count nothing now, but had counted."""
    missing = sorted({*task_ids} - known.keys())
    return await tasks_store.find_tasks(tx, missing) if missing else {}


def outbox_types() -> frozenset[str]:
    """Return the events of rooms that may count, or take back what had counted."""
    return (
        frozenset(event.type for event in catalogue().values() if event.is_told_by_outbox)
        | undoers().keys()
        | {CORRECTED}
    )


def activity_types() -> frozenset[str]:
    """Return what clients and the shop tell that may count."""
    return frozenset(event.type for event in catalogue().values() if not event.is_told_by_outbox)


async def settle(
    tx: Tx, keys: Sequence[Key], now: datetime, known: Mapping[str, Task], refunded: Collection[Key] = ()
) -> None:
    """Recompute progress under `keys`, and grant or take back what follows. The caller holds `store.lock`.

    Of `refunded` keys, so many rewards stay as what counts bears, where two ids that became one had one each.
    """
    if not keys:
        return
    standings = await store.recount(tx, sorted(set(keys)), now)
    tasks = {**known, **await _others(tx, known, {one.task_id for one in standings})}
    by_key = sorted(standings, key=lambda one: (one.user_id, one.period_on, one.task_id))
    reached = [one for one in by_key if one.state == "open" and one.done >= tasks[one.task_id].count]
    fallen = [one for one in by_key if one.state != "open" and one.done < tasks[one.task_id].count]
    fewer = [one for one in by_key if one.others and one not in fallen and _key(one) in set(refunded)]
    if reached:
        await _grant(tx, [_reached(one, tasks[one.task_id]) for one in reached], now)
    if fallen:
        await _take_back(tx, fallen, tasks, now)
    if fewer:
        await _take_back_surplus(tx, fewer, tasks, now)


def _reached(standing: CountedProgress, task: Task) -> Reached:
    keys = grant_keys(standing.grant_id, standing.attempt + 1, len(task.reward))
    return Reached(
        standing,
        task,
        {
            place: Grant(
                user_id=standing.user_id,
                reward=reward,
                reason=REASON,
                key=key,
                subject=task.task_id,
                budget_id=None if task.budget is None else task.task_id,
            )
            for place, (reward, key) in enumerate(zip(task.reward, keys, strict=True))
            if place not in standing.kept
        },
    )


async def _grant(tx: Tx, reached: Sequence[Reached], now: datetime) -> None:
    grants = [grant for one in reached for grant in one.grants.values()]
    answers = iter(await granting.grant(tx, grants, now))
    decided, events = [], []
    for one in reached:
        outcomes = {place: next(answers) for place in one.grants}
        granted = [place for place, outcome in outcomes.items() if outcome.outcome == "granted"]
        had_before = one.standing.kept or any(outcome.outcome == "already" for outcome in outcomes.values())
        given = {str(place): outcome.coupon_id for place, outcome in outcomes.items() if outcome.coupon_id}
        decided.append(_decided(one.standing, "rewarded" if granted or had_before else "done", given))
        events.append(alike(TaskCompleted, one.standing, at=now, granted=[one.task.reward[place] for place in granted]))
    await _write(tx, decided, now)
    await emit(tx, *events)


async def _take_back(tx: Tx, fallen: Sequence[CountedProgress], tasks: Mapping[str, Task], now: datetime) -> None:
    in_use = await _revoke(tx, [(tasks[one.task_id], one.given) for one in fallen], now)
    await _write(tx, [_decided(one, "open", {}, _places(one.given, in_use)) for one in fallen], now)
    await emit(tx, *[alike(TaskUndone, one, at=now) for one in fallen])


async def _take_back_surplus(
    tx: Tx, fewer: Sequence[CountedProgress], tasks: Mapping[str, Task], now: datetime
) -> None:
    gone = [surplus(one, tasks[one.task_id].count) for one in fewer]
    in_use = await _revoke(tx, [(tasks[one.task_id], its) for one, its in zip(fewer, gone, strict=True)], now)
    await store.put_others(
        tx,
        [
            replace(
                one,
                kept=sorted({*one.kept, *_places(its, in_use)}),
                others=[other for other in one.others if other not in its],
            )
            for one, its in zip(fewer, gone, strict=True)
        ],
    )


async def _revoke(
    tx: Tx, given: Sequence[tuple[Task, Sequence[TaskGiven]]], now: datetime
) -> Mapping[str, Sequence[int]]:
    """Take back what was given; return, by grant_id, the places of coupons that an order has all the same."""
    places = {
        key: (one.grant_id, place)
        for task, its in given
        for one in its
        for place, key in enumerate(grant_keys(one.grant_id, one.attempt, len(task.reward)))
    }
    found = defaultdict[str, list[int]](list)
    for told in await granting.revoke(tx, list(places), UNDONE, now):
        if told.in_use:
            grant_id, place = places[told.key]
            found[grant_id].append(place)
    return found


def _places(given: Sequence[TaskGiven], in_use: Mapping[str, Sequence[int]]) -> list[int]:
    return [place for one in given for place in in_use.get(one.grant_id, ())]


def _key(one: CountedProgress) -> Key:
    return Key(one.user_id, one.period_on, one.task_id)


def _decided(
    standing: CountedProgress, state: str, given: dict[str, str], in_use: Sequence[int] = ()
) -> DecidedProgress:
    kept = sorted({*standing.kept, *in_use})
    return alike(DecidedProgress, standing, was=standing.state, state=state, coupons=given, kept=kept)


async def _write(tx: Tx, decided: Sequence[DecidedProgress], now: datetime) -> None:
    written = await store.decide(tx, decided, now)
    assert written == len(decided), "the lock is held, so nobody else decided"
