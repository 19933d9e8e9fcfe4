"""What operators do with tasks, each write one transaction with its audit entry; and one shopper's page."""

from collections.abc import Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from growth.mechanics.task import model, store
from growth.mechanics.task.board import TaskBoard
from growth.mechanics.task.model import Task, TaskDraft, TaskPage
from growth.mechanics.task.progress.model import CountDecision, Occurrence, judge
from growth.mechanics.task.progress.store import counts as progress_store
from growth.mechanics.task.progress.store import pruning as past
from growth.mechanics.task.progress.store.counts import Mine
from growth.mechanics.task.progress.store.pruning import PeriodTally
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.compliance import Finding, hold
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Spent
from growth.rewards.granting.service import require_admin_for_money
from growth.vocabulary.events import Event
from growth.vocabulary.events.task import TaskEnded, TaskPaused, TaskPublished, TaskResumed
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal

MAX_PERIODS_TOLD = 60
"""In the numbers of a task; the newest."""

NOTHING_YET = Mine(done=0, state="open")


class TaskDryRun(Struct, frozen=True, kw_only=True):
    """What an event would do, without doing it."""

    would: str
    """`reward` if the count were reached by it, `count`, or `ignore`."""
    code: str
    """`counts`, or why not: `other_event`, `before_start`, `after_end`, `too_late`, `in_the_future`, `filtered`,
    `no_value`, `nothing_paid`, `not_published`, `told_before`, `done_before`."""
    because: str
    at: datetime
    period_on: date
    count: int
    done: int
    """Before it."""
    done_after: int
    state: str
    """Of the shopper's progress, before it: `open`, `done` or `rewarded`."""


class TaskStats(Struct, frozen=True, kw_only=True):
    """A task in numbers, as it stands."""

    task_id: str
    state: model.State
    shoppers_open: int
    """Who began, and is not done; over all periods, as everything here."""
    shoppers_done: int
    """Who did it, and got nothing: the budget was spent."""
    shoppers_rewarded: int
    undone: int
    """How often a refund took a reward back."""
    periods: list[PeriodTally]
    """The newest ones. One, of 1970-01-01, for what is done once."""
    budget_spent: Spent | None
    """Of the day, where the budget is for each day."""
    findings: list[Finding]
    """What rules of platforms and law say."""
    server_time: datetime


