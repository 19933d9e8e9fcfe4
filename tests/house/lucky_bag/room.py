"""What lucky bags add to the house."""

from growth.kit.campaign.service import end_over
from growth.kit.room import Person, Room, Rooms, Stores
from growth.plumbing.postgres.database import Tx
from growth.plumbing.work.periodic import PeriodicTask, Turn
from tests.house.lucky_bag import routes, store
from tests.house.lucky_bag.model import LUCKY_BAGS
from tests.house.lucky_bag.service import LuckyBags

END_BATCH = 100


def room(stores: Stores, below: Rooms) -> Room:
    """Make the room of lucky bags."""
    lucky_bags = LuckyBags(stores.database)
    return Room(
        name="lucky_bag",
        services=[lucky_bags],
        gives={"lucky_bags": lucky_bags},
        routers=[routes.router, routes.admin_router],
        tasks=[PeriodicTask("lucky_bag.end_over", 5, _end_over, END_BATCH)],
        persons={"lucky_bag": Person(export=store.opened_by, erase=store.rename, merge=_merge)},
    )


async def _end_over(turn: Turn) -> int:
    async with turn.transaction() as tx:
        return await end_over(tx, LUCKY_BAGS, turn.now, turn.now, END_BATCH)


async def _merge(tx: Tx, old_user_id: str, user_id: str, _now: object) -> None:
    await store.rename(tx, old_user_id, user_id)
