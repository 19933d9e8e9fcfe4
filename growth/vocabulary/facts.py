"""What events say of themselves to those who count them: whose deed one is, which step, and what takes it back."""

from enum import IntEnum, StrEnum

from msgspec import Struct


class Deed(StrEnum):
    """What somebody must do for the reward."""

    SHARE = "share"
    """Send a card, picture or link; nothing else has to happen."""
    OPEN = "open"
    """Open an app or a page; also: be bound to an inviter by having opened it."""
    FOLLOW = "follow"
    """Follow an account, or subscribe to its messages."""
    REGISTER = "register"
    """Sign up."""
    PURCHASE = "purchase"
    """Pay for an order."""
    OTHER = "other"
    """Anything else that takes part in something: look at products, check in, complete a team."""


class FunnelStage(IntEnum):
    """A step of a funnel. Retention keeps the numbers."""

    VIEWED = 0
    CLAIMED = 1
    PAID = 2
    INVITED = 3
    BOUGHT = 4


class Facts(Struct, frozen=True, kw_only=True):
    """What an event is, beside what it tells. One without facts is a consequence: no visit, and no task counts it.

    Those that derive from an event have its facts, unless they say their own.
    """

    by: str = "user_id"
    """The member that names who did it."""
    counts_for: str | None = "user_id"
    """The member that names for whom a task counts it, or a list of them; None where no task does."""
    visit: str | None = None
    """By what the shopper who did it was active, as retention calls it. None: it was done to the shopper, no visit."""
    only: str | None = None
    """It is a visit only with this `reason` or `source`."""
    step: FunnelStage | None = None
    """Which step of a funnel the visit is."""
    step_if: str | None = None
    """The flag without which it is not that step."""
    does: Deed = Deed.OTHER
    """What the rules of platforms take it for, where a task rewards it."""
    occurred_at: str = "at"
    """The member with the time of the deed itself, where `at` is when it was heard of."""
    undone_by: str | None = None
    """The type of the event that takes it back."""
    key: str | None = None
    """The member that both have, and that says which is taken back."""
