"""What the room knows of one shopper: told, erased, merged.

Redis follows the commit: `Loader.rename_shopper` empties it of the former id, and the reconciler sees to it if that was
not heard.
"""

from datetime import datetime

import msgspec
from msgspec import Struct

from growth.mechanics.flash_sale.store import person as store
from growth.plumbing.postgres.database import Reader, Tx
from growth.vocabulary.refusals import Kind, Refusal

MAX_TOLD = 100

BUSY = Kind("flash_sale.shopper_busy", "The shopper has a stake in a sale that goes on. Try again when it has ended.")


class ClaimKnown(Struct, frozen=True, kw_only=True):
    """One claim."""

    claim_id: str
    sale_id: str
    sku: str
    units: int
    state: str
    held_at: datetime
    order_id: str | None
    paid_at: datetime | None
    ended_at: datetime | None


class FlashSalesKnown(Struct, frozen=True):
    """What a shopper has and had in flash sales."""

    claims: list[ClaimKnown]
    """The newest 100."""
    reminders: list[str]
    """Sales that the shopper waits to be reminded of."""


async def export(reader: Reader, user_id: str) -> FlashSalesKnown:
    """Return what is known of the shopper."""
    claims = await store.claims(reader, user_id, MAX_TOLD)
    return FlashSalesKnown(
        [msgspec.convert(dict(row), ClaimKnown) for row in claims], await store.reminders(reader, user_id, MAX_TOLD)
    )


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Leave claims under the alias, for the counts of their sales; delete the rest.

    Raises `Refusal` `flash_sale.shopper_busy` while the shopper holds units, or has some in a sale that goes on.
    """
    if await store.is_busy(tx, user_id):
        raise Refusal(BUSY)
    await store.rename(tx, user_id, alias)
    await store.forget(tx, user_id)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:  # noqa: ARG001 - asked of every room
    """Make the old id's claims the new one's. Who bought under both ids in one sale keeps both, and may claim no more.

    Raises `Refusal` `flash_sale.shopper_busy` while the old id has a stake in a sale that goes on.
    """
    if await store.is_busy(tx, old_user_id):
        raise Refusal(BUSY)
    await store.rename(tx, old_user_id, user_id)
    await store.pass_on(tx, old_user_id, user_id)
