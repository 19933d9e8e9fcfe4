"""What an operator may plan, and what does not fit together."""

import json
from datetime import datetime
from typing import Any

import pytest

from growth.mechanics.flash_sale.model import Item, Protection
from growth.mechanics.flash_sale.series.model import SeriesDraft, faults
from growth.plumbing.strict_json import decode_json
from growth.vocabulary.refusals import Refusal

NOW = datetime.fromisoformat("2026-11-20T00:00:00+00:00")

PLAN: dict[str, Any] = {
    "title": "Wednesday tea",
    "zone": "Asia/Shanghai",
    "days_of_week": ["wed"],
    "start_time": "20:00",
    "duration_minutes": 60,
    "from_day": "2026-11-01",
    "items": [{"title": "Tea", "sku": "tea", "price_fen": 100, "list_price_fen": 9900, "units_total": 100}],
}


def a_plan(**changes: Any) -> SeriesDraft:
    """Every Wednesday 20:00 in Shanghai, 100 units at one yuan."""
    return decode_json(json.dumps(PLAN | changes).encode(), SeriesDraft)


def an_item(**changes: Any) -> dict[str, Any]:
    item: dict[str, Any] = PLAN["items"][0] | changes
    return item


def test_a_plain_plan_fits_and_has_the_usual_values() -> None:
    plan = a_plan()
    assert faults(plan, NOW) == []
    assert (plan.until_day, plan.hold_seconds, plan.plan_ahead_days, plan.protection) == (None, 300, 7, Protection())
    assert plan.items == [
        Item(title="Tea", sku="tea", price_fen=100, list_price_fen=9900, units_total=100, max_per_shopper=1)
    ]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("zone", {"zone": "Asia/Atlantis"}),
        ("zone", {"zone": "etc/localtime"}),
        ("days_of_week", {"days_of_week": ["wed", "wed"]}),
        ("from_day", {"from_day": "1999-12-31"}),
        ("from_day", {"from_day": "9999-12-31"}),
        ("until_day", {"until_day": "2200-01-01"}),
        ("until_day", {"until_day": "2026-10-31"}),
        ("until_day", {"until_day": "2026-11-03"}),  # a Tuesday: no Wednesday comes
        ("duration_minutes", {"days_of_week": ["tue", "wed"], "duration_minutes": 1441}),
        ("duration_minutes", {"days_of_week": ["sun", "mon"], "duration_minutes": 1441}),
        ("items[1].sku", {"items": [an_item(), an_item()]}),
        ("items[0].list_price_fen", {"items": [an_item(list_price_fen=99)]}),
        ("items[1].max_per_shopper", {"items": [an_item(), an_item(sku="milk", units_total=2, max_per_shopper=3)]}),
        ("protection.draw_seconds", {"protection": {"draw_seconds": 3600}}),
    ],
)
def test_what_does_not_fit_is_named_once(field: str, changes: dict[str, Any]) -> None:
    items = changes.get("items", [an_item(), an_item(sku="other")])
    assert [fault.field for fault in faults(a_plan(**changes | {"items": items}), NOW)] == [field]


@pytest.mark.parametrize("zone", ["../../etc/localtime", "/etc/localtime\x00", "Asia/Sh anghai", ""])
def test_a_zone_that_is_no_name_is_refused_as_it_is_read(zone: str) -> None:
    with pytest.raises(Refusal) as refused:
        a_plan(zone=zone)
    assert [fault.field for fault in refused.value.members["errors"]] == ["zone"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("zone", "minutes", "fits"),
    [("Asia/Shanghai", 1440, True), ("America/New_York", 1380, True), ("America/New_York", 1381, False)],
)
def test_daily_rounds_may_follow_each_other_on_every_day_of_the_year(zone: str, minutes: int, fits: bool) -> None:  # noqa: FBT001
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    found = faults(a_plan(zone=zone, days_of_week=days, duration_minutes=minutes), NOW)
    assert (found == []) is fits
    if found:
        assert found[0].detail == ("At most 1380: the round of 2027-03-14 would be open when that of 2027-03-15 opens")


def test_a_round_of_a_week_is_followed_by_the_next() -> None:
    assert faults(a_plan(duration_minutes=7 * 24 * 60), NOW) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"start_time": "24:00"},
        {"start_time": "8:00"},
        {"start_time": "20:00\n"},
        {"start_time": "20:00:00"},
        {"start_time": "2\u0660:00"},
        {"days_of_week": []},
        {"days_of_week": ["Wed"]},
        {"duration_minutes": 0},
        {"duration_minutes": 10_081},
        {"duration_minutes": 60.5},
        {"duration_minutes": True},
        {"from_day": "2026-11-31"},
        {"from_day": "2026-11-01T00:00:00Z"},
        {"items": []},
        {"items": [an_item(sku=f"sku-{n}") for n in range(21)]},
        {"items": [an_item(units_total=0)]},
        {"items": [an_item(opens_at="2026-11-01T00:00:00Z")]},
        {"plan_ahead_days": 0},
        {"plan_ahead_days": 32},
        {"state": "published"},
        {"series_id": "01a2001e-9133-7d62-bd8b-4619c768371d"},
        {"title": ""},
    ],
)
def test_what_is_not_of_the_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        a_plan(**changes)
    assert refused.value.kind.status == 400
