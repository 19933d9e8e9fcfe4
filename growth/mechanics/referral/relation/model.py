"""What a relation is, what a code looks like, and who may be bound to whom: decisions without I/O."""

import os
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from msgspec import Struct

from growth.mechanics.referral.model import ProgramTerms, ReferralDraft
from growth.vocabulary.ids import UserId, Uuid
from growth.vocabulary.names import typed_code, without_scene
from growth.vocabulary.refusals import Kind

UNKNOWN_CODE = Kind("referral.unknown_code", "Nobody has this code.", 404)
OWN_CODE = Kind("referral.own_code", "This is your own code.")
ALREADY_BOUND = Kind("referral.already_bound", "You are bound to another inviter; the first one counts.")
LOOP = Kind("referral.loop", "You invited this inviter, directly or through others.")
NOT_NEW = Kind(
    "referral.not_new", "Only new shoppers can be bound: those who have never bought, soon after their first visit."
)
NO_PROGRAM = Kind("referral.no_program", "No referral program is running.")
RELATION_NOT_FOUND = Kind("referral.relation_not_found", "There is no such relation.", 404)
RELATION_OVER = Kind("referral.relation_over", "The relation has ended already.")

CLOCKS_APART = timedelta(seconds=60)
"""How far the shop's clock may be behind ours: an order paid that long before the binding still counts as after it."""

CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Nothing that is taken for something else when read aloud; part of what a mini-program's `scene` may hold."""
CODE_CHARACTERS = 13
"""5 bits each: 65 bits, of which 60 are asked for."""
MAX_CODE_CHARACTERS = 30
"""Of codes that were brought along from elsewhere."""
SCENE_KEY = "i="
MAX_SCENE_CHARACTERS = 32
"""Of `scene` in WeChat's getwxacodeunlimit: visible characters out of digits, letters and !#$&'()*+,/:;=?@-._~"""

DEVICE_CHARACTERS = 32
"""Of a digest: 128 bits."""

MAX_LINE = 10_000
"""Inviters above an inviter that are looked through for a ring. A longer line is refused as one."""

RelationState = Literal["bound", "bought", "valid"]
EndReason = Literal["fraud", "mistake", "shopper_request", "other", "merged"]


class MyInviter(Struct, frozen=True, kw_only=True):
    """Who brought the shopper."""

    inviter: str
    """Masked."""
    bound_at: datetime
    ends_at: datetime | None
    server_time: datetime


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
    terms: ProgramTerms | None
    """Of the program that was live at that moment; None if none was: then nothing is earned."""


class BindWish(Struct, frozen=True, kw_only=True):
    """A shopper who wants to be bound, or is to be, before anybody looked."""

    relation_id: Uuid
    invitee_id: UserId
    code: str
    nickname: str
    """Masked."""


class BindingState(Struct, frozen=True, kw_only=True):
    """What is known of one wish under the lock."""

    inviter_id: UserId | None
    """Whose code it is."""
    current_id: Uuid | None
    """The invitee's current relation, which may be over; with the next two."""
    current_inviter_id: UserId | None
    current_bound_at: datetime | None
    current_ends_at: datetime | None
    has_invitees: bool
    """The invitee has brought somebody: only then a ring can close."""

    def is_bound(self, now: datetime) -> bool:
        """Whether the invitee has an inviter at `now`."""
        return self.current_id is not None and (self.current_ends_at is None or now < self.current_ends_at)

    def is_bound_as_wished(self, now: datetime) -> bool:
        """Whether there is nothing to do."""
        return self.is_bound(now) and self.current_inviter_id == self.inviter_id


class InviteeHistory(Struct, frozen=True, kw_only=True):
    """What the shop knows of one shopper."""

    has_bought: bool
    registered_at: datetime | None = None
    device_id: str | None = None
    address: str | None = None


class Tie(Struct, frozen=True, kw_only=True):
    """A relation to be written."""

    relation_id: Uuid
    invitee_id: UserId
    inviter_id: UserId
    program_id: Uuid
    source: Literal["shopper", "operator"]
    nickname: str
    is_new: bool
    bound_at: datetime
    ends_at: datetime | None
    device: str | None = None
    """A digest."""
    signs: list[str] = []


def mask_id(user_id: str) -> str:
    """Return what others see of an id: its ends."""
    return f"{user_id[:1]}***{user_id[-1:]}"


def device_digest(device_id: str | None) -> str | None:
    """Return what is kept of a device: enough to know it again."""
    return None if not device_id else sha256(device_id.encode()).hexdigest()[:DEVICE_CHARACTERS]


def refusal_of(standing: BindingState, invitee_id: str, now: datetime) -> Kind | None:
    """Say what a wish is refused as before history is looked at; None if nothing speaks against it so far."""
    if standing.inviter_id is None:
        return UNKNOWN_CODE
    if standing.inviter_id == invitee_id:
        return OWN_CODE
    if standing.is_bound(now) and standing.current_inviter_id != standing.inviter_id:
        return ALREADY_BOUND
    return None


def is_new(history: InviteeHistory, attribution_days: int, now: datetime) -> bool:
    """Say whether a shopper can still be bound: never bought, and here for no longer than so many days.

    The first visit is the registration with the shop; whoever the shop never told of is here for the first time.
    """
    if history.has_bought:
        return False
    return history.registered_at is None or now < history.registered_at + timedelta(days=attribution_days)


def signs_between(invitee: InviteeHistory, inviter: InviteeHistory) -> list[str]:
    """Say what the accounts of both share, as the shop registered them."""
    signs = []
    if invitee.device_id and invitee.device_id == inviter.device_id:
        signs.append("same_device")
    if invitee.address and invitee.address == inviter.address:
        signs.append("same_address")
    return signs


def ends_at_of(draft: ReferralDraft, bound_at: datetime) -> datetime | None:
    """Say when a relation made now ends by itself."""
    return None if draft.relation_days is None else bound_at + timedelta(days=draft.relation_days)


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
    code = typed_code(without_scene(text))
    return code if len(code) <= MAX_CODE_CHARACTERS else ""
