"""Asks whose an id is that a hook names, and holds it to that; keeps how shoppers registered, and says who is new."""

from collections.abc import Sequence
from datetime import datetime

from growth.kit.campaign.audience import Asked
from growth.plumbing.outbox import outbox
from growth.plumbing.person.memory import People, PersonChanged, Reads
from growth.plumbing.postgres.database import Reader, Tx
from growth.shop.order.buyer.model import Whose
from growth.shop.order.hooks import RegisteredData
from growth.shop.order.model import ALREADY_KNOWN, APPLIED, BOUGHT, Answer
from growth.shop.order.store import orders
from growth.shop.order.store import registrations as shoppers
from growth.vocabulary.events.shop import ShopRegistrationCorrected, ShopShopperRegistered


async def whose(people: People, reads: Reads, user_id: str | None) -> Whose:
    """Return who `user_id` is. It asks Postgres for those only that ever changed hands, as far as is known here."""
    if user_id is None or not await people.ever_changed(reads, user_id):
        return Whose(user_id)
    return Whose(user_id, (await people.standings(reads, [user_id])).get(user_id))


async def hold(tx: Tx, known: Whose) -> None:
    """Look again, now that nobody changes hands. Raises `PersonChanged` where the id is another's by now."""
    if known.named is not None and await whose(tx.people, tx, known.named) != known:
        raise PersonChanged([known.named, *known.people])


async def are_newcomers(reader: Reader, asked: Sequence[Asked]) -> list[bool]:
    """Say of each, for audiences, who had not bought before the instant asked about, by time of payment; or by now."""
    user_ids = sorted({one.user_id for one in asked})
    bought_at = await orders.buyers(reader, user_ids, "")
    had = await reader.people.had(reader, user_ids, BOUGHT)

    def is_newcomer(one: Asked) -> bool:
        at = bought_at.get(one.user_id)
        # The order that is asked about is not bought before itself.
        return one.user_id not in had and (at is None or (one.at is not None and one.at <= at))

    return [is_newcomer(one) for one in asked]


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
