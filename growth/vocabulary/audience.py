"""Whom a campaign is for: one tagged union of conditions, the same in every campaign.

A condition is added here, and the room that keeps its facts declares an `AudienceKeeper`: no mechanic is edited.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from growth.vocabulary.ids import ShopperId
from growth.vocabulary.refusals import Kind

MAX_CONDITIONS = 5
MAX_LISTED = 1_000
"""Shoppers in one list: it is read with the campaign."""

NOT_IN_AUDIENCE = Kind("campaign.not_in_audience", "This is for other shoppers.")
"""One for all kinds of campaign; its member `condition` names the type that the shopper does not meet."""

AudienceType = Literal["newcomers", "list"]


class _Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of all conditions."""


class Newcomers(_Condition, frozen=True, tag="newcomers"):
    """Shoppers who have never bought: each order wholly paid back, or of nothing, aside."""


class Listed(_Condition, frozen=True, kw_only=True, tag="list"):
    """Shoppers whom an operator names. An id that is merged counts for its survivor, an erased one for nobody."""

    # Nobody else can read what it asks for, and meet it: no price should depend on it.
    IS_CHOSEN: ClassVar[bool] = True

    user_ids: Annotated[list[ShopperId], Meta(max_length=MAX_LISTED)]
    """Nobody, if empty."""


Condition = Newcomers | Listed
Audience = Annotated[list[Condition], Meta(max_length=MAX_CONDITIONS)]


def types_of(audience: Sequence[Condition]) -> list[AudienceType]:
    """Return what a campaign asks for, as shoppers may know it."""
    types: list[AudienceType] = [one.__struct_config__.tag for one in audience]  # type: ignore[misc]
    return list(dict.fromkeys(types))


def is_chosen(audience: Sequence[Condition]) -> bool:
    """Say whether somebody chose for whom a campaign is, by terms that nobody else can read and meet."""
    return any(getattr(one, "IS_CHOSEN", False) for one in audience)
