"""What the room knows of one shopper: told, erased, merged."""

from datetime import datetime

import msgspec
from msgspec import Struct

from growth.mechanics.group_buy.store import person as store
from growth.plumbing.postgres.database import Reader, Tx
from growth.vocabulary.refusals import Kind, Refusal

MAX_TOLD = 100
NOBODY = "*"
"""What others see of an erased member."""

BUSY = Kind("group_buy.shopper_busy", "The shopper has a seat in a team that is not over, or a refund to come.")


class SeatKnown(Struct, frozen=True, kw_only=True):
    """One seat."""

    seat_id: str
    team_id: str
    group_buy_id: str
    sku: str
    price_fen: int
    state: str
    held_at: datetime
    order_id: str | None
    paid_at: datetime | None
    ended_at: datetime | None


class GroupBuysKnown(Struct, frozen=True):
    """What a shopper has and had in group buys."""

    seats: list[SeatKnown]
    """The newest 100."""


async def export(reader: Reader, user_id: str) -> GroupBuysKnown:
    """Return what is known of the shopper."""
    seats = await store.seats(reader, user_id, MAX_TOLD)
    return GroupBuysKnown([msgspec.convert(dict(row), SeatKnown) for row in seats])


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Leave seats under the alias, for the counts of their teams.

    Raises `Refusal` `group_buy.shopper_busy` while a team of the shopper is not over, or a refund is due.
    """
    if await store.is_busy(tx, user_id):
        raise Refusal(BUSY)
    await store.rename(tx, user_id, alias, NOBODY)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:  # noqa: ARG001 - asked of every room
    """Make the old id's seats the new one's. Who bought under both ids in one campaign keeps both.

    Raises `Refusal` `group_buy.shopper_busy` while a team of the old id is not over, or a refund is due.
    """
    if await store.is_busy(tx, old_user_id):
        raise Refusal(BUSY)
    await store.rename(tx, old_user_id, user_id, None)
