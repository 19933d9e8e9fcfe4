"""Shoppers who asked are told before a sale opens: once, and nobody else."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from growth.kit.campaign import store as campaigns
from growth.mechanics.flash_sale.model import SALES, Sale
from growth.mechanics.flash_sale.reminder import model, service, store
from growth.mechanics.flash_sale.reminder.service import Reminders
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.periodic import LeaseLost
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.kit.outcomes import refusal
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.conftest import Room

pytestmark = pytest.mark.anyio

LEAD_SECONDS = 300
NOON = datetime.fromisoformat("2026-11-25T12:00:00+00:00")
EARLY = NOON - timedelta(hours=2)


@pytest.fixture
def reminders(room: Room) -> Reminders:
    return Reminders(room.database)


async def put_sale(database: Database, **changes: Any) -> Sale:
    """A sale that opens at noon and reminds five minutes before."""
    plain: dict[str, Any] = {"opens_at": NOON, "reminder_lead_seconds": LEAD_SECONDS}
    return await world.put_sale(database, **plain | changes)


async def remind(reminders: Reminders, database: Database, moment: datetime) -> int:
    return await reminders.remind_due(await leading_at(database, moment))


async def told(database: Database) -> list[tuple[str, str]]:
    """Whom the events tell of which sale."""
    rows = await database.fetch(
        """
        SELECT subject, data::jsonb ->> 'user_id' AS user_id
        FROM plumbing.outbox
        WHERE type = 'flash_sale.reminder_due'
        ORDER BY xid, position
        """
    )
    return [(row["subject"], row["user_id"]) for row in rows]


async def move(database: Database, sale: Sale, state: str) -> None:
    async with database.transaction() as tx:
        await campaigns.move(tx, SALES, sale.sale_id, ["draft", "published", "paused"], state, EARLY)


TIME = NOON - timedelta(seconds=LEAD_SECONDS)
TOO_EARLY = TIME - timedelta(milliseconds=1)


async def test_whoever_asked_is_told_once_when_it_is_time(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await reminders.ask(sale.sale_id, "alice", EARLY)
    await reminders.ask(sale.sale_id, "bob", EARLY)
    assert await remind(reminders, room.database, TOO_EARLY) == 0
    assert await remind(reminders, room.database, TIME) == 2
    assert await remind(reminders, room.database, NOON) == 0
    assert sorted(await told(room.database)) == [(sale.sale_id, "alice"), (sale.sale_id, "bob")]
    event = await room.database.fetchval("SELECT data::jsonb FROM plumbing.outbox LIMIT 1")
    assert event["opens_at"].startswith("2026-11-25T12:00:00")
    assert event["at"].startswith("2026-11-25T11:55:00")


async def test_asking_twice_is_asking_once(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await asyncio.gather(*[reminders.ask(sale.sale_id, "alice", EARLY) for _ in range(64)])
    assert await remind(reminders, room.database, TIME) == 1


async def test_who_asks_within_the_lead_is_told_at_once(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await remind(reminders, room.database, TIME)
    late = NOON - timedelta(seconds=1)
    await reminders.ask(sale.sale_id, "alice", late)
    assert await remind(reminders, room.database, late) == 1


async def test_who_took_it_back_is_not_told(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await reminders.ask(sale.sale_id, "alice", EARLY)
    for _ in range(2):
        await reminders.take_back(sale.sale_id, "alice")
    assert await remind(reminders, room.database, TIME) == 0
    # And may ask again.
    await reminders.ask(sale.sale_id, "alice", EARLY)
    assert await remind(reminders, room.database, TIME) == 1


async def test_who_was_told_is_not_told_again_by_asking_again(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await reminders.ask(sale.sale_id, "alice", EARLY)
    await remind(reminders, room.database, TIME)
    await reminders.take_back(sale.sale_id, "alice")
    await reminders.ask(sale.sale_id, "alice", TIME)
    assert await remind(reminders, room.database, TIME) == 0


async def test_an_opened_ended_or_unknown_sale_reminds_nobody(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    ended = await put_sale(room.database, sku="rye", state="ended")
    draft = await put_sale(room.database, sku="egg", state="draft")
    assert await refusal(reminders.ask(sale.sale_id, "alice", NOON)) == "flash_sale.already_open"
    assert await refusal(reminders.ask(ended.sale_id, "alice", EARLY)) == "flash_sale.ended"
    for sale_id in (draft.sale_id, new_id(now())):
        assert await refusal(reminders.ask(sale_id, "alice", EARLY)) == "flash_sale.not_found"
        assert await refusal(reminders.take_back(sale_id, "alice")) == "flash_sale.not_found"
        assert await refusal(reminders.page(sale_id, "alice", EARLY)) == "flash_sale.not_found"
    await reminders.take_back(ended.sale_id, "alice")
    assert await remind(reminders, room.database, TIME) == 0


async def test_a_sale_that_was_called_off_reminds_nobody(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await reminders.ask(sale.sale_id, "alice", EARLY)
    await move(room.database, sale, "ended")
    assert await remind(reminders, room.database, TIME) == 0


async def test_a_paused_sale_reminds_when_it_is_resumed(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await move(room.database, sale, "paused")
    await reminders.ask(sale.sale_id, "alice", EARLY)
    assert await remind(reminders, room.database, TIME) == 0
    await move(room.database, sale, "published")
    assert await remind(reminders, room.database, NOON - timedelta(seconds=1)) == 1


@pytest.mark.parametrize(("minutes_late", "sent"), [(9, 1), (10, 0)])
async def test_a_worker_that_was_away_reminds_late_or_not_at_all(
    room: Room, reminders: Reminders, minutes_late: int, sent: int
) -> None:
    sale = await put_sale(room.database)
    await reminders.ask(sale.sale_id, "alice", EARLY)
    assert await remind(reminders, room.database, NOON + timedelta(minutes=minutes_late)) == sent


async def test_a_sale_moved_to_a_later_day_reminds_then(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await reminders.ask(sale.sale_id, "alice", EARLY)
    day = timedelta(days=1)
    await room.database.fetch(
        "UPDATE flash_sale.sales SET opens_at = opens_at + $1::interval, closes_at = closes_at + $1::interval", day
    )
    assert await remind(reminders, room.database, TIME) == 0
    assert await remind(reminders, room.database, TIME + day) == 1


async def test_a_crowd_is_told_in_batches(room: Room, reminders: Reminders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REMIND_BATCH", 3)
    soon = await put_sale(room.database)
    later = await put_sale(room.database, sku="milk", opens_at=NOON + timedelta(seconds=1))
    for n in range(4):
        await reminders.ask(later.sale_id, f"u{n}", EARLY)
        await reminders.ask(soon.sale_id, f"u{n}", EARLY)
    counts = [await remind(reminders, room.database, NOON - timedelta(minutes=1)) for _ in range(4)]
    assert counts == [3, 3, 2, 0]
    # Who is to hurry most is told first.
    assert {sale_id for sale_id, _ in (await told(room.database))[:3]} == {soon.sale_id}
    assert len(set(await told(room.database))) == 8


async def test_two_workers_tell_each_shopper_once(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    crowd = [f"u{n}" for n in range(64)]
    await asyncio.gather(*[reminders.ask(sale.sale_id, user_id, EARLY) for user_id in crowd])
    turn = await leading_at(room.database, TIME)
    counts = await asyncio.gather(*[Reminders(room.database).remind_due(turn) for _ in range(4)])
    assert sum(counts) == len(crowd)
    assert Counter(user_id for _, user_id in await told(room.database)) == dict.fromkeys(crowd, 1)


async def test_a_worker_killed_before_the_commit_told_nobody_and_the_next_does(
    room: Room, reminders: Reminders, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await put_sale(room.database)
    await reminders.ask(sale.sale_id, "alice", EARLY)

    async def emit_and_die(*args: Any) -> None:
        await emit(*args)
        raise _Killed

    with monkeypatch.context() as broken:
        broken.setattr(service, "emit", emit_and_die)
        with pytest.raises(_Killed):
            await remind(reminders, room.database, TIME)
    assert await told(room.database) == []
    assert await remind(reminders, room.database, TIME) == 1


class _Killed(Exception):
    pass


async def test_a_worker_that_lost_its_lease_tells_nobody(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    await reminders.ask(sale.sale_id, "alice", EARLY)
    turn = await leading_at(room.database, TIME)
    await room.database.fetch("UPDATE plumbing.leases SET fence = fence + 1")
    with pytest.raises(LeaseLost):
        await reminders.remind_due(turn)
    assert await told(room.database) == []


async def test_shoppers_see_whether_they_will_be_told(room: Room, reminders: Reminders) -> None:
    sale = await put_sale(room.database)
    page = await reminders.page(sale.sale_id, "alice", EARLY)
    assert (page.asked, page.remind_at, page.sent_at) == (False, TIME, None)
    await reminders.ask(sale.sale_id, "alice", EARLY)
    assert (await reminders.page(sale.sale_id, "alice", EARLY)).asked
    await remind(reminders, room.database, TIME)
    assert (await reminders.page(sale.sale_id, "alice", TIME)).sent_at == TIME


# --- the limit ------------------------------------------------------------------------------------------------------

LIMIT = 3


async def put_sales(database: Database, count: int) -> list[Sale]:
    return [await put_sale(database, sku=f"sku-{n}") for n in range(count)]


async def ask_for_all(reminders: Reminders, sales: list[Sale]) -> Counter[str]:
    """Ask for all of them at once; how often that ended how."""

    async def ask(sale: Sale) -> str:
        try:
            await reminders.ask(sale.sale_id, "alice", EARLY)
        except Refusal as refused:
            return refused.kind.code
        return "asked"

    return Counter(await asyncio.gather(*[ask(sale) for sale in sales]))


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (model, service, store):
        monkeypatch.setattr(module, "MAX_WAITING", LIMIT)


async def test_one_shopper_waits_for_no_more_than_the_limit(
    room: Room, reminders: Reminders, small_limit: None
) -> None:
    got = await ask_for_all(reminders, await put_sales(room.database, 32))
    assert got == {"asked": LIMIT, "flash_sale.too_many_reminders": 32 - LIMIT}
    assert await room.database.fetchval("SELECT count(*) FROM flash_sale.reminders") == LIMIT


async def test_negative_control_without_the_lock_of_the_shopper_the_limit_is_passed(
    room: Room, reminders: Reminders, small_limit: None
) -> None:
    sales = await put_sales(room.database, LIMIT + 1)
    for sale in sales[: LIMIT - 1]:
        await reminders.ask(sale.sale_id, "alice", EARLY)
    # Two transactions, each of which finds one place left.
    async with room.database.transaction() as one, room.database.transaction() as other:
        assert await store.add(one, sales[-2].sale_id, "alice", EARLY)
        assert await store.add(other, sales[-1].sale_id, "alice", EARLY)
    assert await room.database.fetchval("SELECT count(*) FROM flash_sale.reminders") == LIMIT + 1


async def test_at_the_limit_asking_again_for_the_same_is_fine(
    room: Room, reminders: Reminders, small_limit: None
) -> None:
    sales = await put_sales(room.database, LIMIT)
    await ask_for_all(reminders, sales)
    await reminders.ask(sales[0].sale_id, "alice", EARLY)


@pytest.mark.parametrize("how", ["sent", "taken back", "ended", "opened"])
async def test_what_is_over_counts_no_longer(room: Room, reminders: Reminders, small_limit: None, how: str) -> None:
    *sales, one_more = await put_sales(room.database, LIMIT + 1)
    await ask_for_all(reminders, sales)
    moment = EARLY
    if how == "sent":
        await room.database.fetch("UPDATE flash_sale.sales SET reminder_lead_seconds = 10800")
        assert await remind(reminders, room.database, EARLY) == LIMIT
    elif how == "taken back":
        await reminders.take_back(sales[0].sale_id, "alice")
    elif how == "ended":
        await move(room.database, sales[0], "ended")
    else:
        moment = NOON
        one_more = await put_sale(room.database, sku="later", opens_at=NOON + timedelta(hours=1))
    await reminders.ask(one_more.sale_id, "alice", moment)


async def test_reminders_are_forgotten_some_time_after_the_sale(room: Room, reminders: Reminders) -> None:
    sale, other = await put_sales(room.database, 2)
    for one in (sale, other):
        await reminders.ask(one.sale_id, "alice", EARLY)
    await move(room.database, sale, "ended")
    late = sale.closes_at + service.REMINDERS_KEPT
    assert await reminders.forget_old_reminders(await leading_at(room.database, late)) == 0
    assert await reminders.forget_old_reminders(await leading_at(room.database, late + timedelta(seconds=1))) == 1
    assert await room.database.fetchval("SELECT sale_id FROM flash_sale.reminders") == other.sale_id
