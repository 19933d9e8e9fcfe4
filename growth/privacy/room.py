"""What privacy adds to the house."""

from growth.kit.room import Room, Rooms, Stores
from growth.plumbing.person.erasure import Erasures
from growth.plumbing.work.periodic import PeriodicTask
from growth.privacy import admin
from growth.privacy.service import Shoppers


def room(stores: Stores, below: Rooms) -> Room:
    """Make the room of what is exported, erased and merged in all rooms below at once."""
    persons = below.persons()
    shoppers = Shoppers(stores.database, stores.settings.erased_memory_days, persons)
    erasures = Erasures(stores.database, [swept for other in below for swept in other.swept])
    return Room(
        name="privacy",
        services=[shoppers, erasures],
        gives={"shoppers": shoppers},
        routers=[admin.router_of([kind for one in persons.values() for kind in one.refuses])],
        tasks=[PeriodicTask("erasure.sweep", 10, erasures.sweep, 1)],
    )
