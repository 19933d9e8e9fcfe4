"""Takes in when and from where a shopper registered with the shop."""

from datetime import datetime

from growth.plumbing.outbox import outbox
from growth.plumbing.postgres.database import Tx
from growth.shop.order.hooks import RegisteredData
from growth.shop.order.model import ALREADY_KNOWN, APPLIED, Answer
from growth.shop.order.store import registrations as shoppers
from growth.vocabulary.events.shop import ShopRegistrationCorrected, ShopShopperRegistered


async def register(tx: Tx, data: RegisteredData, now: datetime) -> Answer:
    """Keep when a shopper registered, the earliest time told, and tell of what is new."""
    if await shoppers.register(tx, data):
        event = ShopShopperRegistered(
            at=now, user_id=data.user_id, registered_at=data.registered_at, source=data.source
        )
        await outbox.emit(tx, event)
        return APPLIED
    was_registered_at = await shoppers.reregister(tx, data)
    if was_registered_at is None:
        return ALREADY_KNOWN
    # Whoever decided on what was told before decides again.
    corrected = ShopRegistrationCorrected(
        at=now,
        user_id=data.user_id,
        registered_at=data.registered_at,
        source=data.source,
        was_registered_at=was_registered_at,
    )
    await outbox.emit(tx, corrected)
    return APPLIED
