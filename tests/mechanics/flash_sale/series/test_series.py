"""Series make sales by their timetable, once each, and operators stay in charge."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from growth.kit.campaign import store as campaigns
from growth.mechanics.flash_sale.model import Protection, Sale
from growth.mechanics.flash_sale.series import service
from growth.mechanics.flash_sale.series import store as series_store
from growth.mechanics.flash_sale.series.model import Series
from growth.mechanics.flash_sale.series.service import SeriesService
from growth.mechanics.flash_sale.series.timetable import DAYS
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act, AuditEntry, AuditFilter
from growth.plumbing.work.periodic import LeaseLost
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.kit.outcomes import refusal
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.conftest import Room
from tests.mechanics.flash_sale.series.test_plans import NOW, a_plan, an_item

pytestmark = pytest.mark.anyio

OPERATOR = Operator("olga", Role.EDITOR)
WEEK = timedelta(days=7)
FIRST = datetime.fromisoformat("2026-11-25T12:00:00+00:00")
"""The first Wednesday after `NOW`, 20:00 in Shanghai."""


def act(moment: datetime = NOW) -> Act:
    return Act(OPERATOR, moment, "req-1", "because")


@pytest.fixture
def series(room: Room) -> SeriesService:
    return another(room)


def another(room: Room) -> SeriesService:
    return SeriesService(room.database, room.stock, room.sales)


async def draft(series: SeriesService, **changes: Any) -> Series:
    return (await series.create(act(), a_plan(**changes), None, b"")).answer


async def published(series: SeriesService, moment: datetime = NOW, **changes: Any) -> Series:
    made = await draft(series, **changes)
    return await series.publish(act(moment), made.series_id)


async def plan(room: Room, moment: datetime) -> int:
    return await another(room).plan_due(await leading_at(room.database, moment))


async def sales_of(room: Room, made: Series) -> list[Sale]:
    """The sales of a series, by opening and SKU."""
    sales = await sales_store.page_of_sales(
        room.database, state=None, series_id=made.series_id, before=None, limit=1000
    )
    return sorted(sales, key=lambda sale: (sale.opens_at, sale.sku))


async def opens(room: Room, made: Series) -> list[datetime]:
    return [sale.opens_at for sale in await sales_of(room, made)]


async def states(room: Room, made: Series) -> list[str]:
    return [sale.state for sale in await sales_of(room, made)]


async def events(room: Room) -> list[str]:
    rows = await room.database.fetch("SELECT type FROM plumbing.outbox ORDER BY xid, position")
    return [row["type"].removeprefix("flash_sale.") for row in rows]


async def audited(room: Room, subject: str) -> Sequence[AuditEntry]:
    """What was done to it, first things first."""
    entries = await audit.page(room.database, AuditFilter(subject=subject), before_entry=None, limit=100)
    return entries[::-1]


# --- planning -------------------------------------------------------------------------------------------------------


async def test_publishing_plans_the_next_rounds_at_once(room: Room, series: SeriesService) -> None:
    made = await published(
        series,
        plan_ahead_days=14,
        items=[an_item(), an_item(sku="milk", title="Milk", price_fen=1, max_per_shopper=2)],
        hold_seconds=90,
        late_payment="refund",
        refund_returns_units=True,
        reminder_lead_seconds=60,
        protection={"draw_seconds": 5},
    )
    assert made.state == "published"
    assert made.planned_until == NOW + 2 * WEEK
    sales = await sales_of(room, made)
    assert [(sale.opens_at, sale.sku) for sale in sales] == [
        (FIRST, "milk"),
        (FIRST, "tea"),
        (FIRST + WEEK, "milk"),
        (FIRST + WEEK, "tea"),
    ]
    milk = sales[0]
    assert (milk.state, milk.title, milk.price_fen, milk.units_total) == ("published", "Milk", 1, 100)
    assert (milk.max_per_shopper, milk.hold_seconds, milk.late_payment) == (2, 90, "refund")
    assert (milk.refund_returns_units, milk.reminder_lead_seconds) == (True, 60)
    assert milk.protection == Protection(draw_seconds=5)
    assert milk.closes_at - milk.opens_at == timedelta(hours=1)
    assert await events(room) == ["published"] * 4
    (entry,) = await audited(room, milk.sale_id)
    assert (entry.operator, entry.action) == ("series", "flash_sale.publish")
    assert made.series_id in entry.reason


async def test_the_clock_plans_on_and_nothing_twice(room: Room, series: SeriesService) -> None:
    made = await published(series)
    assert await opens(room, made) == [FIRST]
    for days in range(22):
        for _ in range(2):
            await plan(room, NOW + timedelta(days=days))
    assert await opens(room, made) == [FIRST + n * WEEK for n in range(4)]


async def test_a_round_is_planned_early_enough_whatever_the_step(room: Room, series: SeriesService) -> None:
    made = await published(series, plan_ahead_days=1)
    assert await opens(room, made) == []
    # Once the round is as near as the plan says, but for a step.
    await plan(room, FIRST - timedelta(days=1) + service.PLAN_STEP)
    assert await opens(room, made) == [FIRST]


async def test_many_workers_and_operators_at_once_plan_each_sale_once(room: Room, series: SeriesService) -> None:
    made = await draft(series, days_of_week=["mon", "wed", "fri"], items=[an_item(), an_item(sku="milk")])
    turn = await leading_at(room.database, NOW + timedelta(days=3))
    publishing = asyncio.gather(
        *[another(room).publish(act(), made.series_id) for _ in range(4)], return_exceptions=True
    )
    await asyncio.gather(publishing, *[another(room).plan_due(turn) for _ in range(4)])
    assert sum(isinstance(answer, Series) for answer in await publishing) == 1
    await another(room).plan_due(turn)
    planned = [(sale.opens_at, sale.sku) for sale in await sales_of(room, made)]
    # From Friday 20 to Monday 30 at midnight: 20, 23, 25 and 27.
    assert len(planned) == len(set(planned)) == 2 * 4


async def test_even_a_forgotten_plan_makes_no_sale_twice(room: Room, series: SeriesService) -> None:
    made = await published(series)
    await room.database.fetch("UPDATE flash_sale.series SET planned_until = $1", NOW)
    await plan(room, NOW)
    assert await opens(room, made) == [FIRST]
    assert (await series.shown(made.series_id, NOW)).skipped == []


async def test_after_an_outage_only_rounds_to_come_are_planned(room: Room, series: SeriesService) -> None:
    made = await published(series)
    await plan(room, FIRST + 4 * WEEK - timedelta(hours=1))
    assert await opens(room, made) == [FIRST, FIRST + 4 * WEEK]


async def test_planning_killed_anywhere_has_not_happened(
    room: Room, series: SeriesService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await draft(series, items=[an_item(), an_item(sku="milk")])
    for module, step in ((sales_store, "add_sale"), (series_store, "set_planned"), (campaigns, "move")):
        done = getattr(module, step)

        async def die(*args: Any, done: Any = done, **kwargs: Any) -> None:
            await done(*args, **kwargs)
            raise _Killed

        with monkeypatch.context() as broken:
            broken.setattr(module, step, die)
            with pytest.raises(_Killed):
                await series.publish(act(), made.series_id)
        assert (await series.shown(made.series_id, NOW)).state == "draft"
        assert await opens(room, made) == []
    await series.publish(act(), made.series_id)
    assert await opens(room, made) == [FIRST, FIRST]


class _Killed(Exception):
    pass


async def test_a_series_that_fails_does_not_hold_up_the_others(
    room: Room, series: SeriesService, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = [await published(series, items=[an_item(sku=sku)]) for sku in ("tea", "milk")]
    add_sale = sales_store.add_sale

    async def add_or_die(*args: Any) -> Sale | None:
        if args[4] == broken.series_id:
            raise _Killed
        return await add_sale(*args)

    monkeypatch.setattr(sales_store, "add_sale", add_or_die)
    with pytest.raises(_Killed):
        await plan(room, NOW + WEEK)
    assert len(await opens(room, broken)) == 1
    assert len(await opens(room, sound)) == 2


async def test_a_worker_that_lost_its_lease_plans_nothing(room: Room, series: SeriesService) -> None:
    made = await published(series)
    turn = await leading_at(room.database, NOW + WEEK)
    await room.database.fetch("UPDATE plumbing.leases SET fence = fence + 1")
    with pytest.raises(LeaseLost):
        await series.plan_due(turn)
    assert await opens(room, made) == [FIRST]


async def test_a_series_ends_with_its_last_round(room: Room, series: SeriesService) -> None:
    made = await published(series, until_day="2026-11-26")
    close = FIRST + timedelta(hours=1)
    await plan(room, close - timedelta(minutes=1))
    assert (await series.shown(made.series_id, NOW)).state == "published"
    later = close + service.PLAN_STEP
    await plan(room, later)
    found = await series.shown(made.series_id, NOW)
    assert (found.state, found.ended_at) == ("ended", later)
    assert (await audited(room, made.series_id))[-1].operator == "series"


# --- rounds that cannot be ------------------------------------------------------------------------------------------


async def test_a_round_whose_sku_is_on_sale_is_skipped_and_told(room: Room, series: SeriesService) -> None:
    other = await world.put_sale(room.database, sku="tea", opens_at=FIRST + timedelta(minutes=30))
    made = await published(series, plan_ahead_days=14, items=[an_item(), an_item(sku="milk")])
    planned = [(sale.opens_at, sale.sku) for sale in await sales_of(room, made)]
    assert planned == [(FIRST, "milk"), (FIRST + WEEK, "milk"), (FIRST + WEEK, "tea")]
    (skipped,) = (await series.shown(made.series_id, NOW)).skipped
    assert (skipped.opens_at, skipped.sku, skipped.sale_id) == (FIRST, "tea", other.sale_id)
    entry = (await audited(room, made.series_id))[-1]
    assert (entry.operator, entry.action) == ("series", "flash_sale_series.skip_round")
    assert other.sale_id in entry.reason
    assert entry.after["sku"] == "tea"
    # Looked at again and again, told once.
    await plan(room, NOW + timedelta(hours=1))
    assert [one.action for one in await audited(room, made.series_id)].count("flash_sale_series.skip_round") == 1


async def test_a_skipped_round_is_planned_once_the_other_sale_is_gone(room: Room, series: SeriesService) -> None:
    other = await world.put_sale(room.database, sku="tea", opens_at=FIRST)
    made = await published(series)
    assert await opens(room, made) == []
    assert await plan(room, NOW + timedelta(minutes=1)) == 0
    await room.sales.end(act(), other.sale_id)
    assert await plan(room, NOW + timedelta(minutes=2)) == 1
    assert await opens(room, made) == [FIRST]
    assert (await series.shown(made.series_id, NOW)).skipped == []


@pytest.mark.parametrize("why", ["too late", "paused"])
async def test_a_skipped_round_stays_so_when_it_is(room: Room, series: SeriesService, why: str) -> None:
    other = await world.put_sale(room.database, sku="tea", opens_at=FIRST)
    made = await published(series)
    await room.sales.end(act(), other.sale_id)
    if why == "paused":
        await series.pause(act(), made.series_id)
    await plan(room, FIRST if why == "too late" else NOW)
    assert FIRST not in await opens(room, made)


async def test_notes_of_skipped_rounds_are_forgotten_in_time(room: Room, series: SeriesService) -> None:
    await world.put_sale(room.database, sku="tea", opens_at=FIRST)
    await published(series, until_day="2026-11-26")
    await plan(room, FIRST + service.SKIPPED_KEPT)
    assert await room.database.fetchval("SELECT count(*) FROM flash_sale.skipped_rounds") == 1
    await plan(room, FIRST + service.SKIPPED_KEPT + timedelta(seconds=1))
    assert await room.database.fetchval("SELECT count(*) FROM flash_sale.skipped_rounds") == 0


# --- operators ------------------------------------------------------------------------------------------------------


async def test_an_edit_is_about_rounds_not_planned_yet(room: Room, series: SeriesService) -> None:
    made = await published(series)
    changed = await series.change(act(), made.series_id, made.version, a_plan(start_time="21:00", title="Later tea"))
    assert (changed.title, changed.version, changed.planned_until) == ("Later tea", made.version + 1, NOW + WEEK)
    hour = timedelta(hours=1)
    await plan(room, NOW + WEEK)
    assert await opens(room, made) == [FIRST, FIRST + WEEK + hour]


async def test_an_older_version_changes_nothing(room: Room, series: SeriesService) -> None:
    made = await published(series)
    with pytest.raises(Refusal) as refused:
        await series.change(act(), made.series_id, made.version - 1, a_plan(title="Mine"))
    assert refused.value.kind.code == "flash_sale.series_version_mismatch"
    assert refused.value.kind.status == 412
    got = await asyncio.gather(
        *[another(room).change(act(), made.series_id, made.version, a_plan(title=f"t{n}")) for n in range(16)],
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Series) for answer in got) == 1


async def test_pausing_stops_planning_and_pauses_what_has_not_opened(room: Room, series: SeriesService) -> None:
    made = await published(series, plan_ahead_days=14)
    in_the_first = FIRST + timedelta(minutes=1)
    paused = await series.pause(act(in_the_first), made.series_id)
    assert paused.state == "paused"
    assert await states(room, made) == ["published", "paused"]
    await plan(room, FIRST + 2 * WEEK)
    assert len(await opens(room, made)) == 2
    resumed = await series.resume(act(in_the_first + timedelta(minutes=1)), made.series_id)
    assert resumed.state == "published"
    # And the round that came near meanwhile.
    assert await states(room, made) == ["published"] * 3
    sale = (await sales_of(room, made))[1]
    assert [entry.action for entry in await audited(room, sale.sale_id)] == [
        "flash_sale.publish",
        "flash_sale.pause",
        "flash_sale.resume",
    ]
    assert await events(room) == ["published", "published", "paused", "resumed", "published"]


async def test_what_an_operator_paused_alone_stays_paused(room: Room, series: SeriesService) -> None:
    made = await published(series, plan_ahead_days=14)
    first, second = await sales_of(room, made)
    await room.sales.pause(act(), first.sale_id)
    await series.pause(act(), made.series_id)
    await series.resume(act(), made.series_id)
    assert await states(room, made) == ["paused", "published"]
    # Nor is a sale that an operator ended meanwhile brought back.
    await series.pause(act(), made.series_id)
    await room.sales.end(act(), second.sale_id)
    await series.resume(act(), made.series_id)
    assert await states(room, made) == ["paused", "ended"]


async def test_resuming_late_resumes_what_is_on_and_passes_over_what_was_missed(
    room: Room, series: SeriesService
) -> None:
    made = await published(series, plan_ahead_days=14, duration_minutes=3 * 24 * 60)
    await series.pause(act(), made.series_id)
    # The first round has closed, the second is on, the third was never planned.
    late = FIRST + WEEK + timedelta(days=1)
    await series.resume(act(late), made.series_id)
    assert await states(room, made) == ["paused", "published", "published", "published"]
    assert await opens(room, made) == [FIRST + n * WEEK for n in range(4)]
    again = await series.pause(act(late), made.series_id)
    much_later = late + 10 * WEEK
    await series.resume(act(much_later), again.series_id)
    assert (await opens(room, made))[4:] == [FIRST + 12 * WEEK, FIRST + 13 * WEEK]


async def test_redis_hears_of_what_a_series_pauses(room: Room, series: SeriesService) -> None:
    # By the true clock: Redis forgets a sale two days after its close, one of the past at once.
    moment = now()
    made = await published(series, moment, from_day=f"{moment:%Y-%m-%d}", days_of_week=list(DAYS))
    sale = (await sales_of(room, made))[-1]
    await room.loader.load(sale.sale_id)
    key = f"flash_sale:{{{sale.sale_id}}}:sale"
    await series.pause(act(moment), made.series_id)
    assert await room.redis.hget(key, "state") == b"paused"
    await series.resume(act(moment), made.series_id)
    assert await room.redis.hget(key, "state") == b"published"
    await series.end(act(moment), made.series_id)
    assert await room.redis.hget(key, "state") == b"ended"


@pytest.mark.parametrize("first_paused", [False, True])
async def test_ending_ends_what_has_not_opened_and_nothing_else(
    room: Room, series: SeriesService, *, first_paused: bool
) -> None:
    made = await published(series, plan_ahead_days=14)
    moment = FIRST + timedelta(minutes=1)
    if first_paused:
        # Paused with its series before it opened, it never did.
        await series.pause(act(), made.series_id)
    ended = await series.end(act(moment), made.series_id)
    assert (ended.state, ended.ended_at) == ("ended", moment)
    assert await states(room, made) == ["ended" if first_paused else "published", "ended"]
    assert await plan(room, FIRST + 3 * WEEK) == 0
    assert (await events(room)).count("ended") == 1 + first_paused


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        ("draft", {"pause", "resume"}),
        ("published", {"publish", "resume"}),
        ("paused", {"publish", "pause"}),
        ("ended", {"publish", "pause", "resume", "end", "change"}),
    ],
)
async def test_steps_that_a_state_does_not_allow_are_refused(
    room: Room, series: SeriesService, state: str, refused: set[str]
) -> None:
    made = await draft(series)
    for step in {"draft": [], "published": ["publish"], "paused": ["publish", "pause"], "ended": ["end"]}[state]:
        made = await getattr(series, step)(act(), made.series_id)
    assert made.state == state
    for step in refused - {"change"}:
        assert await refusal(getattr(series, step)(act(), made.series_id)) == "flash_sale.series_wrong_state"
    if "change" in refused:
        changing = series.change(act(), made.series_id, made.version, a_plan())
        assert await refusal(changing) == "flash_sale.series_wrong_state"
    assert (await series.shown(made.series_id, NOW)).version == made.version


async def test_a_series_without_rounds_to_come_is_not_published(room: Room, series: SeriesService) -> None:
    made = await draft(series, until_day="2026-11-26")
    late = act(FIRST + timedelta(hours=1))
    assert await refusal(series.publish(late, made.series_id)) == "flash_sale.no_rounds_left"
    assert (await series.shown(made.series_id, NOW)).state == "draft"


async def test_lists_are_newest_first_and_filtered(room: Room, series: SeriesService) -> None:
    made = [await draft(series, title=f"t{n}") for n in range(3)]
    await series.end(act(), made[1].series_id)
    page = await series.page(state=None, before=None, limit=10)
    ids = [one.series_id for one in page]
    assert ids == sorted(ids, reverse=True)
    assert {one.title for one in await series.page(state="draft", before=None, limit=10)} == {"t0", "t2"}
    assert [one.series_id for one in await series.page(state=None, before=ids[0], limit=1)] == [ids[1]]
    for asked in (series.shown(new_id(now()), NOW), series.pause(act(), new_id(now()))):
        assert await refusal(asked) == "flash_sale.series_not_found"


# --- what operators see ---------------------------------------------------------------------------------------------


async def test_a_dry_run_shows_the_next_ten_rounds_on_the_wall_and_why_some_would_not_be(
    room: Room, series: SeriesService
) -> None:
    made = await published(
        series, zone="America/New_York", start_time="23:30", items=[an_item(), an_item(sku="milk")], plan_ahead_days=7
    )
    first, second = (sale.opens_at for sale in [(await sales_of(room, made))[0], await _moved(room)])
    assert second == first + WEEK
    await room.database.fetch("UPDATE flash_sale.series SET planned_until = planned_until + INTERVAL '14 days'")
    shown = await series.dry_run(made.series_id, NOW)
    assert shown.at == NOW
    assert [one.opens_at for one in shown.rounds] == [first + n * WEEK for n in range(10)]
    assert (shown.rounds[0].opens_local, shown.rounds[0].closes_local) == (
        "wed 2026-11-25 23:30 -05:00",
        "thu 2026-11-26 00:30 -05:00",
    )
    verdicts = [{sale.sku: sale.would for sale in one.sales} for one in shown.rounds]
    assert verdicts[:4] == [
        {"tea": "planned", "milk": "planned"},
        {"tea": "skip", "milk": "skip"},  # another sale has the tea; milk lies before what was planned
        {"tea": "skip", "milk": "skip"},
        {"tea": "plan", "milk": "plan"},
    ]
    assert "in the same window" in str(shown.rounds[1].sales[0].because)
    assert "planned before" in str(shown.rounds[1].sales[1].because)
    assert len(await sales_of(room, made)) == 2


async def _moved(room: Room) -> Sale:
    """Another sale of tea, in the window of the second round."""
    opens_at = datetime.fromisoformat("2026-12-03T04:30:00+00:00")
    return await world.put_sale(room.database, sku="tea", opens_at=opens_at)


async def test_a_dry_run_of_what_is_over_says_so(room: Room, series: SeriesService) -> None:
    made = await draft(series, until_day="2026-11-26")
    await series.end(act(), made.series_id)
    (one,) = (await series.dry_run(made.series_id, NOW)).rounds
    assert (one.sales[0].would, one.sales[0].because) == ("skip", "The series has ended.")
    assert (await series.dry_run(made.series_id, FIRST)).rounds == []
    for year in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        asked = series.dry_run(made.series_id, datetime.fromisoformat(year))
        assert await refusal(asked) == "request.invalid"


async def test_stats_show_each_round_in_numbers(room: Room, series: SeriesService) -> None:
    made = await published(series, plan_ahead_days=21, items=[an_item(), an_item(sku="milk", units_total=5)])
    sales = await sales_of(room, made)
    sold = {sales[0].sale_id: (5, 4), sales[1].sale_id: (100, 2), sales[2].sale_id: (5, 1), sales[3].sale_id: (7, None)}
    assert [sale.sku for sale in sales[:2]] == ["milk", "tea"]
    for sale_id, (taken, seconds) in sold.items():
        after = None if seconds is None else timedelta(seconds=seconds)
        await room.database.fetch(
            """
            UPDATE flash_sale.sales
            SET taken = $2, sold_out_at = opens_at + $3::interval
            WHERE sale_id = $1
            """,
            sale_id,
            taken,
            after,
        )
    page = await series.stats(made.series_id, None, 2, NOW)
    assert [one.opens_at for one in page.items] == [FIRST + 2 * WEEK, FIRST + WEEK]
    assert page.next_cursor is not None
    second = page.items[1]
    assert (second.units_total, second.taken, second.sold_out_after_ms) == (105, 12, None)
    assert [sale.sold_out_after_ms for sale in second.sales] == [1000, None]
    rest = await series.stats(made.series_id, FIRST + WEEK, 2, NOW)
    assert rest.next_cursor is None
    assert [(one.taken, one.sold_out_after_ms) for one in rest.items] == [(105, 4000)]
    await room.database.fetch("UPDATE flash_sale.sales SET taken = 0, sold_out_at = NULL")
