"""What the ledger adds to the house."""

from growth.kit.room import Person, Room, Rooms, Stores
from growth.plumbing.work.periodic import PeriodicTask
from growth.rewards.ledger import admin, person, routes
from growth.rewards.ledger.service import FOLD_BATCH, Ledger
from growth.rewards.ledger.spending.service import Spending
from growth.shop.order.model import PointsDesk


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of points, money and cards."""
    ledger = Ledger(stores.database, stores.replica, stores.settings.zone)
    return Room(
        name="ledger",
        services=[ledger],
        gives={"ledger": ledger},
        routers=[routes.router, admin.router],
        tasks=[
            # Any due shopper, and the next batch follows at once: batches are bounded by lots.
            PeriodicTask("ledger.expire_points", 60, ledger.expire_due, 1),
            PeriodicTask("ledger.fold_house", 5, ledger.fold_house, FOLD_BATCH),
        ],
        persons={"ledger": Person(export=person.export, erase=person.erase, merge=person.merge)},
        declares=[(PointsDesk, Spending())],
    )
