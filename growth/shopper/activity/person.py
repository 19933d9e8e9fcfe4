"""What the room knows of one shopper: told, erased, merged.

A shopper may have more activities than one transaction should touch: the first batch goes in the caller's transaction,
the schedule takes the rest.
"""

from datetime import datetime

from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Tx
from growth.shopper.activity import store
from growth.shopper.activity.model import Activity, Departure

MAX_TOLD = 100
DEPART_BATCH = 5_000
"""Activities erased or moved in one transaction."""


class ShopperActivities(Struct, frozen=True):
    """What a shopper did, as far as it is kept."""

    activities: list[Activity]
    """The newest `MAX_TOLD`."""


async def export(reader: Reader, user_id: str) -> ShopperActivities:
    """Return what is kept of the shopper."""
    return ShopperActivities(await store.newest(reader, user_id, MAX_TOLD))


async def erase(tx: Tx, user_id: str, alias: str) -> None:  # noqa: ARG001 - nothing needs to stay under an alias
    """Delete the shopper's activities, read by everybody or not."""
    await _depart(tx, Departure(user_id, None))


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:  # noqa: ARG001 - asked of every room
    """Make the old id's activities the new one's; what both have under one name counts once."""
    if old_user_id != user_id:
        await _depart(tx, Departure(old_user_id, user_id))


async def _depart(tx: Tx, departure: Departure) -> None:
    await store.ask_departure(tx, departure)
    await go_on(tx, departure)


async def go_on(tx: Tx, departure: Departure) -> None:
    """Take one batch away; note when it was the last."""
    if await store.depart(tx, departure, DEPART_BATCH) < DEPART_BATCH:
        await store.end_departure(tx, departure.user_id)
