"""What every event has."""

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from growth.vocabulary.facts import Facts


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all events. The outbox adds `event_id` and the order in which they were committed."""

    facts: ClassVar[Facts | None] = None
    """What it is to those who count. Without, it is a consequence of something else: no visit, and not countable."""

    at: datetime
    """When it happened, UTC."""

    @property
    def subject(self) -> str:
        """What it is about: the id that the room's own pages use."""
        raise AssertionError


PERSON_MEMBERS = ("user_id", "inviter_id", "invitee_id", "grand_inviter_id", "old_user_id", "buyer_id")
"""Members of events, and of what operators are told, that are a shopper's id."""
PERSON_LISTS = ("user_ids",)
"""Members that are lists of them."""
