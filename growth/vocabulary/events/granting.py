"""Events of rewards given and taken back."""

from growth.vocabulary.events.base import Event
from growth.vocabulary.rewards import Reward


class GrantingEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one reward."""

    grant_id: str
    user_id: str
    reward: Reward
    reason: str
    """A code, `room.what`: what it was given, or taken back, for."""

    @property
    def subject(self) -> str:
        """The shopper."""
        return self.user_id


class GrantingGranted(GrantingEvent, frozen=True, kw_only=True, tag="granting.granted"):
    """A shopper was given a reward. Once for each."""


class GrantingRevoked(GrantingEvent, frozen=True, kw_only=True, tag="granting.revoked"):
    """A reward was taken back, or the part of it that is told; points that were spent by then are owed."""
