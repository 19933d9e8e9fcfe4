"""What a relation is, what a code looks like, and who may be bound to whom: decisions without I/O."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from growth.mechanics.referral.model import Terms
from growth.vocabulary.ids import UserId, Uuid
from growth.vocabulary.refusals import Kind

UNKNOWN_CODE = Kind("referral.unknown_code", "Nobody has this code.", 404)
OWN_CODE = Kind("referral.own_code", "This is your own code.")
ALREADY_BOUND = Kind("referral.already_bound", "You are bound to another inviter; the first one counts.")
LOOP = Kind("referral.loop", "You brought this inviter, or somebody who did.")
NOT_NEW = Kind("referral.not_new", "Only new shoppers can be bound: who never bought, soon after the first visit.")
NO_PROGRAM = Kind("referral.no_program", "No referral program is running.")
RELATION_NOT_FOUND = Kind("referral.relation_not_found", "There is no such relation.", 404)
RELATION_OVER = Kind("referral.relation_over", "The relation has ended already.")

CLOCKS_APART = timedelta(seconds=60)
"""How far the shop's clock may be behind ours: an order paid that long before the binding still counts as after it."""

CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Nothing that is taken for something else when read aloud; part of what a mini-program's `scene` may hold."""
CODE_CHARACTERS = 13
"""5 bits each: 65 bits, of which 60 are asked for."""
SCENE_KEY = "i="
MAX_SCENE_CHARACTERS = 32
"""Of `scene` in WeChat's getwxacodeunlimit: visible characters out of digits, letters and !#$&'()*+,/:;=?@-._~"""

MAX_LINE = 10_000
"""Inviters above an inviter that are looked through for a ring. A longer line is refused as one."""

RelationState = Literal["bound", "bought", "valid"]
EndReason = Literal["fraud", "mistake", "shopper_request", "other", "merged"]


class Relation(Struct, frozen=True, kw_only=True):
    """Who brought an invitee, at one moment, and what the program promised then."""

    relation_id: Uuid
    invitee_id: UserId
    inviter_id: UserId
    grand_inviter_id: UserId | None
    """Who had brought the inviter, if that relation was in force at the same moment."""
    bound_at: datetime
    ends_at: datetime | None
    """When it ends, or ended."""
    first_order_id: str | None
    """The order that counts as the invitee's first, while it does."""
    terms: Terms | None
    """Of the program that was live at that moment; None if none was: then nothing is earned."""


def new_code() -> str:
    """Return a fresh code."""
    return "".join(CODE_ALPHABET[byte % len(CODE_ALPHABET)] for byte in os.urandom(CODE_CHARACTERS))


def scene_of(code: str) -> str:
    """Return what a mini-program's code carries in its `scene`."""
    scene = SCENE_KEY + code
    assert len(scene) <= MAX_SCENE_CHARACTERS
    return scene


def read_code(text: str) -> str:
    """Return the code that a shopper typed, or that came as a scene; what is no code becomes one nobody has."""
    return text.strip().removeprefix(SCENE_KEY).upper()


def closes_ring(line: Mapping[str, str], invitee_id: str, inviter_id: str) -> bool:
    """Say whether `inviter_id` stands under `invitee_id`; `line` tells the inviter of each. Bounded by `MAX_LINE`."""
    above: str | None = inviter_id
    for _ in range(MAX_LINE):
        if above is None:
            return False
        if above == invitee_id:
            return True
        above = line.get(above)
    return True
