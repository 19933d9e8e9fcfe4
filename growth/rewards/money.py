"""Money as a reward takes an admin: editors run campaigns, and none of them prints money."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from growth.plumbing.audit import Act
from growth.plumbing.operators import ROLE_TOO_LOW
from growth.vocabulary.actors import Role
from growth.vocabulary.refusals import Refusal
from growth.vocabulary.rewards import CommissionReward


def gives_money(value: Any) -> bool:
    """Say whether a campaign has money among its rewards, wherever they stand in it."""
    if isinstance(value, CommissionReward):
        return True
    if isinstance(value, Struct):
        return any(gives_money(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, Mapping):
        return any(map(gives_money, value.values()))
    return isinstance(value, list | tuple) and any(map(gives_money, value))


def require_admin_for_money(act: Act, *campaigns: object) -> None:
    """Refuse an editor who lets a campaign give money, or changes one that does.

    Asked when a campaign is published, goes on, or is changed once it was published, of how it was and how it will be:
    also the rules by which an admin's money is given are the admin's. To draft one, to pause and to end it is free.
    Raises `Refusal` 403 `auth.role_too_low`.
    """
    if act.operator.role < Role.ADMIN and any(map(gives_money, campaigns)):
        raise Refusal(
            ROLE_TOO_LOW,
            "A reward is money (commission): that takes an admin.",
            needed=Role.ADMIN.name.lower(),
            role=act.operator.role.name.lower(),
        )
