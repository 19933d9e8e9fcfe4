"""What operators do with tasks, each write one transaction with its audit entry; and one shopper's page."""

from datetime import date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from growth.kit.campaign.audience import Audiences, Candidate
from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import State, Step, keep_window, window_over
from growth.kit.campaign.service import Campaigns
from growth.mechanics.task import model, store
from growth.mechanics.task.board import TaskBoard
from growth.mechanics.task.model import TASKS, ProgressState, Task, TaskDraft, TaskPage
from growth.mechanics.task.progress.model import CountDecision, Occurrence, Why, judge
from growth.mechanics.task.progress.store import counts as progress_store
from growth.mechanics.task.progress.store import pruning as past
from growth.mechanics.task.progress.store.counts import Mine
from growth.mechanics.task.progress.store.pruning import PeriodTally
from growth.plumbing.field_errors import FieldError
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch.audit import Act
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Spent
from growth.rewards.granting.service import require_admin_for_money
from growth.vocabulary.refusals import Refusal

MAX_PERIODS_TOLD = 60
"""In the numbers of a task; the newest."""

Judged = Literal[Why, "not_published", "told_before", "done_before", "not_in_audience"]
COUNTED = ("shoppers_open", "shoppers_done", "shoppers_rewarded", "undone")

NOTHING_YET = Mine(done=0, state="open")


class TaskDryRun(Struct, frozen=True, kw_only=True):
    """What an event would do, without doing it."""

    would: Literal["reward", "count", "ignore"]
    """`reward` if the count were reached by it."""
    code: Judged
    """`counts`, or why not."""
    because: str
    at: datetime
    period_on: date
    count: int
    done: int
    """Before it."""
    done_after: int
    state: ProgressState
    """Of the shopper's progress, before it."""


class TaskStats(Struct, frozen=True, kw_only=True):
    """A task in numbers, as it stands."""

    task_id: str
    state: State
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


class Tasks(Campaigns[TaskDraft, Task]):
    """The room's service."""

    kind = TASKS

    def __init__(self, database: Database, board: TaskBoard, zone: ZoneInfo, audiences: Audiences) -> None:
        super().__init__(database)
        self._audiences = audiences
        self._board = board
        self._zone = zone

    def allow(self, act: Act, *campaigns: object) -> None:
        """Refuse an editor where money is given."""
        require_admin_for_money(act, *campaigns)

    def late(self, draft: TaskDraft, now: datetime) -> FieldError | None:
        """Say that the window is over."""
        return window_over(draft, now)

    async def before_change(self, _tx: Tx, act: Act, before: Task, draft: TaskDraft) -> None:
        """Keep what an open task asks for and promises."""
        keep_window(TASKS, before, draft, act.now)

    async def lock_before_step(self, tx: Tx, _task_id: str, step: Step) -> None:
        """Let one task at a time be published: those that are, are counted."""
        if step == "publish":
            await store.lock_publishing(tx)

    async def before_step(self, tx: Tx, _act: Act, step: Step, _before: Task) -> None:
        """Refuse one more than stand on one page."""
        if step == "publish" and await store.count_published(tx) >= model.MAX_PUBLISHED:
            raise Refusal(model.TOO_MANY, max_published=model.MAX_PUBLISHED)

    async def after(self, tx: Tx, _act: Act, step: Step | Literal["change"], _before: Task, after: Task) -> Task:
        """Set the budget that a task has from now on."""
        if after.state != "draft" and step in {"publish", "change"} and after.budget is not None:
            await granting.set_budget(tx, after.task_id, after.budget, self._zone.key)
        return after

    async def changed(self) -> None:
        """Read the board anew."""
        self._board.forget()

    async def mine(self, user_id: str, now: datetime) -> list[TaskPage]:
        """Return every visible task with one shopper's progress: one read along one index, whatever there is."""
        visible = await self._board.visible(now)
        periods = {task.period: model.period_on(task.period, now, self._zone) for task in visible}
        if not periods:
            return []
        progress = await progress_store.of_shopper(self._database, user_id, sorted(set(periods.values())))
        asked = {task.task_id: Candidate(task.audience, user_id) for task in visible if task.audience}
        missed = await self._audiences.outside(self._database, asked)
        pages = []
        for task in visible:
            known = progress.get((periods[task.period], task.task_id), NOTHING_YET)
            is_admitted = task.task_id not in missed
            pages.append(model.page(task, known.done, known.state, now, self._zone, is_admitted=is_admitted))
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
        candidate = Candidate(task.audience, user_id, occurrence.counted_at)
        missed = (await self._audiences.outside(self._database, {user_id: candidate})).get(user_id)
        if code == "counts" and missed is not None:
            code, because = "not_in_audience", f"The shopper does not meet {missed}."
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
            **{name: sum(getattr(one, name) for one in tally) for name in COUNTED},
            periods=tally[:MAX_PERIODS_TOLD],
            budget_spent=spent.get(task_id),
            findings=model.findings(task),
            server_time=now,
        )


def _judged(task: Task, verdict: CountDecision, mine: Mine, *, fresh: int) -> tuple[Judged, str]:
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
