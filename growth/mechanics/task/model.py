"""What a task is, what is wrong with one, and how shoppers see it: decisions without I/O."""

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import CampaignKind, Recipe, State, next_at
from growth.mechanics.task.countable import Countable, FieldKind, countable, deed_of
from growth.plumbing.field_errors import FieldError
from growth.plumbing.strict_json import Instant
from growth.rewards.compliance import Offer, check
from growth.rewards.granting.model import Budget
from growth.vocabulary import refusals
from growth.vocabulary.alike import alike
from growth.vocabulary.audience import Audience, Newcomers
from growth.vocabulary.events.task import TaskEnded, TaskPaused, TaskPublished, TaskResumed
from growth.vocabulary.ids import Uuid
from growth.vocabulary.rewards import PointsReward, Reward
from growth.vocabulary.text import Description, Title

MAX_PUBLISHED = 200
"""Tasks that are published or paused at one time: all of them stand on one page, and before every event."""
MAX_COUNT = 1_000
MAX_CONDITIONS = 8
MAX_CHOICES = 50
"""Values that one condition allows."""
MAX_VALUE_CHARACTERS = 128
MAX_REWARDS = 5
MAX_WINDOW = timedelta(days=3 * 366)

ONCE = date(1970, 1, 1)
"""The first day of the one period of a task that is done once."""

NOT_FOUND = refusals.Kind("task.not_found", "There is no such task.", 404)
WRONG_STATE = refusals.Kind("task.wrong_state", "The task's state does not allow this.")
LOCKED_FIELD = refusals.Kind("task.locked_field", "The field can no longer be changed.")
VERSION_MISMATCH = refusals.Kind("task.version_mismatch", "Somebody else changed the task.", 412)
TOO_MANY = refusals.Kind("task.too_many", f"{MAX_PUBLISHED} tasks are published; end one first.")
NOT_COMPLIANT = refusals.Kind("task.not_compliant", "Rules of platforms or law speak against the task.")

Period = Literal["once", "daily", "weekly"]
UndoOnRefund = Literal["no", "whole", "any"]
ProgressState = Literal["open", "done", "rewarded"]
PageState = Literal[ProgressState, "paused", "ended"]

Path = Annotated[
    str,
    Meta(
        pattern=r"^[a-z_]{1,40}(?:\.[a-z_]{1,40})?$(?!\n)",
        description="A field of the event's data, `sku`; of all elements of a list, `lines.sku`.",
    ),
]
Value = Annotated[str, Meta(max_length=MAX_VALUE_CHARACTERS, pattern=r"^[^\x00]*$(?!\n)")] | bool | int


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"one_of": "in"}):
    """What one field of the data must be; exactly one of `equals`, `in` and `at_least`."""

    field: Path
    equals: Value | None = None
    one_of: Annotated[list[Value], Meta(min_length=1, max_length=MAX_CHOICES)] | None = None
    at_least: int | None = None

    def allows(self, value: object) -> bool:
        """Say whether one value fits. Of another type it never does: `true` is not 1."""
        if self.at_least is not None:
            return type(value) is int and value >= self.at_least
        choices = self.one_of if self.one_of is not None else [self.equals]
        return any(type(choice) is type(value) and choice == value for choice in choices)


class TaskDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about a task."""

    title: Title
    description: Description | None = None
    """What shoppers read: what to do, and what takes the reward back."""
    event_type: Annotated[str, Meta(max_length=64, pattern=r"^[a-z_]+\.[a-z_]+$(?!\n)")]
    """What is counted: an event that names a shopper."""
    filter: Annotated[list[Condition], Meta(max_length=MAX_CONDITIONS)] = []
    """All must hold. A field in the elements of a list holds if one element's does."""
    distinct_by: Path | None = None
    """Count different values of this field, not events. Values that a condition on the same field refuses are out."""
    count: Annotated[int, Meta(ge=1, le=MAX_COUNT)] = 1
    """How many in one period."""
    period: Period = "once"
    """By the day, or by the week from Monday on, in the merchant's zone."""
    reward: Annotated[list[Reward], Meta(min_length=1, max_length=MAX_REWARDS)]
    undo_on_refund: UndoOnRefund = "no"
    """What takes an order, claim or seat that had counted back: nothing, its refund as a whole, or any refund of it."""
    opens_at: Instant
    closes_at: Instant
    budget: Budget | None = None
    """Beyond it a task can be done, but gives nothing."""
    audience: Audience = []
    """For whom it counts: all of these must hold when the deed is done, facts being as they are known when it is told;
    everybody, if empty."""


