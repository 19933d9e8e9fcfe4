"""What is a visit, and what a task can count: as it was when lists of names said so, event by event."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from growth.listeners.retention.model import KINDS
from growth.listeners.retention.sighting import sightings_in, visits
from growth.mechanics.task.countable import catalogue as countables
from growth.mechanics.task.countable import deed_of
from growth.mechanics.task.progress.model import occurred_at, user_ids_of
from growth.plumbing.docs.event_catalogue import EventDescription, catalogue
from growth.vocabulary.events import Event
from growth.vocabulary.events.base import PERSON_LISTS, PERSON_MEMBERS

NOON = datetime(2026, 3, 1, 4, tzinfo=UTC)

VISITS: Mapping[str, str] = {
    # By what, whose, and when; of which reason or source alone; which step of a funnel.
    "checkin.checked_in": "checkin user_id at",
    "checkin.made_up": "checkin user_id at",
    "coupon.issued": "coupon user_id at, only taken",
    "coupon.used": "coupon user_id at",
    "flash_sale.claim_held": "flash_sale user_id at, CLAIMED",
    "flash_sale.claim_paid": "flash_sale user_id at, PAID",
    "flash_sale.claim_released": "flash_sale user_id at, only shopper",
    "group_buy.seat_held": "group_buy user_id at, CLAIMED",
    "group_buy.seat_paid": "group_buy user_id at, PAID",
    "group_buy.seat_released": "group_buy user_id at, only shopper",
    "group_buy.team_opened": "group_buy user_id at",
    "referral.bound": "referral invitee_id at by inviter_id, only shopper",
    "shop.order_corrected": "order user_id paid_at, BOUGHT if is_purchase",
    "shop.order_paid": "order user_id paid_at, BOUGHT if is_purchase",
    "shop.order_placed": "order user_id placed_at",
    "shop.registration_corrected": "registration user_id registered_at from other",
    "shop.shopper_registered": "registration user_id registered_at from other",
    "task.completed": "task user_id at",
    "withdrawal.cancelled": "referral user_id at",
    "withdrawal.requested": "referral user_id at",
}

COUNTED: Mapping[str, str] = {
    # For whom a task counts it, and when it happened; what it is to rules; what takes it back, and by which member.
    "checkin.checked_in": "user_id at other",
    "checkin.frozen": "user_id at other",
    "checkin.made_up": "user_id at other",
    "checkin.streak_at_risk": "user_id at other",
    "checkin.streak_broken": "user_id at other",
    "commission.available": "inviter_id at other",
    "commission.changed": "inviter_id at other",
    "commission.pending": "inviter_id at other of an invitee",
    "commission.released": "inviter_id at other",
    "commission.under_review": "inviter_id at other",
    "commission.voided": "inviter_id at other",
    "coupon.expired": "user_id at other",
    "coupon.expiring": "user_id at other",
    "coupon.issued": "user_id at other",
    "coupon.refund_required": "user_id at other",
    "coupon.returned": "user_id at other",
    "coupon.used": "user_id at other",
    "coupon.voided": "user_id at other",
    "flash_sale.claim_held": "user_id at other",
    "flash_sale.claim_paid": "user_id at other, undone by flash_sale.claim_refunded claim_id",
    "flash_sale.claim_refunded": "user_id at other",
    "flash_sale.claim_released": "user_id at other",
    "flash_sale.refund_required": "user_id at other",
    "flash_sale.reminder_due": "user_id at other",
    "group_buy.expiring_soon": "user_ids at other",
    "group_buy.leader_changed": "user_id at other",
    "group_buy.one_seat_left": "user_ids at other",
    "group_buy.refund_required": "user_id at other",
    "group_buy.seat_held": "user_id at other",
    "group_buy.seat_paid": "user_id at other, undone by group_buy.seat_refunded seat_id",
    "group_buy.seat_refunded": "user_id at other",
    "group_buy.seat_released": "user_id at other",
    "group_buy.team_complete": "user_ids at other",
    "group_buy.team_failed": "user_ids at other",
    "group_buy.team_opened": "user_id at other",
    "referral.bound": "inviter_id at open of an invitee",
    "referral.invitee_bought": "inviter_id at purchase of an invitee, undone by referral.invitee_lost relation_id",
    "referral.invitee_lost": "inviter_id at other of an invitee",
    "referral.invitee_valid": "inviter_id at purchase of an invitee, undone by referral.invitee_lost relation_id",
    "referral.milestone_lost": "inviter_id at other",
    "referral.milestone_reached": "inviter_id at other",
    "referral.relation_ended": "inviter_id at other of an invitee",
    "referral.suspected": "inviter_id at other of an invitee",
    "shop.order_closed": "user_id at other",
    "shop.order_lines_added": "user_id at other",
    "shop.order_paid": "user_id paid_at purchase, undone by shop.order_refunded order_id",
    "shop.order_placed": "user_id placed_at other",
    "shop.order_received": "user_id received_at purchase, undone by shop.order_refunded order_id",
    "shop.order_refunded": "user_id at other",
    "shop.refund_required": "user_id at other",
    "shop.shopper_registered": "user_id registered_at register",
    "withdrawal.approved": "user_id at other",
    "withdrawal.cancelled": "user_id at other",
    "withdrawal.failed": "user_id at other",
    "withdrawal.paid": "user_id at other",
    "withdrawal.rejected": "user_id at other",
    "withdrawal.requested": "user_id at other",
}
OF_CLIENTS = {"app.opened": "open", "page.viewed": "open", "product.viewed": "open", "content.shared": "share"}


def told(entry: EventDescription, why: str = "other", *, is_purchase: bool = True) -> Event:
    """Return an event whose members name themselves: each shopper, and each time by one of its own."""
    event = msgspec.convert(entry.example["data"] | {"type": entry.name, "at": entry.example["time"]}, entry.event)
    names = event.__struct_fields__
    changes: dict[str, object] = {name: name for name in names if name in PERSON_MEMBERS}
    changes |= {name: [name] for name in names if name in PERSON_LISTS}
    changes |= {name: NOON - timedelta(hours=age) for age, name in enumerate(sorted(names)) if name.endswith("_at")}
    changes |= {name: why for name in names if name in ("reason", "source")}
    changes |= {name: is_purchase for name in names if name == "is_purchase"}
    return replace(event, at=NOON, **changes)


def time_named(event: Event, at: datetime) -> str:
    return next(name for name in ("at", *event.__struct_fields__) if getattr(event, name) == at)


def visit(entry: EventDescription) -> str | None:
    """Say what kind of visit an event is: by trying what tells one from another."""
    ways = [(why, is_purchase) for why in ("other", "shopper", "taken") for is_purchase in (True, False)]
    found = {way: list(sightings_in(told(entry, way[0], is_purchase=way[1]))) for way in ways}
    seen = {way: sightings[0] for way, sightings in found.items() if sightings}
    if not seen:
        return None
    one = next(iter(seen.values()))
    said = f"{KINDS[one.kind]} {one.user_id} {time_named(told(entry), one.at)}"
    said += f" by {one.inviter}" if one.inviter else ""
    said += f" from {one.source}" if one.source else ""
    whys = {why for why, _ in seen}
    said += "" if len(whys) > 1 else f", only {whys.pop()}"
    step = one.step
    if step is not None:
        always = all(sighting.step is step for sighting in seen.values())
        said += f", {step.name}" + ("" if always else " if is_purchase")
    return said


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_an_event_is_the_visit_that_it_was(entry: EventDescription) -> None:
    assert visit(entry) == VISITS.get(entry.name)
    assert (entry.name in visits()) is (entry.name in VISITS)


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_a_task_counts_of_an_event_what_it_did(entry: EventDescription) -> None:
    countable = countables().get(entry.name)
    if countable is None:
        assert entry.name not in COUNTED
        return
    event, facts = told(entry), countable.facts
    deed, by_invitee = deed_of(entry.name)
    said = f"{' '.join(user_ids_of(event, facts))} {time_named(event, occurred_at(event, facts))} {deed}"
    said += " of an invitee" if by_invitee else ""
    said += f", undone by {facts.undone_by} {facts.key}" if facts.undone_by else ""
    assert said == COUNTED[entry.name]


def test_a_task_counts_what_it_did_and_no_other_event() -> None:
    assert countables().keys() == COUNTED.keys() | OF_CLIENTS.keys()
    assert {name: (str(deed_of(name)[0]), deed_of(name)[1]) for name in OF_CLIENTS} == {
        name: (deed, False) for name, deed in OF_CLIENTS.items()
    }
