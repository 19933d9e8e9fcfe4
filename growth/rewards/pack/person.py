"""What the room knows of one shopper: whether the pack was given."""

from datetime import datetime

from msgspec import Struct

from growth.plumbing.person.owned import rename
from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.pack import store
from growth.rewards.pack.model import Recipient
from growth.rewards.pack.service import PACK
from growth.vocabulary.ids import new_alias


class ToldPack(Struct, frozen=True):
    """Whether and when the pack was given."""

    recipient: Recipient | None


async def export(reader: Reader, user_id: str) -> ToldPack:
    """Return what is known of a shopper."""
    return ToldPack(await store.find_recipient(reader, user_id))


async def had(reader: Reader, user_id: str) -> list[str]:
    """Return what the shopper had of what is given once."""
    return [] if await store.find_recipient(reader, user_id) is None else [PACK]


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Put `alias` in place of the shopper: that a pack was given stays counted."""
    await rename(tx, store.OWNED, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:  # noqa: ARG001 - asked of every room
    """Let both ids have one pack: who had one gets no other."""
    await store.merge(tx, old_user_id, user_id, new_alias())
