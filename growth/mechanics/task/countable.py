"""What a task can count: events that name a shopper, and the fields of their data, with their kinds.

Read off the Structs themselves, so that an event is countable as soon as it is in the vocabulary. Of what clients send
and the shop makes up, only what is written down here.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from growth.plumbing.outbox.outbox import events_below
from growth.rewards.compliance import Deed
from growth.vocabulary.events import Event

CORRECTED = "shop.order_corrected"
"""The type of what says anew what an order is: what counted of the order is decided again."""
CORRECTABLE = ("shop.order_paid", "shop.order_received")
"""Types of what a correction may be about. It has their fields, as they are now."""
CONSEQUENCES = ("task.", "granting.", "shop.registration_corrected", CORRECTED)
"""A task does not count what tasks did, nor what they gave, nor what the shop told anew of what it had told."""
USER_FIELDS = ("user_id", "user_ids", "inviter_id")
"""Who did it: the first of these that an event has. What an invitee did counts for the inviter."""
NOT_DATA = frozenset({*USER_FIELDS, "type", "at"})


class FieldKind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"


class Undoing(Struct, frozen=True):
    """What takes an occurrence back."""

    by: str
    """The type of the event that tells it."""
    key: str
    """The field that both have, and that says which."""


class Countable(Struct, frozen=True):
    """An event that tasks can count."""

    type: str
    fields: Mapping[str, FieldKind]
    """Path (`sku`, `lines.sku`) → kind. A path through a list stands for the values in all its elements."""
    undoing: Undoing | None
    is_told_by_outbox: bool
    """Otherwise by the log of what clients and the shop's own events tell."""


_CLIENT: Mapping[str, Mapping[str, FieldKind]] = {
    "app.opened": {"source": FieldKind.TEXT, "scene": FieldKind.TEXT},
    "page.viewed": {"page": FieldKind.TEXT},
    "product.viewed": {"sku": FieldKind.TEXT},
    "content.shared": {"what": FieldKind.TEXT, "sku": FieldKind.TEXT},
}

OCCURRED_AT: Mapping[str, str] = {
    "shop.order_placed": "placed_at",
    "shop.order_paid": "paid_at",
    "shop.order_received": "received_at",
    "shop.shopper_registered": "registered_at",
}
"""Type → the field with the time of the fact, where `at` says when it was heard of."""

_UNDOING: Mapping[str, Undoing] = {
    "flash_sale.claim_paid": Undoing("flash_sale.claim_refunded", "claim_id"),
    "group_buy.seat_paid": Undoing("group_buy.seat_refunded", "seat_id"),
    "referral.invitee_bought": Undoing("referral.invitee_lost", "relation_id"),
    "referral.invitee_valid": Undoing("referral.invitee_lost", "relation_id"),
    "shop.order_paid": Undoing("shop.order_refunded", "order_id"),
    "shop.order_received": Undoing("shop.order_refunded", "order_id"),
}

UNDOERS: Mapping[str, str] = {undoing.by: undoing.key for undoing in _UNDOING.values()}
"""Type of what takes back → the field that says which."""

_DEEDS: Mapping[str, tuple[Deed, bool]] = {
    "content.shared": (Deed.SHARE, False),
    "app.opened": (Deed.OPEN, False),
    "page.viewed": (Deed.OPEN, False),
    "product.viewed": (Deed.OPEN, False),
    "shop.order_paid": (Deed.PURCHASE, False),
    "shop.order_received": (Deed.PURCHASE, False),
    "shop.shopper_registered": (Deed.REGISTER, False),
    "referral.bound": (Deed.OPEN, True),
    "referral.invitee_bought": (Deed.PURCHASE, True),
    "referral.invitee_valid": (Deed.PURCHASE, True),
}
INVITEE_FIELD = "invitee_id"


def deed_of(type_: str) -> tuple[Deed, bool]:
    """Say what an event is, as far as rules ask, and whether somebody else than the rewarded shopper does it."""
    event = countable(type_)
    return _DEEDS.get(type_, (Deed.OTHER, event is not None and INVITEE_FIELD in event.fields))


def countable(type_: str) -> Countable | None:
    """Return what is known of an event; None if there is no such event, or it names no shopper."""
    return catalogue().get(type_)


@cache
def catalogue() -> Mapping[str, Countable]:
    """Return all events that tasks can count, by type."""
    found = {type_: Countable(type_, fields, None, is_told_by_outbox=False) for type_, fields in _CLIENT.items()}
    for tag, event in events_below(Event):
        info = msgspec.inspect.type_info(event)
        assert isinstance(info, msgspec.inspect.StructType)
        names = {field.name for field in info.fields}
        if not names.isdisjoint(USER_FIELDS) and not tag.startswith(CONSEQUENCES):
            fields = {
                path: kind for field in info.fields if field.name not in NOT_DATA for path, kind in _paths(field, "")
            }
            found[tag] = Countable(tag, fields, _UNDOING.get(tag), is_told_by_outbox=True)
    return found


def _paths(field: msgspec.inspect.Field, prefix: str) -> list[tuple[str, FieldKind]]:
    path, inner = f"{prefix}{field.name}", _inner(field.type)
    if isinstance(inner, msgspec.inspect.StructType):
        # Two levels: deeper ones nobody could fill in right.
        return [] if prefix else [pair for one in inner.fields for pair in _paths(one, f"{path}.")]
    kinds: list[tuple[Any, FieldKind]] = [
        (msgspec.inspect.BoolType, FieldKind.FLAG),
        (msgspec.inspect.IntType, FieldKind.NUMBER),
        (msgspec.inspect.StrType, FieldKind.TEXT),
    ]
    return [(path, kind) for type_, kind in kinds if isinstance(inner, type_)]


def _inner(type_: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Look through lists, and through "or nothing"."""
    if isinstance(type_, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        return _inner(type_.item_type)
    if isinstance(type_, msgspec.inspect.UnionType):
        real = [one for one in type_.types if not isinstance(one, msgspec.inspect.NoneType)]
        return _inner(real[0]) if len(real) == 1 else type_
    return type_
