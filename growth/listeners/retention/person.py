"""What the room knows of one shopper: told, erased, merged."""

from datetime import date, datetime

from msgspec import Struct

from growth.listeners.retention import model, service, store
from growth.listeners.retention.model import ShopperFacts
from growth.listeners.retention.source import store as sources
from growth.plumbing.postgres.database import Reader, Tx
from growth.vocabulary.alike import alike

MAX_DAYS_TOLD = 100


class ActiveDay(Struct, frozen=True):
    """A day on which the shopper was active."""

    day: date
    by: list[str]
    """What was done: `app`, `product`, `share`, `order`, `registration`, `shop`, or a mechanic."""


class RetentionOfShopper(Struct, frozen=True, kw_only=True):
    """What is known of when a shopper came."""

    first_day: date
    last_day: date
    days: int
    """Days with activity, in all."""
    source: str | None
    """Empty if none was told; null for one that too few came from to be counted by itself."""
    first_mechanic: str
    inviter: str | None
    viewed_at: datetime | None
    claimed_at: datetime | None
    paid_at: datetime | None
    invited_at: datetime | None
    bound_at: datetime | None
    bought_at: datetime | None
    active_days: list[ActiveDay]
    """The last `MAX_DAYS_TOLD`, newest first."""


async def export(reader: Reader, user_id: str) -> RetentionOfShopper | None:
    """Return all that is known; None of somebody who was never seen."""
    facts = await _facts(reader, user_id)
    if facts is None:
        return None
    shopper = facts.shopper
    newest = sorted(facts.days.items(), reverse=True)[:MAX_DAYS_TOLD]
    return alike(
        RetentionOfShopper,
        shopper,
        first_day=model.to_date(shopper.first_day),
        last_day=model.to_date(shopper.last_day),
        days=len(facts.days),
        source=await sources.source_name(reader, shopper.source),
        first_mechanic=model.MECHANICS[shopper.mechanic],
        active_days=[ActiveDay(model.to_date(day), model.kinds_in(kinds)) for day, kinds in newest],
    )


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Put `alias` in the place of the id. The shopper stays counted: an erasure changes no number.

    What comes under the id later is somebody new.
    """
    await store.lock(tx)
    ((now_id, _),) = (await store.find(tx, [user_id])).values()
    await store.rename(tx, now_id, alias)
    await store.forget_former_ids(tx, now_id)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:  # noqa: ARG001 - as in every room
    """Make two shoppers one, see `service.merge`."""
    await service.merge(tx, old_user_id, user_id)


async def _facts(reader: Reader, user_id: str) -> ShopperFacts | None:
    ((_, shopper),) = (await store.find(reader, [user_id])).values()
    if shopper is None:
        return None
    return (await store.facts_of(reader, [shopper]))[shopper.shopper_id]