class Task(TaskDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task as Postgres knows it."""

    task_id: Uuid
    state: State
    version: int
    created_at: datetime
    published_at: datetime | None
    ended_at: datetime | None

    @property
    def counts_from(self) -> datetime:
        """What happened before the task was there to be seen does not count."""
        # Many tell times without fractions: what happened in the second of publication is not from before.
        return (
            self.opens_at if self.published_at is None else max(self.opens_at, self.published_at.replace(microsecond=0))
        )

    @property
    def counts_until(self) -> datetime:
        """What happened after it was over does not count."""
        return self.closes_at if self.ended_at is None else min(self.closes_at, self.ended_at)


class TaskPage(Struct, frozen=True, kw_only=True):
    """A task as one shopper sees it."""

    task_id: Uuid
    title: str
    description: str | None
    count: int
    done: int
    """Up to `count`, in the current period."""
    is_admitted: bool
    """Whether what this shopper does now would count: the shopper is among those whom the task is for."""
    state: PageState
    """`done` without reward: the budget was spent."""
    period: Period
    period_ends_at: datetime
    """When counting starts anew, or ends for good."""
    reward: list[Reward]
    opens_at: datetime
    closes_at: datetime
    server_time: datetime


def period_on(period: Period, instant: datetime, zone: ZoneInfo) -> date:
    """Return the first day of the period that `instant` falls into."""
    if period == "once":
        return ONCE
    day = instant.astimezone(zone).date()
    return day if period == "daily" else day - timedelta(days=day.weekday())


def period_ends_at(task: Task, now: datetime, zone: ZoneInfo) -> datetime:
    """Return when the period that `now` falls into is over: with the task, at the latest."""
    if task.period == "once":
        return task.counts_until
    days = 1 if task.period == "daily" else 7
    after = period_on(task.period, now, zone) + timedelta(days=days)
    return min(datetime.combine(after, time(), zone), task.counts_until)


def page(
    task: Task, done: int, progress: ProgressState, now: datetime, zone: ZoneInfo, *, is_admitted: bool = True
) -> TaskPage:
    """Show a task to a shopper whose progress in the current period is `progress`."""
    state: PageState = progress
    if progress == "open":
        is_over = task.state == "ended" or now >= task.closes_at
        state = "ended" if is_over else "paused" if task.state == "paused" else "open"
    ends_at = period_ends_at(task, now, zone)
    return alike(
        TaskPage,
        task,
        done=min(done, task.count),
        is_admitted=is_admitted,
        state=state,
        period_ends_at=ends_at,
        server_time=now,
    )


def findings(draft: TaskDraft) -> list[Finding]:
    """Return what platforms and law say to what a task rewards."""
    deed, by_invitee = deed_of(draft.event_type)
    return check(Offer(deed=deed, by_invitee=by_invitee, texts=(draft.title, draft.description or "")))


# --- what is wrong with a draft ---------------------------------------------------------------------------------------


def faults(draft: TaskDraft) -> list[FieldError]:
    """Return what does not fit together in a draft, or is not in the catalogue, by field."""
    found = []
    if draft.closes_at <= draft.opens_at:
        found.append(FieldError("closes_at", "Must be after opens_at"))
    elif draft.closes_at - draft.opens_at > MAX_WINDOW:
        found.append(FieldError("closes_at", f"A window is at most {MAX_WINDOW.days} days"))
    event = countable(draft.event_type)
    if event is None:
        return [*found, FieldError("event_type", "No event of this name names a shopper")]
    if draft.undo_on_refund != "no" and event.facts.undone_by is None:
        found.append(FieldError("undo_on_refund", "No refund takes this event back"))
    if draft.distinct_by is not None:
        kind = event.fields.get(draft.distinct_by)
        if kind is None:
            found.append(FieldError("distinct_by", _no_such_field(event)))
        elif kind is FieldKind.FLAG:
            found.append(FieldError("distinct_by", "A field with two values cannot be counted by"))
    for index, condition in enumerate(draft.filter):
        found += _faults_of_condition(condition, event, f"filter[{index}]")
    return found


def _no_such_field(event: Countable) -> str:
    return f"{event.type} has no such field; it has {', '.join(sorted(event.fields)) or 'none'}"


def _faults_of_condition(condition: Condition, event: Countable, path: str) -> list[FieldError]:
    given = [one for one in (condition.equals, condition.one_of, condition.at_least) if one is not None]
    if len(given) != 1:
        return [FieldError(path, "Needs exactly one of equals, in, at_least")]
    kind = event.fields.get(condition.field)
    if kind is None:
        return [FieldError(f"{path}.field", _no_such_field(event))]
    if condition.at_least is not None:
        return [] if kind is FieldKind.NUMBER else [FieldError(f"{path}.at_least", f"{condition.field} is no number")]
    type_ = {FieldKind.TEXT: str, FieldKind.NUMBER: int, FieldKind.FLAG: bool}[kind]
    choices = [condition.equals] if condition.one_of is None else condition.one_of
    if all(type(choice) is type_ for choice in choices):
        return []
    name = "equals" if condition.one_of is None else "in"
    return [FieldError(f"{path}.{name}", f"{condition.field} is a {kind}")]


def recipes(now: datetime, zone: ZoneInfo) -> list[Recipe[TaskDraft]]:
    """Return ready drafts."""
    opens_at = next_at(0, now, zone)

    def task(title: str, event_type: str, points: int, **more: Any) -> TaskDraft:
        times: dict[str, Any] = {"opens_at": opens_at, "closes_at": opens_at + timedelta(days=90)}
        return TaskDraft(title=title, event_type=event_type, reward=[PointsReward(points=points)], **times, **more)

    views = task("每天浏览 3 件商品", "product.viewed", 5, count=3, distinct_by="sku", period="daily")
    first = task("完成首单", "shop.order_paid", 100, undo_on_refund="whole", audience=[Newcomers()])
    orders = task("本周下单 2 次", "shop.order_paid", 50, count=2, period="weekly", undo_on_refund="whole")
    return [
        Recipe("daily_views", "Look at three products a day", "每日浏览任务", views),
        Recipe("first_order", "A newcomer's first order", "新人首单任务", first),
        Recipe("weekly_orders", "Two orders a week", "每周复购任务", orders),
    ]


TASKS = CampaignKind(
    noun="task",
    nouns="tasks",
    path="tasks",
    audited_as="task",
    table="task.tasks",
    id_field="task_id",
    draft=TaskDraft,
    campaign=Task,
    faults=faults,
    findings=findings,
    told={"publish": TaskPublished, "pause": TaskPaused, "resume": TaskResumed, "end": TaskEnded},
    not_found=NOT_FOUND,
    wrong_state=WRONG_STATE,
    version_mismatch=VERSION_MISMATCH,
    not_compliant=NOT_COMPLIANT,
    locked_field=LOCKED_FIELD,
    recipes=recipes,
    changeable_once_open=frozenset({"title", "description", "closes_at", "budget"}),
)
