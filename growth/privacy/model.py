"""What is told of a shopper, and what may not be asked."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from growth.vocabulary.ids import ShopperId
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Reason

SAME = Kind("shopper.same", "An id cannot be merged into itself.")
MERGED = Kind("shopper.merged", "This id was merged into another.")


class ShopperKnown(Struct, frozen=True):
    """All that is known of a shopper, room by room."""

    user_id: str
    rooms: dict[str, Any]


class ShopperErased(Struct, frozen=True):
    """What stands in the shopper's place now, where something had to stay."""

    alias: str
    remembered_until: datetime | None
    """Until then a hash of the id is kept, which leads to nothing: should the id come back, it gets nothing a second
    time that is given once. Null if that is switched off."""


class MergeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The id that stays, and why the two are one person; kept in the audit."""

    into: ShopperId
    reason: Reason


class ShopperMerged(Struct, frozen=True):
    """The id that stays."""

    user_id: str
