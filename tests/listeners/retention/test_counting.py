"""Cohorts, days of life, and what is not ripe: by hand."""

import asyncio
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from growth.listeners.retention import person as shopper
from growth.listeners.retention.model import MAX_DAY
from growth.listeners.retention.report.answers import RetentionMatrix
from growth.listeners.retention.report.model import MAX_GROUPS, newcombe
from growth.listeners.retention.report.service import MAX_INVITEES, TOO_MANY_INVITEES, Question
from growth.listeners.retention.source import store as source_store
from growth.listeners.retention.source.store import MAX_SMALL, MAX_SOURCES
from growth.vocabulary.facts import FunnelStage
from growth.vocabulary.refusals import Refusal
from tests.listeners.retention.conftest import Room, a_room, at, bound, registered, sighting, step

pytestmark = pytest.mark.anyio


async def asked(room: Room, now: str, **question: Any) -> RetentionMatrix:
    return await room.reports.matrix(Question(first=date(2026, 3, 1), **question), at(f"{now} 12:00"))


def counts(matrix: RetentionMatrix) -> Mapping[str, list[int | None]]:
    return {
        f"{row.start:%m-%d}{' ' + row.group if row.group else ''}": [
            row.size,
            *(None if cell is None else cell.count for cell in row.days.values()),
        ]
        for row in matrix.cohorts
    }


async def test_day_n_is_counted_from_the_first_visit(room: Room) -> None:
    await room.see(*(sighting("ann", f"2026-03-0{day}") for day in (1, 2, 4)), sighting("bob", "2026-03-01"))
    assert counts(await asked(room, "2026-03-05", days=4)) == {"03-01": [2, 2, 1, 0, 1, None]}
    after = await asked(room, "2026-03-05", days=4, metric="on_or_after")
    assert counts(after) == {"03-01": [2, 2, 1, 1, 1, None]}


async def test_a_day_that_is_not_over_dilutes_nothing(room: Room) -> None:
    """PostHog #58970: shoppers too young for day 7 were counted as lost on day 7."""
    old = [sighting(f"old{number}", f"2026-03-{day:02}") for number in range(4) for day in (1, 8)]
    young = [sighting(f"young{number}", "2026-03-05") for number in range(96)]
    await room.see(*old, *young)
    matrix = await asked(room, "2026-03-10", days=7)
    assert [row.days[7] and row.days[7].rate for row in matrix.cohorts] == [1.0, None]
    pooled = matrix.totals[0].days[7]
    assert pooled is not None
    assert (pooled.count, pooled.size, pooled.rate) == (4, 4, 1.0)


async def test_day_n_is_ripe_when_it_is_over_and_not_before(room: Room) -> None:
    await room.see(sighting("ann", "2026-03-01"), sighting("ann", "2026-03-02 23:59"))
    assert counts(await asked(room, "2026-03-01", days=1)) == {"03-01": [1, None, None]}
    assert counts(await asked(room, "2026-03-02", days=1)) == {"03-01": [1, 1, None]}
    assert counts(await asked(room, "2026-03-03", days=1)) == {"03-01": [1, 1, 1]}


async def test_a_week_is_ripe_when_day_n_is_over_for_those_who_came_on_sunday(room: Room) -> None:
    # Monday and Sunday of one week.
    await room.see(*(sighting("ann", f"2026-03-{day:02}") for day in (2, 3, 5)), sighting("bob", "2026-03-08"))
    early = await asked(room, "2026-03-09", cohort="week", days=3)
    late = await asked(room, "2026-03-12", cohort="week", days=3)
    assert counts(early) == {"03-02": [2, 2, None, None, None]}
    assert counts(late) == {"03-02": [2, 2, 1, 0, 1]}
    assert (late.cohorts[0].end, late.from_) == (date(2026, 3, 8), date(2026, 2, 23))


async def test_what_comes_late_moves_the_first_day_and_all_that_hangs_on_it(room: Room) -> None:
    await room.see(sighting("ann", "2026-03-03"), sighting("ann", "2026-03-05", "checkin"))
    assert counts(await asked(room, "2026-03-20", days=4)) == {"03-03": [1, 1, 0, 1, 0, 0]}
    await room.see(sighting("ann", "2026-03-01"))
    assert counts(await asked(room, "2026-03-20", days=4)) == {"03-01": [1, 1, 0, 1, 0, 1]}


