"""Who acts: shoppers, operators, the shop's order system, and the service's own worker."""

from enum import IntEnum

from msgspec import Struct


class Shopper(Struct, frozen=True):
    """A shopper, as told by a verified token."""

    user_id: str
    """Who the shopper is now."""
    expires_at: int
    """When the token ends, seconds since 1970."""
    former_id: str | None = None
    """The id that the token names, where that was merged into `user_id`."""
    key: int = 0
    """What the memory of ids that changed hands knows the token's id by."""

    @property
    def token_id(self) -> str:
        """The id that the token names: what a re-sent request was first asked under."""
        return self.former_id or self.user_id


class Role(IntEnum):
    """What an operator may do; each role may do what those below may."""

    VIEWER = 1
    """Reads everything but accounts, devices, addresses and what is secret in URLs."""
    EDITOR = 2
    """Also makes and runs campaigns, which give no money."""
    ADMIN = 3
    """Also moves money, sees whom it goes to, and erases shoppers."""


class Operator(Struct, frozen=True):
    """A person or program that runs campaigns."""

    name: str
    role: Role
