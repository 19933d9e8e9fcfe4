"""What retention adds to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.listeners.retention import person
from growth.listeners.retention.report import admin
from growth.listeners.retention.report.service import Reports
from growth.listeners.retention.service import MAX_ACTIVITIES_AT_ONCE, RetentionProjection
from growth.plumbing.outbox.outbox import Subscription
from growth.shopper.activity.model import LOG


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of retention."""
    projection = RetentionProjection(stores.settings.zone)
    reports = Reports(stores.replica, stores.settings.zone)
    return Room(
        name="retention",
        services=[reports, projection],
        gives={"reports": reports},
        routers=[admin.router],
        subscriptions=[
            Subscription("retention.outbox", projection.listens_to, projection.hear),
            Subscription("retention.activities", None, projection.follow, LOG, max_events=MAX_ACTIVITIES_AT_ONCE),
        ],
        persons={"retention": Person(export=person.export, erase=person.erase, merge=person.merge)},
    )
