"""Decisions without I/O: periods, conditions, edits, values, and the catalogue."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.kit.campaign.model import keep_window
from growth.mechanics.task.countable import FieldKind, catalogue, deed_of, undoers
from growth.mechanics.task.model import (
    ONCE,
    TASKS,
    Condition,
    Task,
    TaskDraft,
    faults,
    page,
    period_ends_at,
    period_on,
)
from growth.mechanics.task.progress.model import (
    MAX_VALUE_CHARACTERS,
    Occurrence,
    grant_keys,
    judge,
    undo_keys,
    values_at,
)
from growth.vocabulary.facts import Deed
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal
from growth.vocabulary.rewards import PointsReward
from tests.mechanics.task.conftest import ZONE, a_draft, in_zone, paid

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def a_task(**changes: Any) -> Task:
    own = {name: changes.pop(name) for name in tuple(changes) if name not in TaskDraft.__struct_fields__}
    known: dict[str, Any] = {
        "task_id": new_id(NOW),
        "state": "published",
        "version": 1,
        "created_at": NOW,
        "published_at": NOW - timedelta(days=9),
        "ended_at": None,
    }
    draft = a_draft(**{"opens_at": NOW - timedelta(days=9)} | changes)
    return Task(**{name: getattr(draft, name) for name in TaskDraft.__struct_fields__} | known | own)


DAYS = st.integers(0, 3650)
SECONDS = st.integers(0, 86_399)


@given(DAYS, SECONDS, st.sampled_from([ZONE, BERLIN]))
def test_every_instant_is_in_one_period_and_before_its_end(days: int, seconds: int, zone: ZoneInfo) -> None:
    instant = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=days, seconds=seconds)
    task = a_task(opens_at=datetime(2029, 12, 1, tzinfo=UTC), closes_at=datetime(2031, 1, 1, tzinfo=UTC))
    for period in ("daily", "weekly"):
        one = msgspec.structs.replace(task, period=period)
        first = period_on(one.period, instant, zone)
        end = period_ends_at(one, instant, zone)
        assert instant < end
        assert period_on(one.period, end, zone) > first
        assert period_on(one.period, end - timedelta(microseconds=1), zone) == first
        assert first.weekday() == 0 or period == "daily"


def test_the_day_on_which_the_clock_goes_back_has_25_hours() -> None:
    task = a_task(period="daily", closes_at=NOW + timedelta(days=9))
    start = datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert period_on("daily", start, BERLIN) == date(2026, 10, 25)
    assert period_ends_at(task, start, BERLIN) - start == timedelta(hours=25)


def test_a_period_ends_with_its_task() -> None:
    closes_at = in_zone(date(2026, 11, 25), 21)
    for period in ("once", "daily", "weekly"):
        assert period_ends_at(a_task(period=period, closes_at=closes_at), NOW, ZONE) == closes_at
    assert period_on("once", NOW, ZONE) == ONCE


@pytest.mark.parametrize(
    ("condition", "fits", "does_not"),
    [
        (Condition(field="x", equals="a"), ["a"], ["b", 1, True, ""]),
        (Condition(field="x", equals=1), [1], [True, "1", 2]),
        (Condition(field="x", equals=True), [True], [1, "true", False]),
        (Condition(field="x", one_of=["a", 2]), ["a", 2], ["b", True, "2"]),
        (Condition(field="x", at_least=2), [2, 3], [1, True, "3"]),
        (Condition(field="x", at_least=0), [0], [-1, False]),
    ],
)
def test_a_condition_is_exact_about_types(condition: Condition, fits: list[Any], does_not: list[Any]) -> None:
    assert all(condition.allows(value) for value in fits)
    assert not any(condition.allows(value) for value in does_not)


def test_a_condition_is_told_as_it_was_written() -> None:
    raw = b'{"field":"sku","in":["tea",1,true]}'
    told = msgspec.json.decode(raw, type=Condition)
    assert told.one_of == ["tea", 1, True]
    assert msgspec.to_builtins(told)["in"] == ["tea", 1, True]


def test_values_are_found_in_structs_mappings_and_lists() -> None:
    assert values_at(paid("ann", "o1", "tea", "cup"), "lines.sku") == ["tea", "cup"]
    assert values_at({"a": {"b": [1, "x", None, 2.5]}}, "a.b") == [1, "x"]
    assert values_at({"a": None}, "a.b") == values_at({}, "a") == values_at("text", "a") == []


def test_long_values_are_kept_short_and_stay_different() -> None:
    task = a_task(event_type="page.viewed", distinct_by="page")
    long = "x" * MAX_VALUE_CHARACTERS

    def value(page: str) -> str:
        one = Occurrence(
            occurrence_id="1", user_id="ann", type="page.viewed", at=NOW, counted_at=NOW, data={"page": page}
        )
        (counting,) = judge(task, one, NOW, ZONE).countings
        return counting.value

    found = [value(page) for page in (long, long + "a", long + "b", "#", "")]
    assert found[0] == long
    assert len(set(found)) == len(found)
    assert all(len(one) <= MAX_VALUE_CHARACTERS for one in found)
    assert value(found[1]) != found[1], "no value can pretend to be the hash of another"


def test_what_takes_back_says_so_by_both_ways() -> None:
    assert undo_keys("shop.order_refunded", {"order_id": "o1", "is_whole": True}) == [
        "any:shop.order_refunded:o1",
        "whole:shop.order_refunded:o1",
    ]
    assert undo_keys("shop.order_refunded", {"order_id": "o1", "is_whole": False}) == ["any:shop.order_refunded:o1"]
    assert undo_keys("flash_sale.claim_refunded", {}) == undo_keys("shop.order_paid", {"order_id": "o1"}) == []


def test_everything_that_takes_back_is_an_event_with_that_field() -> None:
    known = catalogue()
    for event in known.values():
        undone_by, key = event.facts.undone_by, event.facts.key
        assert (undone_by is None) is (key is None)
        if undone_by is not None and key is not None:
            assert event.fields[key] is FieldKind.TEXT
            assert known[undone_by].fields[key] is FieldKind.TEXT
            assert undoers()[undone_by] == key


def test_deeds_are_told_for_what_rules_ask() -> None:
    assert deed_of("content.shared") == (Deed.SHARE, False)
    assert deed_of("referral.bound") == (Deed.OPEN, True)
    assert deed_of("referral.suspected") == (Deed.OTHER, True)
    assert deed_of("checkin.checked_in") == (Deed.OTHER, False)


def test_keys_of_grants_name_no_shopper_and_differ_by_attempt() -> None:
    keys = [key for attempt in (1, 2) for key in grant_keys(new_id(NOW), attempt, 5)]
    assert len(set(keys)) == len(keys)


def test_every_sound_draft_passes_and_an_edit_of_an_open_task_keeps_its_promise() -> None:
    task = a_task()
    draft = a_draft(opens_at=task.opens_at)
    assert faults(draft) == []
    keep_window(TASKS, task, msgspec.structs.replace(draft, title="Other", closes_at=NOW + timedelta(days=1)), NOW)
    for change in (
        {"count": 9},
        {"reward": [PointsReward(points=1)]},
        {"event_type": "app.opened"},
        {"period": "daily"},
        {"filter": [Condition(field="sku", equals="tea")]},
        {"closes_at": NOW},
    ):
        with pytest.raises(Refusal, match=r"task\.locked_field"):
            keep_window(TASKS, task, msgspec.structs.replace(draft, **change), NOW)
    with pytest.raises(Refusal, match=r"task\.wrong_state"):
        keep_window(TASKS, msgspec.structs.replace(task, state="ended"), draft, NOW)
    keep_window(TASKS, msgspec.structs.replace(task, state="draft"), msgspec.structs.replace(draft, count=9), NOW)


def test_a_page_shows_no_more_than_is_asked_for() -> None:
    task = a_task(count=3)
    assert page(task, 7, "rewarded", NOW, ZONE).done == 3
    over = task.closes_at + timedelta(seconds=1)
    assert [page(task, 1, state, over, ZONE).state for state in ("open", "done", "rewarded")] == [
        "ended",
        "done",
        "rewarded",
    ]
