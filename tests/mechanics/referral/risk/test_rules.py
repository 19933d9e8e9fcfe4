"""What puts a commission to review: each rule by itself, switched off, and at its edge."""

from typing import Any

import msgspec
import pytest

from growth.mechanics.referral.review.model import Pace, Pair, Reason, ReviewFacts, ReviewRules, reasons_of
from growth.shop.order.model import Registration
from tests.shop.order.telling import NOON

PAIR = Pair("c", "ann", "bob", "r")


def registered(device_id: str | None, address: str | None) -> Registration:
    return Registration(NOON, None, device_id, address)


def facts(**changes: Any) -> ReviewFacts:
    plain: dict[str, Any] = {
        "registrations": {"ann": registered("d1", "1.1.1.1"), "bob": registered("d2", "2.2.2.2")},
        "payees": {"ann": ("bank", "1"), "bob": ("bank", "2")},
        "paces": {"c": Pace(1, 1, ("bob",))},
    }
    return ReviewFacts(**plain | changes)


def alike(device_id: str | None, address: str | None) -> dict[str, Registration]:
    return {"ann": registered(device_id, address), "bob": registered(device_id, address)}


CASES: dict[str, tuple[ReviewFacts, list[Reason], dict[str, Any]]] = {
    "strangers": (facts(), [], {}),
    "nobody knows anything": (facts(registrations={}, payees={}, paces={}), [], {}),
    "one device": (
        facts(registrations=alike("d1", None)),
        [Reason.SAME_DEVICE],
        {"same_device": False},
    ),
    "one address": (
        facts(registrations=alike(None, "1.1.1.1")),
        [Reason.SAME_ADDRESS],
        {"same_address": False},
    ),
    "neither told": (facts(registrations=alike(None, None)), [], {}),
    "one account": (
        facts(payees={"ann": ("bank", "1"), "bob": ("bank", "1")}),
        [Reason.SAME_PAYEE],
        {"same_payee": False},
    ),
    "one number at two banks": (facts(payees={"ann": ("bank", "1"), "bob": ("alipay", "1")}), [], {}),
    "twenty in an hour": (facts(paces={"c": Pace(20, 20)}), [], {}),
    "one more in an hour": (
        facts(paces={"c": Pace(21, 21)}),
        [Reason.INVITEES_IN_HOUR],
        {"max_invitees_per_hour": None},
    ),
    "a hundred in a day": (facts(paces={"c": Pace(1, 100)}), [], {}),
    "one more in a day": (facts(paces={"c": Pace(1, 101)}), [Reason.INVITEES_IN_DAY], {"max_invitees_per_day": None}),
    "two of one device": (
        facts(
            registrations={"bob": registered("d", None), "cat": registered("d", None)},
            paces={"c": Pace(1, 1, ("bob", "cat"))},
        ),
        [],
        {},
    ),
    "three of one device": (
        facts(
            registrations={name: registered("d", None) for name in ("bob", "cat", "dan")},
            paces={"c": Pace(1, 1, ("bob", "cat", "dan", "eve"))},
        ),
        [Reason.SHARED_DEVICE],
        {"max_invitees_per_device": None},
    ),
}


@pytest.mark.parametrize(("known", "expected", "off"), CASES.values(), ids=CASES)
def test_each_rule_finds_what_it_is_for_unless_it_is_switched_off(
    known: ReviewFacts, expected: list[Reason], off: dict[str, Any]
) -> None:
    assert reasons_of(PAIR, known, ReviewRules()) == expected
    if expected:
        assert reasons_of(PAIR, known, ReviewRules(**off)) == []


def test_who_earns_by_himself_is_one_person_and_nothing_else() -> None:
    himself = Pair("c", "ann", "ann", "r")
    assert reasons_of(himself, facts(), ReviewRules()) == [Reason.SAME_PERSON]


def test_rules_left_out_are_as_shipped() -> None:
    assert msgspec.convert({}, ReviewRules) == ReviewRules()
    assert msgspec.convert({"same_device": False}, ReviewRules).same_address
