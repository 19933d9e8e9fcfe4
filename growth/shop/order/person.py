"""What the room knows of one shopper: told, erased, merged."""

from datetime import datetime

import msgspec
from msgspec import Struct

from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Reader, Tx
from growth.shop.order.buyer import store
from growth.shop.order.fact.service import corrected_firsts
from growth.shop.order.model import BOUGHT
from growth.shop.order.service import has_bought
from growth.shop.order.store import orders as orders_store
from growth.shop.order.store import registrations

MAX_TOLD = 100


class OrderKnown(Struct, frozen=True, kw_only=True):
    """One paid order."""

    order_id: str
    paid_at: datetime
    paid_fen: int
    received_at: datetime | None


class ShopKnown(Struct, frozen=True, kw_only=True):
    """What the shop told of a shopper."""

    registered_at: datetime | None
    source: str | None
    device_id: str | None
    address: str | None
    orders: list[OrderKnown]
    """The newest 100 that were paid."""


async def export(reader: Reader, user_id: str) -> ShopKnown:
    """Return what the shop told of the shopper."""
    told = (await registrations.registration(reader, [user_id])).get(user_id)
    orders = await store.orders(reader, user_id, MAX_TOLD)
    return ShopKnown(
        registered_at=told.registered_at if told else None,
        source=told.source if told else None,
        device_id=told.device_id if told else None,
        address=told.address if told else None,
        orders=[msgspec.convert(dict(order), OrderKnown) for order in orders],
    )


async def had(reader: Reader, user_id: str) -> list[str]:
    """Return what the shopper had of what happens once: a first order."""
    return [BOUGHT] if await has_bought(reader, [user_id]) else []


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Leave orders under the alias, since money hangs on them; forget the registration with device and address."""
    await store.rename(tx, user_id, alias)
    await store.forget(tx, user_id)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make the old id's orders the new one's, and of two registrations keep the earlier.

    Of two first orders the earlier counts; the other is none any more, which is news.
    """
    lost = await _no_first_orders(tx, old_user_id, user_id)
    await store.rename(tx, old_user_id, user_id)
    await emit(tx, *await corrected_firsts(tx, user_id, lost, now, are_first=False))
    await store.pass_on(tx, old_user_id, user_id)


async def _no_first_orders(tx: Tx, old_user_id: str, user_id: str) -> list[str]:
    """Return orders of either id that are its first orders, and are none of both."""
    old, new = [await orders_store.first_bought(tx, one, "") for one in (old_user_id, user_id)]
    if old is not None and (new is None or old < new):
        return await orders_store.paid_between(tx, user_id, old, new)
    return [] if new is None else await orders_store.paid_between(tx, old_user_id, new, old)
