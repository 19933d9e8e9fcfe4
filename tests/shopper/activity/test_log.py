"""The log of activities is read like the outbox: each follower gets each once, in order, and no day goes unread."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from growth.plumbing.outbox import outbox
from growth.plumbing.outbox import upkeep as outbox_upkeep
from growth.plumbing.outbox.outbox import OUTBOX, Envelope, Log, Subscription, deliver, emit
from growth.plumbing.postgres import partitions
from growth.plumbing.postgres.database import Database, Tx
from growth.shopper.activity import store
from growth.shopper.activity.model import LOG, Activity, LogEntry
from growth.shopper.activity.service import Events
from growth.vocabulary.events.flash_sale import FlashSalePaused
from growth.vocabulary.refusals import Unavailable
from tests.shopper.activity.telling import NOW, ago, event, names, tell

pytestmark = pytest.mark.anyio


class Follower:
    """Keeps what it is handed."""

    def __init__(self, name: str = "test.follower", types: frozenset[str] | None = None) -> None:
        self.heard: list[Activity] = []
        self.subscription = Subscription(name, types, self._handle, LOG)

    async def _handle(self, _: Tx, activities: Sequence[Activity]) -> None:
        self.heard.extend(activities)

    async def catch_up(self, database: Database, *, max_events: int = 100) -> list[str]:
        """Read on until nothing waits; return the ids of all that was ever heard."""
        while await deliver(database, self.subscription, max_events=max_events):
            pass
        return [activity.activity_id for activity in self.heard]


@contextlib.asynccontextmanager
async def slow_transaction(database: Database, name: str) -> AsyncIterator[None]:
    """A transaction that has written an activity and commits only when the block ends."""
    async with database.transaction() as tx:
        await store.write(tx, [LogEntry(name, "app.opened", "u1", NOW, {})])
        yield


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


TODAY = NOW.date()
"""By UTC, as partitions are."""


async def test_a_follower_gets_what_was_told(database: Database, events: Events) -> None:
    follower = Follower()
    await tell(events, event("a", at=ago(hours=2), sku="tea", count=2, share=0.5, ok=True, none=None))
    await follower.catch_up(database)
    assert follower.heard == [
        Activity(
            activity_id="a",
            user_id="u1",
            type="product.viewed",
            at=NOW - timedelta(hours=2),
            heard_at=follower.heard[0].heard_at,
            data={"sku": "tea", "count": 2, "share": 0.5, "ok": True, "none": None},
        )
    ]


async def test_activities_come_in_the_order_of_commits_and_within_a_batch_as_told(
    database: Database, events: Events
) -> None:
    follower = Follower()
    await tell(events, event("c", at=ago(hours=1)), event("a", at=ago(hours=50)), event("b"))
    await tell(events, event("0", at=ago(hours=71)), event("a", at=ago(hours=50)))
    assert await follower.catch_up(database, max_events=2) == ["c", "a", "b", "0"]


async def test_followers_read_for_themselves_and_only_what_they_asked_for(database: Database, events: Events) -> None:
    picky, all_ = Follower("test.picky", frozenset({"app.opened"})), Follower("test.all")
    await tell(events, event("a"), event("b", "app.opened"), event("c"))
    assert await picky.catch_up(database) == ["b"]
    assert await all_.catch_up(database) == ["a", "b", "c"]
    await tell(events, event("d", "app.opened"))
    assert await picky.catch_up(database) == ["b", "d"]


async def test_a_slow_transaction_is_never_skipped(database: Database, events: Events) -> None:
    follower = Follower()
    async with slow_transaction(database, "slow"):
        await tell(events, event("fast"))
        assert await follower.catch_up(database) == []
    assert await follower.catch_up(database) == ["slow", "fast"]


async def test_the_outbox_and_the_log_do_not_mix(database: Database, events: Events) -> None:
    heard: list[str] = []

    async def handle(_: Tx, envelopes: Sequence[Envelope]) -> None:
        heard.extend(envelope.event.subject for envelope in envelopes)

    async with database.transaction() as tx:
        await emit(tx, FlashSalePaused(at=NOW, sale_id="s"))
    await tell(events, event("a"))
    follower = Follower()
    assert await follower.catch_up(database) == ["a"]
    while await deliver(database, Subscription("test.listener", None, handle)):
        pass
    assert heard == ["s"]
    assert [lag.subscription for lag in await outbox.lag(database, OUTBOX)] == ["test.listener"]
    assert [lag.subscription for lag in await outbox.lag(database, LOG)] == ["test.follower"]


async def test_a_follower_that_fails_gets_the_same_again(database: Database, events: Events) -> None:
    attempts: list[list[str]] = []

    async def handle(_: Tx, activities: Sequence[Activity]) -> None:
        attempts.append([activity.activity_id for activity in activities])
        if len(attempts) < 3:
            raise Unavailable("a store")

    await tell(events, event("a"), event("b"))
    subscription = Subscription("test.failing", None, handle, LOG)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await deliver(database, subscription)
    assert await deliver(database, subscription) == 2
    assert attempts == [["a", "b"]] * 3


async def test_many_writers_and_three_deliverers_lose_and_repeat_nothing(database: Database, events: Events) -> None:
    follower = Follower()
    writing = True

    async def read() -> None:
        while writing or await deliver(database, follower.subscription, max_events=7):
            await deliver(database, follower.subscription, max_events=7)
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(
        *(
            tell(events, *(event(f"{writer}-{number}", at=ago(hours=number * 20)) for number in range(4)))
            for writer in range(64)
        )
    )
    writing = False
    await asyncio.gather(*readers)
    assert sorted(await follower.catch_up(database)) == sorted(f"{w}-{n}" for w in range(64) for n in range(4))


async def test_lag_tells_how_many_wait(database: Database, events: Events) -> None:
    follower = Follower()
    await tell(events, event("a"))
    await follower.catch_up(database)
    await tell(events, event("b"), event("c"))
    (lag,) = await outbox.lag(database, LOG)
    assert (lag.log, lag.subscription, lag.events) == ("activity.log", "test.follower", 2)
    assert 0 <= lag.seconds < 60


# --- days -----------------------------------------------------------------------------------------------------------


async def test_each_activity_lies_with_the_day_on_which_it_happened(database: Database, events: Events) -> None:
    await tell(events, event("a", at=ago(hours=1)), event("b", at=ago(hours=49)))
    rows = await database.fetch("SELECT tableoid::regclass::text AS part, at FROM activity.log ORDER BY event_id")
    assert [row["part"] for row in rows] == [partitions.name_of("activity.log", row["at"].date()) for row in rows]


async def test_days_are_made_ahead_and_dropped_once_read(database: Database, events: Events) -> None:
    follower = Follower()
    await outbox.prepare(database, noon(TODAY), LOG)
    days = await partitions.days(database, LOG.table)
    assert days[-1] == TODAY + timedelta(days=partitions.AHEAD_DAYS)
    await tell(events, event("old", at=ago(hours=71)), event("new"))
    assert await deliver(database, follower.subscription, max_events=1) == 1
    later = noon(TODAY + timedelta(days=30))
    # What nobody reads is no reason to stay; what is not read yet is.
    await outbox.prune(database, later, 29, LOG)
    assert await names(database) == ["new"]
    assert await outbox.prune(database, later, 1, LOG) == 0
    await follower.catch_up(database)
    assert await outbox.prune(database, later, 1, LOG) > 0
    assert await names(database) == []
    assert await follower.catch_up(database) == ["old", "new"]


async def test_negative_control_dropping_by_age_alone_loses_what_was_not_read(
    database: Database, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def yes(_: Tx, __: date, ___: Log) -> bool:
        return True

    follower = Follower()
    await follower.catch_up(database)
    await tell(events, event("a"), event("b"))
    await deliver(database, follower.subscription, max_events=1)
    monkeypatch.setattr(outbox_upkeep, "_is_read", yes)
    await outbox.prune(database, noon(TODAY + timedelta(days=30)), 1, LOG)
    assert await follower.catch_up(database) == ["a"], "b is lost"


async def test_a_day_without_a_partition_is_taken_all_the_same(database: Database, events: Events) -> None:
    for day in await partitions.days(database, LOG.table):
        async with database.transaction() as tx:
            await partitions.drop_day(tx, LOG.table, day)
    told = [event("a"), event("b", at=ago(hours=70))]
    assert (await tell(events, *told)).accepted == 2
    assert (await tell(events, *told)).duplicate == 2
    assert await database.fetchval("SELECT count(*) FROM activity.log_default") == 2
    follower = Follower()
    assert await follower.catch_up(database) == ["a", "b"]
    async with database.transaction() as tx:
        await tx.execute("UPDATE activity.log SET written_at = $1", noon(TODAY - timedelta(days=9)))
    assert await outbox.prune(database, noon(TODAY), 8, LOG) == 2


# --- after a restore ------------------------------------------------------------------------------------------------


async def _restore_elsewhere(database: Database) -> None:
    """Make it look as if everything so far came from a server that had counted a billion transactions more."""
    async with database.transaction() as tx:
        for table in ("activity.log", "plumbing.cursors"):
            await tx.execute(f"UPDATE {table} SET xid = (xid::text::bigint + 1000000000)::text::xid8")


async def test_after_a_restore_on_another_server_every_activity_still_comes_once_and_in_order(
    database: Database, events: Events
) -> None:
    first, late = Follower("test.first"), Follower("test.late")
    await tell(events, event("a"), event("b", at=ago(hours=60)))
    await tell(events, event("c"))
    assert await deliver(database, first.subscription, max_events=2) == 2
    await _restore_elsewhere(database)
    await tell(events, event("d"))
    with capture_logs() as logs:
        assert await first.catch_up(database) == ["a", "b", "c", "d"]
    assert [(entry["event"], entry["log"], entry["events"]) for entry in logs] == [
        ("outbox.mended_after_restore", "activity.log", 3)
    ]
    assert await late.catch_up(database) == ["a", "b", "c", "d"]
    assert await outbox.mend_after_restore(database, LOG) == 0


async def test_what_clients_clocks_are_ahead_by_is_held_to_when_it_was_heard(
    database: Database, events: Events
) -> None:
    """Told just before midnight, it is no visit of tomorrow; told again after it, it is still the same."""
    follower = Follower()
    told = event("a", at=ago(minutes=-4))
    await tell(events, told)
    await tell(events, told, now=NOW + timedelta(minutes=5))
    await follower.catch_up(database)
    (heard,) = follower.heard
    # On a machine that is slow enough, its time has come meanwhile.
    assert heard.at == min(NOW + timedelta(minutes=4), heard.heard_at)
