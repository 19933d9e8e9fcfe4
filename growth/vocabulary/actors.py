"""Who acts: shoppers, operators, the shop's order system, and the service's own worker."""

from enum import IntEnum

from msgspec import Struct


class Shopper(Struct, frozen=True):
    """A shopper, as told by a verified token."""

    user_id: str
    expires_at: int
    """When the token ends, seconds since 1970."""


class Role(IntEnum):
    """What an operator may do; each role may do what those below may."""

    VIEWER = 1
    """Reads everything."""
    EDITOR = 2
    """Also makes and runs campaigns."""
    ADMIN = 3
    """Also moves money and erases shoppers."""


class Operator(Struct, frozen=True):
    """A person or program that runs campaigns."""

    name: str
    role: Role
