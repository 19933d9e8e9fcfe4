"""What packs for new shoppers add to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.plumbing.outbox.outbox import Subscription
from growth.rewards.pack import admin, person
from growth.rewards.pack.service import LISTENS_TO, Packs


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of packs."""
    packs = Packs(stores.database, stores.zone)
    return Room(
        name="pack",
        services=[packs],
        gives={"packs": packs},
        routers=[admin.router],
        subscriptions=[Subscription("pack.give", LISTENS_TO, packs.give)],
        persons={"pack": Person(export=person.export, erase=person.erase, merge=person.merge, had=person.had)},
    )