class Tasks:
    """The room's service."""

    def __init__(self, database: Database, board: TaskBoard, zone: ZoneInfo) -> None:
        self._database = database
        self._board = board
        self._zone = zone

    async def create(self, act: Act, draft: TaskDraft, key: str | None, content: bytes) -> Once[Task]:
        """Make a draft. Raises `Refusal` 400 for events, fields and values that do not fit together."""
        _check(draft)

        async with self._database.transaction() as tx:

            async def work() -> Task:
                task = await store.add_task(tx, new_id(act.now), draft, act.now)
                await _audit(tx, act, "create", None, task)
                return task

            scope = f"{act.operator.name} POST tasks"
            return await once(tx, scope=scope, key=key, content=content, answer_type=Task, work=work, now=act.now)

    async def find(self, task_id: str) -> Task:
        """Return a task in any state. Raises `Refusal` 404."""
        task = (await store.find_tasks(self._database, [task_id])).get(task_id)
        if task is None:
            raise Refusal(model.NOT_FOUND)
        return task

    async def page(self, *, state: str | None, before: str | None, limit: int) -> list[Task]:
        """Return tasks, newest first."""
        return await store.page_of_tasks(self._database, state=state, before=before, limit=limit)

    async def change(self, act: Act, task_id: str, version: int, draft: TaskDraft) -> Task:
        """Edit a task still at `version`.

        Raises `Refusal`: 412 for an older version; 409 for a locked field, and for text that rules speak against once
        the task is published.
        """
        _check(draft)
        async with self._database.transaction() as tx:
            before = await _lock(tx, task_id)
            if before.version != version:
                raise Refusal(model.VERSION_MISMATCH, f"It is at version {before.version}.", version=before.version)
            if before.state != "draft":
                require_admin_for_money(act, before, draft)
            model.check_edit(before, draft, act.now)
            if before.state != "draft":
                _hold_to_rules(draft, before)
            after = await store.change_task(tx, task_id, version, draft)
            assert after is not None, "locked, so nobody else changed it"
            if after.state != "draft":
                await self._set_budget(tx, after)
            await _audit(tx, act, "change", before, after)
        self._board.forget()
        return after

    async def publish(self, act: Act, task_id: str, *, accept_warnings: bool) -> Task:
        """Show a draft to shoppers, and begin to count.

        Raises `Refusal` 409: its window is over; rules of platforms or law speak against it (`findings`), warnings
        among them unless they are accepted; too many are published.
        """
        async with self._database.transaction() as tx:
            await store.lock_publishing(tx)
            before = await _lock(tx, task_id)
            require_admin_for_money(act, before)
            if before.closes_at <= act.now:
                raise Refusal(model.WRONG_STATE, "The window is over; change closes_at first.")
            hold(model.findings(before), model.NOT_COMPLIANT, accept_warnings=accept_warnings)
            if await store.count_published(tx) >= model.MAX_PUBLISHED:
                raise Refusal(model.TOO_MANY, max_published=model.MAX_PUBLISHED)
            event = TaskPublished(at=act.now, task_id=task_id, opens_at=before.opens_at, closes_at=before.closes_at)
            after = await _move(tx, act, before, ("draft",), "published", "publish", event)
            await self._set_budget(tx, after)
        self._board.forget()
        return after

    async def pause(self, act: Act, task_id: str) -> Task:
        """Stop counting at once: what is told meanwhile never counts."""
        return await self._step(
            act, task_id, ("published",), "paused", "pause", TaskPaused(at=act.now, task_id=task_id)
        )

    async def resume(self, act: Act, task_id: str) -> Task:
        """Count on."""
        event = TaskResumed(at=act.now, task_id=task_id)
        return await self._step(act, task_id, ("paused",), "published", "resume", event)

    async def end(self, act: Act, task_id: str) -> Task:
        """End a task for good. What happened before still counts when it is told; refunds still take back."""
        event = TaskEnded(at=act.now, task_id=task_id)
        return await self._step(act, task_id, ("draft", "published", "paused"), "ended", "end", event)

    async def _step(
        self, act: Act, task_id: str, from_states: Sequence[str], to_state: str, action: str, event: Event
    ) -> Task:
        async with self._database.transaction() as tx:
            before = await _lock(tx, task_id)
            if to_state == "published":
                require_admin_for_money(act, before)
            after = await _move(tx, act, before, from_states, to_state, action, event)
        self._board.forget()
        return after

    async def _set_budget(self, tx: Tx, task: Task) -> None:
        if task.budget is not None:
            await granting.set_budget(tx, task.task_id, task.budget, self._zone.key)

    async def mine(self, user_id: str, now: datetime) -> list[TaskPage]:
        """Return every visible task with one shopper's progress: one read along one index, whatever there is."""
        visible = await self._board.visible(now)
        periods = {task.period: model.period_on(task.period, now, self._zone) for task in visible}
        if not periods:
            return []
        progress = await progress_store.of_shopper(self._database, user_id, sorted(set(periods.values())))
        pages = []
        for task in visible:
            known = progress.get((periods[task.period], task.task_id), NOTHING_YET)
            pages.append(model.page(task, known.done, known.state, now, self._zone))
        return pages

    async def dry_run(self, task_id: str, occurrence: Occurrence, now: datetime) -> TaskDryRun:
        """Say what `occurrence`, told at `now`, would do, and why; nothing is changed. A draft is tried as if live."""
        task = await self.find(task_id)
        user_id = await self._database.people.today(self._database, occurrence.user_id)
        occurrence = msgspec.structs.replace(occurrence, user_id=user_id)
        verdict = judge(task, occurrence, now, self._zone)
        day = model.period_on(task.period, occurrence.at, self._zone)
        mine = (await progress_store.of_shopper(self._database, occurrence.user_id, [day])).get(
            (day, task_id), NOTHING_YET
        )
        fresh = [one for one in verdict.countings if not await progress_store.has_value(self._database, one)]
        code, because = _judged(task, verdict, mine, fresh=len(fresh))
        after = mine.done + (len(fresh) if code == "counts" else 0)
        reaches = code == "counts" and mine.state == "open" and after >= task.count
        return TaskDryRun(
            would="reward" if reaches else "count" if code == "counts" else "ignore",
            code=code,
            because=because,
            at=now,
            period_on=day,
            count=task.count,
            done=min(mine.done, task.count),
            done_after=min(after, task.count),
            state=mine.state,
        )

    async def stats(self, task_id: str, now: datetime) -> TaskStats:
        """Return a task in numbers."""
        task = await self.find(task_id)
        tally = await past.tally(self._database, task_id)
        spent = {} if task.budget is None else await granting.spent(self._database, [task_id], now)
        return TaskStats(
            task_id=task_id,
            state=task.state,
            shoppers_open=sum(one.shoppers_open for one in tally),
            shoppers_done=sum(one.shoppers_done for one in tally),
            shoppers_rewarded=sum(one.shoppers_rewarded for one in tally),
            undone=sum(one.undone for one in tally),
            periods=tally[:MAX_PERIODS_TOLD],
            budget_spent=spent.get(task_id),
            findings=model.findings(task),
            server_time=now,
        )


def _judged(task: Task, verdict: CountDecision, mine: Mine, *, fresh: int) -> tuple[str, str]:
    if task.state == "paused":
        return "not_published", "The task is paused: what is told meanwhile never counts."
    if verdict.why != "counts":
        return verdict.why, verdict.because
    if task.undo_on_refund == "no" and mine.done >= task.count:
        return "done_before", "The shopper has done it already in this period."
    if not fresh:
        what = "This event" if task.distinct_by is None else f"This {task.distinct_by}"
        return "told_before", f"{what} counted already in this period."
    return verdict.why, verdict.because


def _check(draft: TaskDraft) -> None:
    if found := model.faults(draft):
        raise invalid(*found)


def _hold_to_rules(draft: TaskDraft, before: Task) -> None:
    """Refuse an edit of a published task that rules speak against, as far as they did not when it was published."""
    known = {finding.rule for finding in model.findings(before)}
    hold(
        [finding for finding in model.findings(draft) if finding.rule not in known],
        model.NOT_COMPLIANT,
        accept_warnings=False,
    )


async def _lock(tx: Tx, task_id: str) -> Task:
    task = await store.lock_task(tx, task_id)
    if task is None:
        raise Refusal(model.NOT_FOUND)
    return task


async def _move(
    tx: Tx, act: Act, before: Task, from_states: Sequence[str], to_state: str, action: str, event: Event
) -> Task:
    after = await store.move_task(tx, before.task_id, from_states, to_state, act.now)
    if after is None:
        raise Refusal(model.WRONG_STATE, f"Cannot {action} a task that is {before.state}.", state=before.state)
    await _audit(tx, act, action, before, after)
    await emit(tx, event)
    return after


async def _audit(tx: Tx, act: Act, action: str, before: Task | None, after: Task) -> None:
    await audit.record(
        tx,
        act,
        f"task.{action}",
        after.task_id,
        before=before,
        after=after,
    )
