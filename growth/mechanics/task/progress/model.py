"""Which occurrences count for which tasks, and what is to be done about it: decisions without I/O."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from hashlib import blake2b
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from growth.mechanics.task.countable import CORRECTABLE, countable, undoers
from growth.mechanics.task.model import ONCE, Task, period_on
from growth.vocabulary.clock import MAX_AHEAD
from growth.vocabulary.events import Event
from growth.vocabulary.events.shop import ShopOrderCorrected
from growth.vocabulary.facts import Facts
from growth.vocabulary.ids import is_alias

MAX_LATE = timedelta(days=30)
"""What is told later than this after it happened does not count any more: its period may be forgotten already."""
MAX_VALUE_CHARACTERS = 64
"""Longer distinct values, and ids, are kept as their hash."""
MAX_VALUES = 100
"""Distinct values of one occurrence; those that come first count."""

Why = Literal[
    "counts",
    "other_event",
    "before_start",
    "after_end",
    "too_late",
    "in_the_future",
    "nothing_paid",
    "filtered",
    "no_value",
]


class Occurrence(Struct, frozen=True, kw_only=True):
    """Something that a shopper did, whoever told it."""

    occurrence_id: str
    """The same, however often it is told."""
    user_id: str
    type: str
    at: datetime
    """When it happened."""
    counted_at: datetime
    """When it counts, in which period and before which end: `at`, or later where only a client says so."""
    data: object
    """A mapping or a Struct."""


class Counting(Struct, frozen=True, kw_only=True):
    """A row of `counted`, to be."""

    user_id: str
    period_on: date
    task_id: str
    value: str
    occurrence_id: str
    at: datetime
    undo_key: str | None
    enough: int | None
    """With so many no more are needed; None if all are kept, for refunds and corrections to come."""


class CountDecision(Struct, frozen=True):
    """Whether an occurrence counts for a task."""

    why: Why
    because: str
    countings: Sequence[Counting] = ()


class Key(Struct, frozen=True, order=True):
    """Whose progress, in which period of which task."""

    user_id: str
    period_on: date
    task_id: str


class TaskGiven(Struct, frozen=True):
    """What one row of progress gave when its count was reached last."""

    grant_id: str
    """What the keys of its grants are made of."""
    attempt: int
    coupons: dict[str, str]
    """Place in the reward list → the coupon."""


class CountedProgress(Struct, frozen=True, kw_only=True):
    """Progress after it was counted anew, beside what was decided about it before."""

    user_id: str
    period_on: date
    task_id: str
    done: int
    state: str
    attempt: int
    grant_id: str
    """What the keys of its grants are made of. It derives from no name, so it stays when the id changes."""
    coupons: dict[str, str]
    """Place in the reward list → the coupon that the last attempt gave."""
    kept: list[int]
    """Places of coupons that an order had when they were taken back: never given again."""
    others: list[TaskGiven]
    """What rows gave besides that this one took the place of, since two ids became one."""

    @property
    def given(self) -> list[TaskGiven]:
        """All that a refund takes back, this row's own first."""
        return [TaskGiven(self.grant_id, self.attempt, self.coupons), *self.others]


class Watched:
    """The tasks that may count something, by the type of event they look for."""

    def __init__(self, tasks: Iterable[Task], zone: ZoneInfo) -> None:
        self._by_type = defaultdict[str, list[Task]](list)
        self._zone = zone
        for task in tasks:
            self._by_type[task.event_type].append(task)

    def wants(self, type_: str) -> bool:
        """Say whether any of them looks for such an event."""
        return type_ in self._by_type

    def countings(self, occurrence: Occurrence, now: datetime) -> Iterator[Counting]:
        """Say what counts of an occurrence."""
        for task in self._by_type.get(occurrence.type, ()):
            yield from judge(task, occurrence, now, self._zone).countings


def judge(task: Task, occurrence: Occurrence, now: datetime, zone: ZoneInfo) -> CountDecision:
    """Say whether `occurrence`, told at `now`, counts for `task`, and why."""
    if found := _out_of_time(task, occurrence, now):
        return found
    if values_at(occurrence.data, "is_purchase") == [False]:
        return CountDecision("nothing_paid", "Nothing was paid for the order.")
    for index, condition in enumerate(task.filter):
        if not any(condition.allows(value) for value in values_at(occurrence.data, condition.field)):
            return CountDecision("filtered", f"filter[{index}] on {condition.field} does not hold.")
    values = _distinct(task, occurrence)
    if not values:
        return CountDecision("no_value", f"There is no value in {task.distinct_by} to tell it from others.")
    day = period_on(task.period, occurrence.counted_at, zone)
    may_go = task.undo_on_refund != "no" or task.event_type in CORRECTABLE
    countings = [
        Counting(
            user_id=occurrence.user_id,
            period_on=day,
            task_id=task.task_id,
            value=value,
            occurrence_id=_short(occurrence.occurrence_id) if may_go and task.distinct_by is not None else "",
            at=occurrence.counted_at,
            undo_key=_undo_key(task, occurrence) if may_go else None,
            enough=None if may_go else task.count,
        )
        for value in values
    ]
    return CountDecision("counts", f"It counts in the period from {day}.", countings)


