"""Events of lucky bags. A real room has them in `growth/vocabulary/events/`."""

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Facts


class LuckyBagEvent(Event, frozen=True, kw_only=True):
    """Base of what happens around one campaign."""

    lucky_bag_id: str

    @property
    def subject(self) -> str:
        """The campaign."""
        return self.lucky_bag_id


class LuckyBagPublished(LuckyBagEvent, frozen=True, kw_only=True, tag="lucky_bag.published"):
    """A campaign became visible to shoppers."""


class LuckyBagEnded(LuckyBagEvent, frozen=True, kw_only=True, tag="lucky_bag.ended"):
    """Its time was over, or an operator ended it early."""


class LuckyBagOpened(LuckyBagEvent, frozen=True, kw_only=True, tag="lucky_bag.opened"):
    """A shopper opened a bag, and has the points."""

    facts = Facts(visit="task")
    user_id: str
    points: int