async def test_a_day_ends_at_midnight_of_the_shop(room: Room) -> None:
    await room.see(sighting("ann", "2026-03-01 23:59"), sighting("ann", "2026-03-02 00:01"))
    assert counts(await asked(room, "2026-03-05", days=1)) == {"03-01": [1, 1, 1]}


async def test_days_stay_those_of_the_zone_in_which_counting_began(room: Room) -> None:
    await room.see(sighting("ann", "2026-03-01 23:00"))
    elsewhere = a_room(room.database, "America/New_York")
    await elsewhere.see(sighting("ann", "2026-03-02 01:00"))
    matrix = await asked(elsewhere, "2026-03-05", days=1)
    assert (matrix.zone, counts(matrix)) == ("Asia/Shanghai", {"03-01": [1, 1, 1]})


async def test_cohorts_by_source_inviter_and_first_mechanic(room: Room) -> None:
    await room.see(
        registered("ann", "2026-03-01", "poster"),
        registered("bob", "2026-03-01"),
        sighting("ann", "2026-03-02", "checkin"),
        sighting("bob", "2026-03-02", "task"),
        bound("bob", "2026-03-03", "ann"),
        sighting("cat", "2026-03-01"),
    )
    assert counts(await asked(room, "2026-03-09", days=0, split="source")) == {
        "03-01 poster": [1, 1],
        "03-01 unknown": [2, 2],
    }
    by_mechanic = await asked(room, "2026-03-09", days=0, split="mechanic")
    assert counts(by_mechanic) == {"03-01 checkin": [1, 1], "03-01 none": [1, 1], "03-01 task": [1, 1]}
    assert by_mechanic.warning is not None
    assert counts(await asked(room, "2026-03-09", days=0, split="inviter")) == {
        "03-01 invited": [1, 1],
        "03-01 not invited": [2, 2],
    }
    for question, size in (
        ({"source": "poster"}, 1),
        ({"source": "unknown"}, 2),
        ({"source": "unknown", "mechanic": "task", "inviter": "any"}, 1),
        ({"mechanic": "none", "inviter": "none"}, 1),
        ({"inviter": "ann"}, 1),
    ):
        assert sum(row.size for row in (await asked(room, "2026-03-09", **question)).cohorts) == size, question
    assert (await asked(room, "2026-03-09", source="nowhere")).cohorts == []


async def test_sources_beyond_the_first_are_counted_together(room: Room) -> None:
    await room.see(*(registered(f"u{number}", "2026-03-01", f"s{number:03}") for number in range(MAX_SOURCES + 50)))
    await room.see(registered("late", "2026-03-01", "one more"))
    matrix = await asked(room, "2026-03-09", days=1, split="source")
    assert {(row.group, row.group_kind): row.size for row in matrix.cohorts if row.size > 1} == {
        ("(others)", "others"): MAX_SOURCES + 51 - MAX_GROUPS,
    }
    assert sum(row.size for row in matrix.cohorts) == MAX_SOURCES + 51


async def test_made_up_sources_do_not_keep_a_real_new_one_out(room: Room) -> None:
    """A shop passes on what links say; 260 made-up names took every number there was, for ever."""
    await room.see(*(registered(f"old{number}", "2026-03-01", "poster") for number in range(30)))
    await room.see(*(registered(f"false{number}", "2026-03-01", f"made up {number}") for number in range(260)))
    for number in range(30):
        await room.see(registered(f"new{number}", "2026-03-02", "autumn campaign"))
        await room.see(registered(f"late{number}", "2026-03-02", f"made up too {number}"))
    matrix = await asked(room, "2026-03-09", days=1, split="source")
    sizes = {total.group: total.size for total in matrix.totals}
    assert (sizes["poster"], sizes["autumn campaign"]) == (30, 30)
    assert sum(sizes.values()) == 30 + 260 + 60
    (only,) = (await asked(room, "2026-03-09", source="autumn campaign")).totals
    assert only.size == 30
    assert await room.database.fetchval("SELECT count(*) FROM retention.sources WHERE source > 1") == MAX_SOURCES


