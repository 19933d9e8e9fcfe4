"""What the room knows of one shopper: coupons, and how many were taken of what."""

from datetime import datetime

from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.coupon.model import Coupon
from growth.rewards.coupon.store import listing as store
from growth.rewards.coupon.take.model import taken_of, taken_on

MAX_TOLD = 1_000
"""Coupons, the newest; and templates of which some were taken."""


class Taking(Struct, frozen=True):
    """How many a shopper took of one template, by hand and by code."""

    template_id: str
    taken: int


class ToldCoupons(Struct, frozen=True):
    """All that the room knows of one shopper, up to a bound."""

    coupons: list[Coupon]
    takings: list[Taking]


async def export(reader: Reader, user_id: str) -> ToldCoupons:
    """Return what is known of a shopper."""
    coupons = await store.coupons_of_shopper(reader, user_id, MAX_TOLD)
    takings = await store.takings_of_shopper(reader, user_id, MAX_TOLD)
    return ToldCoupons(coupons, [Taking(template_id, taken) for template_id, taken in takings])


async def had(reader: Reader, user_id: str) -> list[str]:
    """Return what the shopper took of templates that are not over, coupon by coupon: it counts against their limits."""
    told: list[str] = []
    for template_id, taken, day, taken_on_day in await store.takings_remembered(reader, user_id):
        told += [taken_of(template_id)] * taken + [taken_on(template_id, day)] * taken_on_day
    return told


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Put `alias` in place of the shopper: what was given stays counted, by nobody's name.

    What is still unused stays as it is, out of anybody's reach, until it expires.
    """
    await store.rename_shopper(tx, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:  # noqa: ARG001 - nothing has a time
    """Make the old id's coupons the new one's; what both took counts together, so nobody gets a limit twice."""
    await store.rename_shopper(tx, old_user_id, user_id)
