"""What the log of activities adds to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.plumbing.http.limits import Limiter
from growth.plumbing.work.periodic import PeriodicTask
from growth.shop.order.model import ActivityListener
from growth.shopper.activity import person, routes
from growth.shopper.activity.model import MAX_EVENTS
from growth.shopper.activity.periodic import EventsKeeper
from growth.shopper.activity.service import Events
from growth.shopper.activity.short_cut import short_cuts
from growth.vocabulary.clock import now

SECONDS_A_MINUTE = 60


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of what shoppers do."""
    a_minute = stores.settings.shopper_events_per_minute
    limiter = Limiter(stores.redis, "events", per_second=a_minute / SECONDS_A_MINUTE, burst=max(MAX_EVENTS, a_minute))
    events = Events(stores.database, limiter)
    keeper = EventsKeeper(stores.database, stores.settings.events_keep_days)
    return Room(
        name="events",
        services=[events],
        gives_after_shopper={"events": events},
        routers=[routes.router],
        short_cuts=short_cuts(events, now),
        tasks=[
            PeriodicTask("events.prepare", 3600, keeper.prepare),
            PeriodicTask("events.prune", 600, keeper.prune),
            # Any shopper on their way out, and the next batch follows at once.
            PeriodicTask("events.depart", 5, keeper.depart, 1),
        ],
        persons={"events": Person(export=person.export, erase=person.erase, merge=person.merge)},
        declares=[(ActivityListener, events)],
        drain=[events.drain],
    )