async def test_a_source_that_many_came_from_never_gives_way(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_store, "MAX_SOURCES", 2)
    many = [registered(f"u{number}", "2026-03-01", "a" if number % 2 else "b") for number in range(2 * MAX_SMALL + 2)]
    await room.see(*many)
    await room.see(registered("late", "2026-03-01", "c"))
    matrix = await asked(room, "2026-03-09", days=1, split="source")
    assert {total.group: total.size for total in matrix.totals} == {"a": 11, "b": 11, "(others)": 1}
    # Without that bound, somebody's large source would be lost to one name.
    monkeypatch.setattr(source_store, "MAX_SMALL", 1_000)
    await room.see(registered("later", "2026-03-01", "d"))
    matrix = await asked(room, "2026-03-09", days=1, split="source")
    assert {total.group: total.size for total in matrix.totals}["(others)"] == 12


WORDS = ["unknown", "other", "(others)", "none", "any", "not_told", "name"]


async def test_a_source_may_be_called_what_we_call_those_without_one(room: Room) -> None:
    await room.see(*(sighting(f"quiet{number}", "2026-03-01") for number in range(55)))
    await room.see(*(registered(f"u{number}", "2026-03-01") for number in range(5)))
    await room.see(*(registered(f"{word}{n}", "2026-03-01", word) for n in range(2) for word in WORDS))
    matrix = await asked(room, "2026-03-09", days=1, split="source")
    groups = {(total.group, total.group_kind): total.size for total in matrix.totals}
    assert groups == {("unknown", "not_told"): 60} | {(word, "name"): 2 for word in WORDS}
    assert len(matrix.totals) == len(groups)
    for question, size in ({"source": "unknown"}, 60), *(({"source_name": word}, 2) for word in WORDS):
        split = await asked(room, "2026-03-09", split="source", **question)
        assert [total.size for total in split.totals] == [size], question
        whole = await asked(room, "2026-03-09", **question)
        assert [total.size for total in whole.totals] == [size], question


async def test_an_inviter_may_be_called_any_or_none(room: Room) -> None:
    await room.see(bound("ann", "2026-03-01", "any"), bound("bob", "2026-03-01", "none"), sighting("cat", "2026-03-01"))
    await room.see(bound("dan", "2026-03-01", "any"))
    for question, size in (
        ({"inviter": "any"}, 3),
        ({"inviter": "none"}, 1),
        ({"inviter_id": "any"}, 2),
        ({"inviter_id": "none"}, 1),
    ):
        assert [one.size for one in (await asked(room, "2026-03-09", **question)).totals] == [size], question


async def test_days_beyond_the_matrix_change_no_cell(room: Room) -> None:
    await room.see(sighting("ann", "2026-03-01"), sighting("ann", "2027-03-02"))
    last = await asked(room, "2027-03-09", last=date(2026, 3, 1), days=MAX_DAY, metric="on_or_after")
    assert counts(last)["03-01"][-1] == 1
    actives = await room.reports.actives(first=date(2027, 3, 2), last=date(2027, 3, 2), now=at("2027-03-09 12:00"))
    assert (actives.days[0].daily, actives.days[0].monthly, actives.days[0].new) == (1, 1, 0)


async def test_effects_compare_those_who_took_part_early_with_all_others(room: Room) -> None:
    for number in range(10):
        back = [sighting(f"in{number}", "2026-03-08")] if number < 6 else []
        await room.see(sighting(f"in{number}", "2026-03-01"), sighting(f"in{number}", "2026-03-03", "checkin"), *back)
        back = [sighting(f"out{number}", "2026-03-08", "checkin")] if number < 2 else []
        await room.see(sighting(f"out{number}", "2026-03-01"), *back)
    found = await room.reports.effects(
        metric="on", day=7, within_days=3, first=None, last=None, now=at("2026-03-10 12:00")
    )
    checkin = next(one for one in found.effects if one.mechanic == "checkin")
    assert (checkin.took_part.size, checkin.took_part.retained, checkin.others.retained) == (10, 6, 2)
    assert checkin.difference == pytest.approx(0.4)
    assert checkin.interval is not None
    assert checkin.difference is not None
    assert checkin.interval[0] < 0 < checkin.difference < checkin.interval[1]
    assert "not an experiment" in found.warning
    early = await room.reports.effects(
        metric="on", day=7, within_days=2, first=None, last=None, now=at("2026-03-10 12:00")
    )
    assert next(one for one in early.effects if one.mechanic == "checkin").took_part.size == 0


