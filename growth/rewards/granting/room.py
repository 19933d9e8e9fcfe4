"""What granting adds to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.rewards.granting import admin, person
from growth.rewards.granting.service import Granting


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the one door through which rewards are given."""
    granting = Granting(stores.database)
    return Room(
        name="granting",
        services=[granting],
        gives={"granting": granting},
        routers=[admin.router],
        persons={"granting": Person(export=person.export, erase=person.erase, merge=person.merge)},
    )