def _out_of_time(task: Task, occurrence: Occurrence, now: datetime) -> CountDecision | None:
    at = occurrence.at
    if occurrence.type != task.event_type:
        return CountDecision("other_event", f"The task counts {task.event_type}.")
    if at < task.counts_from:
        return CountDecision("before_start", "It happened before the task opened and was published.")
    if occurrence.counted_at >= task.counts_until:
        return CountDecision("after_end", "It happened after the task was over.")
    if at < now - MAX_LATE:
        return CountDecision("too_late", f"It is told more than {MAX_LATE.days} days after it happened.")
    if at > now + MAX_AHEAD:
        return CountDecision("in_the_future", "It has not happened yet.")
    return None


def _distinct(task: Task, occurrence: Occurrence) -> list[str]:
    if task.distinct_by is None:
        return [_short(occurrence.occurrence_id)]
    conditions = [condition for condition in task.filter if condition.field == task.distinct_by]
    found = [
        value
        for value in values_at(occurrence.data, task.distinct_by)
        if all(condition.allows(value) for condition in conditions)
    ]
    return list(dict.fromkeys(_short(str(value)) for value in found))[:MAX_VALUES]


def values_at(data: object, path: str) -> list[object]:
    """Return what is at `path`: nothing, one value, or those in all elements of a list."""
    found = [data]
    for name in path.split("."):
        found = [inner for one in found for inner in _members(_member(one, name))]
    return [one for one in found if isinstance(one, str | int)]


def _member(holder: object, name: str) -> object:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _members(value: object) -> Sequence[object]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _short(text: str) -> str:
    # "#" begins no id and no SKU. What Postgres could not hold (NUL, half a character) would stop all counting.
    if len(text) <= MAX_VALUE_CHARACTERS and text.isprintable() and not text.startswith("#"):
        return text
    return "#" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


# --- taking back ------------------------------------------------------------------------------------------------------


def _undo_key(task: Task, occurrence: Occurrence) -> str | None:
    event = countable(task.event_type)
    assert event is not None
    undone_by, key = event.facts.undone_by, event.facts.key
    assert key is not None, "a draft that undoes what nothing takes back is refused"
    named = values_at(occurrence.data, key)
    return f"{task.undo_on_refund}:{undone_by}:{_short(str(named[0]))}" if named else None


def order_keys(order_id: str) -> list[str]:
    """Return all keys that rows of what counted of an order may have. What has `no` is taken back by no refund."""
    return [f"{mode}:shop.order_refunded:{_short(order_id)}" for mode in ("no", "any", "whole")]


def undo_keys(type_: str, data: object) -> list[str]:
    """Return what an event takes back; nothing if it takes nothing back."""
    field = undoers().get(type_)
    if field is None:
        return []
    named = values_at(data, field)
    # What says nothing of being whole, is.
    modes = ("any", "whole") if values_at(data, "is_whole") != [False] else ("any",)
    return [f"{mode}:{type_}:{_short(str(named[0]))}" for mode in modes] if named else []


def occurred_at(event: Event, facts: Facts) -> datetime:
    """Return when something happened: the time of the deed itself, but not after it was heard of."""
    at: datetime = getattr(event, facts.occurred_at)
    return min(at, event.at)


def occurrences_again(event_id: str, told: ShopOrderCorrected, type_: str) -> list[Occurrence]:
    """Return what a correction says of one of the events that it is about, as if it were told now."""
    event = countable(type_)
    if type_ not in CORRECTABLE or event is None or getattr(told, event.facts.occurred_at) is None:
        return []
    at = occurred_at(told, event.facts)
    return [Occurrence(occurrence_id=event_id, user_id=told.user_id, type=type_, at=at, counted_at=at, data=told)]


def user_ids_of(event: Event, facts: Facts) -> list[str]:
    """Return the shoppers for whom an event counts."""
    named = None if facts.counts_for is None else getattr(event, facts.counts_for)
    # Two who were merged are one; nobody is rewarded who was erased.
    told = dict.fromkeys(user_id for user_id in _members(named) if isinstance(user_id, str))
    return [user_id for user_id in told if not is_alias(user_id)]


# --- rewards ----------------------------------------------------------------------------------------------------------


def grant_keys(grant_id: str, attempt: int, rewards: int) -> list[str]:
    """Return the key of each reward of one attempt. They name no shopper."""
    return [f"task:{grant_id}:{attempt}:{place}" for place in range(rewards)]


def done_before(task_id: str, period_on: date) -> str:
    """Return how it is remembered of an erased shopper that a task was done, in a period."""
    return f"task:{task_id}" if period_on == ONCE else f"task:{task_id}:{period_on}"


def united(ours: CountedProgress, theirs: CountedProgress) -> CountedProgress:
    """Return the row that stays where two ids become one: the one with a reward, and what the other gave beside it."""
    loser, stays = sorted((theirs, ours), key=lambda one: ("open", "done", "rewarded").index(one.state))
    given = loser.given if loser.state == "rewarded" else []
    return replace(stays, kept=sorted({*ours.kept, *theirs.kept}), others=[*stays.others, *given])


def surplus(standing: CountedProgress, count: int) -> list[TaskGiven]:
    """Return what was given besides, and is more than what counts still bears."""
    return standing.others[max(0, standing.done // count - 1) :]