def test_the_interval_of_a_difference_is_newcombes() -> None:
    # Table II of the paper: 56 of 70 and 48 of 80, by method 10.
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


async def test_a_funnel_asks_for_its_steps_in_order_and_in_time(room: Room) -> None:
    await room.see(
        *(
            step("ann", f"2026-03-0{day}", taken)
            for day, taken in ((2, FunnelStage.VIEWED), (3, FunnelStage.CLAIMED), (4, FunnelStage.PAID))
        ),
        step("bob", "2026-03-02 09:00", FunnelStage.CLAIMED),
        step("bob", "2026-03-02 10:00", FunnelStage.VIEWED),
        step("cat", "2026-03-02", FunnelStage.VIEWED),
        step("cat", "2026-03-09", FunnelStage.CLAIMED),
        bound("dan", "2026-03-03", "ann"),
        step("dan", "2026-03-05", FunnelStage.BOUGHT),
    )
    now = at("2026-03-20 12:00")
    found = await room.reports.funnels(cohort="week", within_days=5, first=date(2026, 3, 1), last=None, now=now)
    purchase, invitation = found.funnels
    assert [(one.step, one.count) for one in purchase.total] == [("viewed", 3), ("claimed", 1), ("paid", 1)]
    assert [(one.step, one.count) for one in invitation.total] == [("invited", 1), ("bound", 1), ("bought", 1)]
    # The view that was seen first came late: now the claim follows it.
    await room.see(step("bob", "2026-03-02 08:00", FunnelStage.VIEWED))
    found = await room.reports.funnels(cohort="week", within_days=7, first=date(2026, 3, 1), last=None, now=now)
    assert [one.count for one in found.funnels[0].total] == [3, 3, 1]
    soon = await room.reports.funnels(
        cohort="week", within_days=7, first=date(2026, 3, 1), last=None, now=at("2026-03-15 12:00")
    )
    assert [one.count for one in soon.funnels[0].cohorts[0].steps] == [3, None, None]


async def test_two_accounts_of_one_person_become_one_shopper(room: Room) -> None:
    await room.see(registered("old", "2026-03-01", "poster"), sighting("new", "2026-03-04", "task"))
    await room.merge("old", "new")
    await room.merge("old", "new")
    await room.see(sighting("old", "2026-03-05"))
    matrix = await asked(room, "2026-03-20", days=4, split="source")
    assert counts(matrix) == {"03-01 poster": [1, 1, 0, 0, 1, 1]}
    told = await shopper.export(room.database, "new")
    assert told is not None
    assert (told.source, told.first_mechanic, told.days) == ("poster", "task", 3)
    assert told.active_days[0].by == ["app"]


async def test_an_erasure_changes_no_count_and_leaves_no_id(room: Room) -> None:
    await room.see(
        registered("ann", "2026-03-01", "poster"), sighting("ann", "2026-03-02"), bound("bob", "2026-03-01", "ann")
    )
    before = counts(await asked(room, "2026-03-20"))
    await room.merge("anna", "ann")
    await room.erase("ann", "erased:1")
    await room.erase("ann", "erased:2")
    assert counts(await asked(room, "2026-03-20")) == before
    assert await shopper.export(room.database, "ann") is None
    left = await room.database.fetch(
        """
        SELECT user_id FROM retention.shoppers WHERE 'ann' IN (user_id, inviter)
        UNION ALL
        SELECT user_id FROM retention.former_ids
        """
    )
    assert left == []


async def test_nobody_is_lost_when_64_tell_of_the_same_shoppers_at_once(room: Room) -> None:
    seen = [sighting(f"u{number % 16}", f"2026-03-{1 + number % 9:02}") for number in range(144)]
    await asyncio.gather(*(room.see(*seen[turn:], *seen[:turn]) for turn in range(64)))
    assert (await asked(room, "2026-03-20")).totals[0].size == 16


async def test_one_inviter_with_very_many_invitees_is_refused(room: Room) -> None:
    await room.see(*(bound(f"u{number}", "2026-03-01", "zoe") for number in range(MAX_INVITEES + 1)))
    with pytest.raises(Refusal) as refused:
        await asked(room, "2026-03-20", inviter="zoe")
    assert refused.value.kind is TOO_MANY_INVITEES
