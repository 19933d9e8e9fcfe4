"""What the room knows of one shopper: told, erased, merged."""

from datetime import datetime

from msgspec import Struct

from growth.plumbing.person.owned import rename
from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.granting import store
from growth.rewards.granting.model import GrantRecord

MAX_TOLD = 100


class GrantsKnown(Struct, frozen=True):
    """What a shopper was given."""

    grants: list[GrantRecord]
    """The newest 100."""


async def export(reader: Reader, user_id: str) -> GrantsKnown:
    """Return what the shopper was given, and for what."""
    return GrantsKnown(await store.page(reader, user_id, None, MAX_TOLD))


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Leave grants under the alias; keys and subjects, which may name the shopper, become the grants' own ids."""
    await store.forget_names(tx, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:  # noqa: ARG001 - asked of every room
    """Make the old id's grants the new one's. Keys are told nowhere, but may name the old id: those stay unique."""
    await rename(tx, store.OWNED, old_user_id, user_id)
