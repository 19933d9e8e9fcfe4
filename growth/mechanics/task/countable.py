"""What a task can count: events whose facts say for whom, and the fields of their data, with their kinds.

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
from growth.vocabulary.activities import CLIENTS
from growth.vocabulary.events import Event
from growth.vocabulary.facts import Deed, Facts

CORRECTED = "shop.order_corrected"
"""The type of what says anew what an order is: what counted of the order is decided again."""
CORRECTABLE = ("shop.order_paid", "shop.order_received")
"""Types of what a correction may be about. It has their fields, as they are now."""
INVITEE_FIELD = "invitee_id"


class FieldKind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"


class Countable(Struct, frozen=True):
    """An event that tasks can count."""

    type: str
    fields: Mapping[str, FieldKind]
    """Path (`sku`, `lines.sku`) → kind. A path through a list stands for the values in all its elements."""
    facts: Facts
    is_told_by_outbox: bool
    """Otherwise by the log of what clients and the shop's own events tell."""


_CLIENT: Mapping[str, Mapping[str, FieldKind]] = {
    "app.opened": {"source": FieldKind.TEXT, "scene": FieldKind.TEXT},
    "page.viewed": {"page": FieldKind.TEXT},
    "product.viewed": {"sku": FieldKind.TEXT},
    "content.shared": {"what": FieldKind.TEXT, "sku": FieldKind.TEXT},
}


@cache
def undoers() -> Mapping[str, str]:
    """Return the types of what takes back, each with the field that says which."""
    known = (event.facts for event in catalogue().values())
    return {facts.undone_by: facts.key for facts in known if facts.undone_by and facts.key}


def deed_of(type_: str) -> tuple[Deed, bool]:
    """Say what an event is, as far as rules ask, and whether somebody else than the rewarded shopper does it."""
    event = countable(type_)
    return (Deed.OTHER, False) if event is None else (event.facts.does, INVITEE_FIELD in event.fields)


def countable(type_: str) -> Countable | None:
    """Return what is known of an event; None if there is no such event, or it names no shopper."""
    return catalogue().get(type_)


@cache
def catalogue() -> Mapping[str, Countable]:
    """Return all events that tasks can count, by type."""
    found = {
        type_: Countable(type_, fields, CLIENTS[type_], is_told_by_outbox=False) for type_, fields in _CLIENT.items()
    }
    for tag, event in events_below(Event):
        if event.facts is None or event.facts.counts_for is None:
            continue
        info = msgspec.inspect.type_info(event)
        assert isinstance(info, msgspec.inspect.StructType)
        data = (field for field in info.fields if field.name not in {"at", event.facts.counts_for})
        fields = {path: kind for field in data for path, kind in _paths(field, "")}
        found[tag] = Countable(tag, fields, event.facts, is_told_by_outbox=True)
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
