"""What every event has."""

from datetime import datetime

from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all events. The outbox adds `event_id` and the order in which they were committed."""

    at: datetime
    """When it happened, UTC."""

    @property
    def subject(self) -> str:
        """What it is about: the id that the room's own pages use."""
        raise AssertionError
