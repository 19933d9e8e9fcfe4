"""What counts as being active, and what does not."""

from datetime import UTC, datetime
from typing import Any

import pytest

from growth.listeners.retention.model import KINDS, MECHANICS
from growth.listeners.retention.report.admin import MechanicFilter
from growth.listeners.retention.sighting import Sighting, sighting_of, sightings_in
from growth.plumbing.outbox.outbox import events_below
from growth.shopper.activity.model import Activity
from growth.vocabulary.events import Event
from growth.vocabulary.events.coupon import CouponIssued
from growth.vocabulary.events.flash_sale import FlashSaleClaimReleased
from growth.vocabulary.events.referral import ReferralBound
from growth.vocabulary.events.shop import ShopOrderPaid, ShopShopperRegistered
from growth.vocabulary.facts import FunnelStage

NOON = datetime(2026, 3, 1, 4, tzinfo=UTC)
BEFORE = datetime(2026, 2, 27, 4, tzinfo=UTC)


def released(reason: str) -> FlashSaleClaimReleased:
    return FlashSaleClaimReleased(at=NOON, sale_id="s", claim_id="c", user_id="ann", units=1, reason=reason)


def issued(source: str) -> CouponIssued:
    return CouponIssued(
        at=NOON,
        coupon_id="c",
        template_id="t",
        user_id="ann",
        source=source,
        reason="coupon.taken",
        valid_from=NOON,
        valid_until=NOON,
    )


def bound(source: str) -> ReferralBound:
    return ReferralBound(
        at=NOON, relation_id="r", inviter_id="zoe", invitee_id="ann", program_id="p", source=source, ends_at=None
    )


def activity(type_: str, **data: Any) -> Activity:
    return Activity(activity_id="a", user_id="ann", type=type_, at=NOON, heard_at=NOON, data=data)


def test_every_visit_is_of_a_kind_there_is_and_names_its_shopper_and_time() -> None:
    for name, event in events_below(Event):
        facts = event.facts
        if facts is not None and facts.visit is not None:
            assert facts.visit in KINDS, name
            assert {facts.by, facts.occurred_at, facts.step_if or "at"} <= set(event.__struct_fields__), name


@pytest.mark.parametrize(
    ("event", "is_activity"),
    [
        (released("shopper"), True),
        (released("lapsed"), False),
        (released("operator"), False),
        (issued("taken"), True),
        (issued("granted"), False),
        (bound("shopper"), True),
        (bound("operator"), False),
    ],
)
def test_what_was_done_to_a_shopper_is_no_visit(event: Event, *, is_activity: bool) -> None:
    assert bool(list(sightings_in(event))) is is_activity


def test_a_fact_of_the_shop_counts_at_its_own_time() -> None:
    registered = ShopShopperRegistered(at=NOON, user_id="ann", registered_at=BEFORE, source="poster" * 20)
    paid = ShopOrderPaid(
        at=NOON, order_id="o", user_id="ann", paid_at=BEFORE, paid_fen=1, lines=[], is_first_order=True
    )
    (first,), (second,) = sightings_in(registered), sightings_in(paid)
    assert first == Sighting(user_id="ann", at=BEFORE, kind=KINDS.index("registration"), source=("poster" * 20)[:64])
    assert second == Sighting(user_id="ann", at=BEFORE, kind=KINDS.index("order"), step=FunnelStage.BOUGHT)


def test_who_was_bound_was_active_and_who_brought_them_was_not() -> None:
    ((seen),) = sightings_in(bound("shopper"))
    assert (seen.user_id, seen.inviter, KINDS[seen.kind]) == ("ann", "zoe", "referral")


@pytest.mark.parametrize(
    ("told", "kind", "step"),
    [
        (activity("app.opened"), "app", None),
        (activity("app.opened", scene="1011"), "app", None),
        (activity("app.opened", scene="i=7KQ2ZP9M4XW3A"), "app", FunnelStage.INVITED),
        (activity("page.viewed", page="/"), "app", None),
        (activity("product.viewed", sku="tea"), "product", FunnelStage.VIEWED),
        (activity("content.shared"), "share", None),
        (activity("cinema.ticket_torn"), "shop", None),
    ],
)
def test_what_clients_and_the_shop_tell_is_activity(told: Activity, kind: str, step: FunnelStage | None) -> None:
    assert sighting_of(told) == Sighting(user_id="ann", at=NOON, kind=KINDS.index(kind), step=step)


def test_operators_can_ask_for_each_mechanic_there_is() -> None:
    choices = str(MechanicFilter)
    assert all(f"'{name or 'none'}'" in choices for name in MECHANICS)
    assert len(KINDS) < 31
