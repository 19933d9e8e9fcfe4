"""Events of tasks."""

from datetime import date, datetime

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Facts
from growth.vocabulary.rewards import Reward


class TaskEvent(Event, frozen=True, kw_only=True):
    """Base of what happens around one task."""

    task_id: str

    @property
    def subject(self) -> str:
        """The task."""
        return self.task_id


class TaskPublished(TaskEvent, frozen=True, kw_only=True, tag="task.published"):
    """A task became visible to shoppers."""

    opens_at: datetime
    closes_at: datetime


class TaskPaused(TaskEvent, frozen=True, kw_only=True, tag="task.paused"):
    """An operator stopped counting for now."""


class TaskResumed(TaskEvent, frozen=True, kw_only=True, tag="task.resumed"):
    """An operator let counting go on."""


class TaskEnded(TaskEvent, frozen=True, kw_only=True, tag="task.ended"):
    """The window closed, or an operator ended the task early. What happened before still counts when it is heard of."""


class TaskProgressEvent(TaskEvent, frozen=True, kw_only=True):
    """Base of what happens to one shopper's progress in one period."""

    user_id: str
    period_on: date
    """The first day of the period in the merchant's zone; 1970-01-01 for a task that is done once."""


class TaskCompleted(TaskProgressEvent, frozen=True, kw_only=True, tag="task.completed"):
    """A shopper did what a task asks for. Again after it was undone."""

    facts = Facts(counts_for=None, visit="task")

    granted: list[Reward]
    """What was given; less than the task promises, or nothing, where a budget was spent."""


class TaskUndone(TaskProgressEvent, frozen=True, kw_only=True, tag="task.undone"):
    """A refund took back what had completed a task; the reward was taken back."""
