"""What makes a commission suspicious: rules over facts, without I/O."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from growth.shop.order.model import Registration

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MAX_INVITEES = 100_000


class Reason(StrEnum):
    """Why a person looks at a commission. Typed: what is counted and filtered by is no free text."""

    SAME_DEVICE = "same_device"
    """Inviter and payer registered on one device: an order of one's own by a second account."""
    SAME_ADDRESS = "same_address"
    """They registered from one network address. Carriers put many behind one: a hint, no proof."""
    SAME_PAYEE = "same_payee"
    """Their withdrawals go to one account."""
    SAME_PERSON = "same_person"
    """Their two user ids were merged into one."""
    SHARED_DEVICE = "shared_device"
    """Several invitees of the inviter registered on the payer's device."""
    INVITEES_IN_HOUR = "invitees_in_hour"
    """Too many invitees within an hour of the payer."""
    INVITEES_IN_DAY = "invitees_in_day"
    """Too many invitees within a day of the payer."""


class ReviewRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What puts commissions to review. They stay pending there until somebody releases or voids them."""

    same_device: bool = True
    same_address: bool = True
    same_payee: bool = True
    max_invitees_per_device: Annotated[int, Meta(ge=1, le=MAX_INVITEES)] | None = 2
    """Of one inviter; null for no limit."""
    max_invitees_per_hour: Annotated[int, Meta(ge=1, le=MAX_INVITEES)] | None = 20
    """Bound within an hour before or after the payer; null for no limit."""
    max_invitees_per_day: Annotated[int, Meta(ge=1, le=MAX_INVITEES)] | None = 100


class Pair(Struct, frozen=True):
    """Who earns by whom."""

    commission_id: str
    inviter_id: str
    invitee_id: str
    relation_id: str


class Pace(Struct, frozen=True):
    """How fast an inviter's invitees came, around one of them; counted as far as the limits go."""

    in_hour: int = 0
    in_day: int = 0
    siblings: tuple[str, ...] = ()
    """Some of the invitees nearest in time."""


class ReviewFacts(Struct, frozen=True, kw_only=True):
    """What is known about those in question; who is not known of is missing."""

    registrations: Mapping[str, Registration]
    payees: Mapping[str, tuple[str, str]]
    """Kind and account that a shopper's money goes to."""
    paces: Mapping[str, Pace]
    """By commission."""


def reasons_of(pair: Pair, facts: ReviewFacts, rules: ReviewRules) -> list[Reason]:
    """Return why a person is to look at a commission; nothing if nobody need."""
    found = []
    inviter, invitee = facts.registrations.get(pair.inviter_id), facts.registrations.get(pair.invitee_id)
    if pair.inviter_id == pair.invitee_id:
        found.append(Reason.SAME_PERSON)
    elif inviter is not None and invitee is not None:
        if rules.same_device and inviter.device_id is not None and inviter.device_id == invitee.device_id:
            found.append(Reason.SAME_DEVICE)
        if rules.same_address and inviter.address is not None and inviter.address == invitee.address:
            found.append(Reason.SAME_ADDRESS)
    payees = facts.payees.get(pair.inviter_id), facts.payees.get(pair.invitee_id)
    if rules.same_payee and Reason.SAME_PERSON not in found and payees[0] is not None and payees[0] == payees[1]:
        found.append(Reason.SAME_PAYEE)
    pace = facts.paces.get(pair.commission_id, Pace())
    if invitee is not None and _is_shared(invitee, [*pace.siblings, pair.invitee_id], facts, rules):
        found.append(Reason.SHARED_DEVICE)
    if rules.max_invitees_per_hour is not None and pace.in_hour > rules.max_invitees_per_hour:
        found.append(Reason.INVITEES_IN_HOUR)
    if rules.max_invitees_per_day is not None and pace.in_day > rules.max_invitees_per_day:
        found.append(Reason.INVITEES_IN_DAY)
    return found


def _is_shared(invitee: Registration, siblings: Sequence[str], facts: ReviewFacts, rules: ReviewRules) -> bool:
    if invitee.device_id is None or rules.max_invitees_per_device is None:
        return False
    known = [facts.registrations.get(user_id) for user_id in set(siblings)]
    return sum(one is not None and one.device_id == invitee.device_id for one in known) > rules.max_invitees_per_device
