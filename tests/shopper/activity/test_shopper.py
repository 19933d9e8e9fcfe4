"""What a shopper did is told, erased and given to another id: whole, in bounded steps, whoever is reading."""

from datetime import datetime, timedelta

import pytest

from growth.plumbing.outbox.outbox import deliver
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.periodic import Held, Turn
from growth.shopper.activity import person as shopper
from growth.shopper.activity.periodic import EventsKeeper
from growth.shopper.activity.service import Events
from tests.shopper.activity.telling import NOW, ago, event, tell
from tests.shopper.activity.test_log import Follower

pytestmark = pytest.mark.anyio

ALIAS = "erased:0123456789abcdef"
KEEP_DAYS = 30


async def whose(database: Database) -> dict[str, list[str]]:
    """Ids in the log, by shopper."""
    rows = await database.fetch(
        "SELECT subject, array_agg(event_id ORDER BY event_id, day) AS ids FROM activity.log GROUP BY subject"
    )
    return {row["subject"]: row["ids"] for row in rows}


def turn_at(database: Database, now: datetime) -> Turn:
    return Turn(database, "test", Held("test", 1, now))


async def go_on(database: Database) -> int:
    """Let the schedule do what is left; return in how many turns."""
    keeper, turns = EventsKeeper(database, KEEP_DAYS), 0
    while await keeper.depart(turn_at(database, NOW)):
        turns += 1
    return turns


async def erase(database: Database, user_id: str) -> None:
    async with database.transaction() as tx:
        await shopper.erase(tx, user_id, ALIAS)


async def merge(database: Database, old_user_id: str, user_id: str) -> None:
    async with database.transaction() as tx:
        await shopper.merge(tx, old_user_id, user_id, NOW)


async def test_the_newest_are_told(database: Database, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopper, "MAX_TOLD", 2)
    await tell(events, event("a", at=ago(hours=3)), event("b", at=ago(hours=70)), event("c", sku="tea"))
    await tell(events, event("d"), user_id="u2")
    told = await shopper.export(database, "u1")
    assert [(one.activity_id, dict(one.data)) for one in told.activities] == [("c", {"sku": "tea"}), ("a", {})]
    assert (await shopper.export(database, "nobody")).activities == []


async def test_a_shopper_is_erased_over_all_days_and_nobody_else(database: Database, events: Events) -> None:
    for user_id in ("u1", "u2"):
        await tell(events, *(event(number, at=ago(hours=number * 10)) for number in range(7)), user_id=user_id)
    await erase(database, "u1")
    await erase(database, "u1")
    assert list(await whose(database)) == ["u2"]
    assert await database.fetchval("SELECT count(*) FROM activity.departures") == 0


async def test_what_is_too_much_for_one_transaction_is_erased_by_the_schedule(
    database: Database, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopper, "DEPART_BATCH", 4)
    await tell(events, *(event(number, at=ago(hours=number * 3)) for number in range(20)))
    await erase(database, "u1")
    assert len((await whose(database))["u1"]) == 16
    assert await go_on(database) == 5
    assert await whose(database) == {}
    assert await database.fetchval("SELECT count(*) FROM activity.departures") == 0


async def test_merged_activities_count_once_and_keep_their_place(
    database: Database, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopper, "DEPART_BATCH", 3)
    follower = Follower()
    await tell(events, *(event(name, at=ago(hours=1)) for name in "abcde"), user_id="old")
    await tell(events, event("a", at=ago(hours=1)), event("x"), user_id="new")
    assert await deliver(database, follower.subscription, max_events=2) == 2
    await merge(database, "old", "new")
    await go_on(database)
    assert await whose(database) == {"new": ["a", "b", "c", "d", "e", "x"]}
    assert await follower.catch_up(database) == ["a", "b", "c", "d", "e", "a", "x"]
    assert {one.user_id for one in follower.heard[2:]} == {"new"}
    await merge(database, "old", "new")
    await merge(database, "new", "new")
    assert len((await whose(database))["new"]) == 6


async def test_who_is_erased_while_others_are_merged_into_them_takes_those_along(
    database: Database, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopper, "DEPART_BATCH", 2)
    for user_id in ("a", "b", "c"):
        await tell(events, *(event(f"{user_id}{number}") for number in range(6)), user_id=user_id)
    await merge(database, "a", "b")
    await merge(database, "b", "c")
    await erase(database, "c")
    await go_on(database)
    assert await whose(database) == {}


async def test_two_ids_merged_there_and_back_keep_everything(
    database: Database, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopper, "DEPART_BATCH", 2)
    for user_id in ("a", "b"):
        await tell(events, *(event(f"{user_id}{number}") for number in range(6)), user_id=user_id)
    await merge(database, "a", "b")
    await merge(database, "b", "a")
    await go_on(database)
    assert {user_id: len(ids) for user_id, ids in (await whose(database)).items()} == {"a": 12}


async def test_the_keeper_makes_and_drops_days(database: Database, events: Events) -> None:
    keeper = EventsKeeper(database, KEEP_DAYS)
    soon, late = (turn_at(database, NOW + timedelta(days=days)) for days in (2, KEEP_DAYS + 3))
    assert await keeper.prepare(soon) > 0
    await tell(events, event("a"))
    assert await keeper.prune(soon) == 0
    assert await keeper.prune(late) > 0
    assert await whose(database) == {}
