"""Who is erased from events: every member that names a shopper is one that the sweep looks at."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec

import growth.vocabulary.events  # noqa: F401 - every event there is
from growth.plumbing.outbox.outbox import events_below
from growth.vocabulary.events import Event
from growth.vocabulary.events.base import PERSON_LISTS, PERSON_MEMBERS

THINGS = {
    "batch_id",
    "claim_id",
    "commission_id",
    "coupon_id",
    "endpoint_id",
    "event_id",
    "grant_id",
    "group_buy_id",
    "line_id",
    "order_id",
    "program_id",
    "refund_id",
    "relation_id",
    "sale_id",
    "seat_id",
    "series_id",
    "task_id",
    "team_id",
    "template_id",
    "withdrawal_id",
}
"""Ids that are of no person. One that is not here is taken for a person's."""
WHO = ("user", "inviter", "invitee", "buyer", "shopper", "leader", "winner", "payer", "friend", "referrer", "owner")


def members(told: Any) -> Iterator[tuple[str, bool]]:
    """Every member of a type that holds text, however deep, and whether it is a list of texts."""
    for field in msgspec.structs.fields(told):
        for choice in get_args(field.type) if isinstance(field.type, UnionType) else (field.type,):
            is_list = get_origin(choice) in (list, tuple)
            for kind in get_args(choice) if is_list else (choice,):
                if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                    yield from members(kind)
                elif kind is str:
                    yield field.encode_name, is_list


def names_a_person(name: str) -> bool:
    is_id = name.endswith(("_id", "_ids"))
    return (is_id and name.removesuffix("s") not in THINGS) or name.removesuffix("s") in WHO


def test_every_member_that_names_a_shopper_is_swept() -> None:
    missing = {
        f"{tag}: {name}"
        for tag, event in events_below(Event)
        if event.__module__.startswith("growth.")
        for name, is_list in members(event)
        if names_a_person(name) and name not in (PERSON_LISTS if is_list else PERSON_MEMBERS)
    }
    assert missing == set()


def test_what_names_a_person_is_seen_however_it_stands() -> None:
    class Line(msgspec.Struct):
        payer_id: str | None
        sku: str

    class Told(msgspec.Struct):
        user_ids: list[str]
        lines: list[Line]
        leader: str
        is_leader: bool
        sale_id: str

    assert {name for name, _ in members(Told) if names_a_person(name)} == {"user_ids", "payer_id", "leader"}
