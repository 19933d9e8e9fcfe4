"""What tasks add to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.mechanics.task import admin, periodic, person, routes
from growth.mechanics.task.board import TaskBoard
from growth.mechanics.task.model import TASKS
from growth.mechanics.task.progress.service import TaskProjection, activity_types, outbox_types
from growth.mechanics.task.service import Tasks
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.work.periodic import PeriodicTask
from growth.shopper.activity.model import LOG


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of tasks."""
    tasks = Tasks(stores.database, TaskBoard(stores.database), stores.zone, stores.audiences)
    projection = TaskProjection(stores.zone, stores.audiences)
    return Room(
        name="task",
        services=[tasks],
        gives={"tasks": tasks},
        campaigns=[TASKS],
        routers=[routes.router, admin.router],
        tasks=[
            PeriodicTask("task.end_closed_tasks", 2, periodic.end_closed_tasks, periodic.END_BATCH),
            PeriodicTask("task.forget_old", 600, periodic.forget_old, periodic.FORGET_BATCH),
        ],
        subscriptions=[
            Subscription("task.count_outbox", outbox_types(), projection.from_outbox),
            Subscription("task.count_activities", activity_types(), projection.from_activities, LOG),
        ],
        persons={"task": Person(export=person.export, erase=person.erase, merge=person.merge, had=person.had)},
    )
