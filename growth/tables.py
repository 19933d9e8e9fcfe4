"""TABLES: clock → what runs, event → who reacts. They are read from the rooms, which declare them."""

from collections.abc import Sequence

from growth.bootstrap import Growth
from growth.kit.room import Standing
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.outbox.retry import RETRY_BATCH, Retries
from growth.plumbing.work.periodic import PeriodicTask


def schedule(growth: Growth) -> Sequence[PeriodicTask]:
    """Return what the clock wakes: one leader for each task among all workers."""
    retries = Retries(growth.database, reactions(growth))
    return [
        *(task for room in growth.rooms for task in room.tasks),
        PeriodicTask("outbox.retry", 5, retries.retry_due, RETRY_BATCH),
    ]


def reactions(growth: Growth) -> Sequence[Subscription]:
    """Return who reacts to events: each reads with a cursor of its own and handles every event exactly once."""
    return [subscription for room in growth.rooms for subscription in room.subscriptions]


def standing(growth: Growth) -> Sequence[Standing]:
    """Return what each worker does all the time."""
    return [one for room in growth.rooms for one in room.worker_standing]
