"""What privacy adds to the house."""

from growth.kit.room import Room, Rooms, Stores
from growth.plumbing.person.erasure import Erasures
from growth.plumbing.work.periodic import PeriodicTask
from growth.privacy import admin
from growth.privacy.service import Shoppers


def room(stores: Stores, below: Rooms) -> Room:
    """Make the room of what is known, erased and merged in all rooms at once."""
    shoppers = Shoppers(stores.database, stores.settings.erased_memory_days, {})
    erasures = Erasures(stores.database, [swept for other in below for swept in other.swept])
    return Room(
        name="privacy",
        services=[shoppers, erasures],
        gives={"shoppers": shoppers},
        routers=[admin.router],
        tasks=[PeriodicTask("erasure.sweep", 10, erasures.sweep, 1)],
        joined=lambda rooms: shoppers.join(rooms.persons()),
    )
