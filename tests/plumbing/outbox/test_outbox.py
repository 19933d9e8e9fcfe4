"""Every event reaches every subscriber exactly once, in order, however slow, dead or many anybody is."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
from msgspec import json
from structlog.testing import capture_logs

from growth.plumbing.outbox import cursor as outbox_cursor
from growth.plumbing.outbox import outbox
from growth.plumbing.outbox import upkeep as outbox_upkeep
from growth.plumbing.outbox.outbox import OUTBOX, Envelope, Log, Subscription, deliver, emit, types_of
from growth.plumbing.person.memory import People
from growth.plumbing.postgres import partitions
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.vocabulary.events import Event
from growth.vocabulary.events.flash_sale import (
    FlashSaleClaimEvent,
    FlashSaleClaimHeld,
    FlashSaleEnded,
    FlashSalePaused,
    FlashSaleResumed,
)
from growth.vocabulary.refusals import Kind, Refusal, Unavailable
from tests.patience import PATIENCE_SECONDS
from tests.plumbing.postgres_proxy import PostgresProxy

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
NO = Kind("test.no", "No.")


def paused(name: object) -> FlashSalePaused:
    return FlashSalePaused(at=AT, sale_id=str(name))


@pytest.fixture(autouse=True)
async def heard_table(postgres_dsn: str) -> None:
    """What a projection writes: a row for each event it was handed, and a place in the order."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(
        """
        CREATE TABLE public.heard (
            place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            listener text NOT NULL,
            event_id uuid NOT NULL,
            subject text NOT NULL
        )
        """
    )
    await connection.close()


async def write_heard(tx: Tx, envelopes: Sequence[Envelope], listener: str = "projection") -> None:
    await tx.execute(
        """
        INSERT INTO public.heard (listener, event_id, subject)
        SELECT $1, envelope.event_id::uuid, envelope.subject
        FROM unnest($2::text[], $3::text[]) AS envelope (event_id, subject)
        """,
        listener,
        [envelope.event_id for envelope in envelopes],
        [envelope.event.subject for envelope in envelopes],
    )


def projection(name: str = "projection", types: frozenset[str] | None = None) -> Subscription:
    async def handle(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        await write_heard(tx, envelopes, name)

    return Subscription(name, types, handle)


async def heard(reader: Reader, listener: str = "projection") -> list[str]:
    rows = await reader.fetch("SELECT subject FROM public.heard WHERE listener = $1 ORDER BY place", listener)
    return [row["subject"] for row in rows]


async def say(database: Database, *names: object) -> None:
    async with database.transaction() as tx:
        await emit(tx, *(paused(name) for name in names))


async def deliver_all(database: Database, subscription: Subscription, *, max_events: int = 100) -> int:
    """Deliver until nothing waits below the oldest running transaction."""
    passed = 0
    while more := await deliver(database, subscription, max_events=max_events):
        passed += more
    return passed


@contextlib.asynccontextmanager
async def slow_transaction(database: Database, *names: object) -> AsyncIterator[None]:
    """A transaction that has written its events and commits only when the block ends."""
    async with database.transaction() as tx:
        await emit(tx, *(paused(name) for name in names))
        yield


# --- emit -----------------------------------------------------------------------------------------------------------


async def test_an_event_is_told_with_the_commit_and_never_without(database: Database) -> None:
    with pytest.raises(Refusal):
        await _emit_then_fail(database)
    assert await database.fetchval("SELECT count(*) FROM plumbing.outbox") == 0
    await say(database, "a")
    assert await database.fetchval("SELECT count(*) FROM plumbing.outbox") == 1


async def _emit_then_fail(database: Database) -> None:
    async with database.transaction() as tx:
        await emit(tx, paused("a"))
        raise Refusal(NO)


async def test_any_number_of_events_is_one_statement_in_their_order(database: Database) -> None:
    statements: list[str] = []
    async with database.transaction() as tx:
        execute = tx.execute

        async def counted(query: str, *args: object) -> str:
            statements.append(query)
            return await execute(query, *args)

        tx.execute = counted  # type: ignore[assignment]
        await emit(tx, *(paused(number) for number in range(300)))
        await emit(tx)
    assert len(statements) == 1
    rows = await database.fetch("SELECT subject, position FROM plumbing.outbox ORDER BY xid, position")
    assert [row["subject"] for row in rows] == [str(number) for number in range(300)]


async def test_an_event_arrives_as_it_was_sent(database: Database) -> None:
    sent = FlashSaleClaimHeld(
        at=AT, sale_id="s", claim_id="c", user_id='u|"ü"🎈', units=2, held_until=AT + timedelta(seconds=300)
    )
    got: list[Envelope] = []

    async def handle(_: Tx, envelopes: Sequence[Envelope]) -> None:
        got.extend(envelopes)

    async with database.transaction() as tx:
        await emit(tx, sent)
    await deliver(database, Subscription("one", None, handle))
    row = await database.fetchrow("SELECT event_id, type, subject, at, data FROM plumbing.outbox")
    assert row is not None
    assert [envelope.event for envelope in got] == [sent]
    assert got[0].event_id == row["event_id"]
    assert (row["type"], row["subject"], row["at"]) == ("flash_sale.claim_held", "s", AT)
    assert row["data"] == json.encode(sent).decode()


async def test_every_event_has_an_id_of_its_own_that_begins_with_its_time(database: Database) -> None:
    async with database.transaction() as tx:
        await emit(tx, *(paused(number) for number in range(500)))
    rows = await database.fetch("SELECT event_id FROM plumbing.outbox")
    event_ids = {uuid.UUID(row["event_id"]) for row in rows}
    assert len(event_ids) == 500
    assert {(one.version, one.variant, one.int >> 80) for one in event_ids} == {
        (7, uuid.RFC_4122, int(AT.timestamp() * 1000))
    }


async def test_an_event_whose_day_has_no_partition_is_told_all_the_same(database: Database) -> None:
    for day in await partitions.days(database, outbox_upkeep.OUTBOX_TABLE):
        async with database.transaction() as tx:
            await partitions.drop_day(tx, outbox_upkeep.OUTBOX_TABLE, day)
    await say(database, "a")
    assert await database.fetchval("SELECT count(*) FROM plumbing.outbox_default") == 1
    assert await deliver_all(database, projection()) == 1
    assert await heard(database) == ["a"]


# --- deliver --------------------------------------------------------------------------------------------------------


async def test_events_come_in_order_in_batches_of_at_most_so_many(database: Database) -> None:
    sizes: list[int] = []

    async def handle(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        sizes.append(len(envelopes))
        await write_heard(tx, envelopes)

    for start in range(0, 25, 5):
        await say(database, *range(start, start + 5))
    passed = [await deliver(database, Subscription("projection", None, handle), max_events=10) for _ in range(4)]
    assert passed == [*sizes, 0] == [10, 10, 5, 0]
    assert await heard(database) == [str(number) for number in range(25)]


async def test_each_subscriber_reads_for_itself(database: Database) -> None:
    await say(database, "a", "b")
    assert await deliver_all(database, projection("first")) == 2
    await say(database, "c")
    assert await deliver_all(database, projection("first")) == 1
    assert await deliver_all(database, projection("second")) == 3
    assert await heard(database, "first") == await heard(database, "second") == ["a", "b", "c"]


async def test_events_not_asked_for_are_passed_without_waking_the_handler(database: Database) -> None:
    calls: list[list[Event]] = []

    async def handle(_: Tx, envelopes: Sequence[Envelope]) -> None:
        calls.append([envelope.event for envelope in envelopes])

    resumed = FlashSaleResumed(at=AT, sale_id="s")
    await say(database, "a", "b")
    async with database.transaction() as tx:
        await emit(tx, paused("c"), resumed, paused("d"))
    subscription = Subscription("picky", types_of(FlashSaleResumed, FlashSaleEnded), handle)
    assert [await deliver(database, subscription, max_events=2) for _ in range(4)] == [2, 2, 1, 0]
    assert calls == [[resumed]]


async def test_a_base_of_events_names_all_that_derive_from_it() -> None:
    assert types_of(FlashSaleClaimEvent) == {
        "flash_sale.claim_held",
        "flash_sale.claim_paid",
        "flash_sale.claim_released",
        "flash_sale.claim_refunded",
        "flash_sale.refund_required",
    }
    assert types_of(FlashSalePaused) == {"flash_sale.paused"}


async def test_an_idle_look_takes_no_transaction_number_and_writes_nothing(database: Database) -> None:
    await say(database, "a")
    await deliver_all(database, projection())
    before = await database.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())")
    for _ in range(20):
        assert await deliver(database, projection()) == 0
    assert await database.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())") == before


async def test_a_handler_that_meets_the_outside_failing_moves_nothing_and_gets_the_same_events_again(
    database: Database,
) -> None:
    attempts: list[list[str]] = []

    async def handle(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        attempts.append([envelope.event_id for envelope in envelopes])
        await write_heard(tx, envelopes)
        if len(attempts) < 3:
            raise Unavailable("Redis")

    await say(database, "a", "b")
    subscription = Subscription("projection", None, handle)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await deliver(database, subscription)
    assert await deliver(database, subscription) == 2
    assert attempts[0] == attempts[1] == attempts[2]
    assert await heard(database) == ["a", "b"]


# --- the order, and its negative control ----------------------------------------------------------------------------


async def test_a_slow_transaction_is_never_skipped(database: Database) -> None:
    await say(database, "before")
    async with slow_transaction(database, "slow"):
        await say(database, "fast")
        assert await deliver_all(database, projection()) == 1
        assert await heard(database) == ["before"], "what began later waits for what began before"
    await deliver_all(database, projection())
    assert await heard(database) == ["before", "slow", "fast"]


async def test_negative_control_a_reader_without_the_horizon_skips_a_slow_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_horizon(monkeypatch)
    async with slow_transaction(database, "slow"):
        await say(database, "fast")
        await deliver_all(database, projection())
    await deliver_all(database, projection())
    assert await heard(database) == ["fast"], "the slow one is lost"
    await _set_cursor_back(database)


async def test_negative_control_a_reader_by_position_alone_skips_a_slow_transaction(database: Database) -> None:
    async def read(after: int) -> tuple[int, list[str]]:
        rows = await database.fetch(
            "SELECT position, subject FROM plumbing.outbox WHERE position > $1 ORDER BY position", after
        )
        return (rows[-1]["position"] if rows else after), [row["subject"] for row in rows]

    async with slow_transaction(database, "slow"):
        await say(database, "fast")
        place, first = await read(0)
    _, second = await read(place)
    # Positions are handed out in blocks: whichever connection got the lower one, one order of events is wrong.
    assert first + second != ["slow", "fast"]


def _without_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    horizon = "xid < pg_snapshot_xmin(pg_current_snapshot())"

    def blinded(method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(self: object, query: str, *args: object) -> object:
            return await method(self, query.replace(horizon, "TRUE").replace("event.TRUE", "TRUE"), *args)

        return call

    real = Tx.__init__

    def init(self: Tx, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", people: People) -> None:
        real(self, connection, people)
        fetch = self.fetch
        self.fetch = lambda query, *args: fetch(query.replace(horizon, "TRUE"), *args)  # type: ignore[assignment]

    monkeypatch.setattr(Tx, "__init__", init)
    monkeypatch.setattr(Database, "fetchrow", blinded(Database.fetchrow))


async def _set_cursor_back(database: Database) -> None:
    """A broken reader may stand where no reader can; leave a database whose invariants hold."""
    async with database.transaction() as tx:
        await outbox.forget(tx, "projection")


@pytest.mark.parametrize("seed", range(3))
async def test_many_writers_of_all_speeds_and_three_deliverers_lose_repeat_and_reorder_nothing(
    database: Database, seed: int
) -> None:
    """Writers commit, roll back and dawdle at random; within a transaction the order holds; each event comes once."""
    dice = random.Random(seed)
    told: list[str] = []
    writing = True

    async def write(writer: int) -> None:
        for number in range(12):
            names = [f"{writer}-{number}-{part}" for part in range(dice.randint(1, 4))]
            with contextlib.suppress(Refusal):
                async with database.transaction() as tx:
                    await emit(tx, *(paused(name) for name in names[:1]))
                    await asyncio.sleep(dice.choice((0, 0, 0, 0.001, 0.02)))
                    await emit(tx, *(paused(name) for name in names[1:]))
                    if dice.random() < 0.2:
                        raise Refusal(NO)
                told.extend(names)

    async def read() -> None:
        while writing or await deliver(database, projection(), max_events=7):
            await deliver(database, projection(), max_events=7)
            await asyncio.sleep(0.001)

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(*(write(writer) for writer in range(5)))
    writing = False
    await asyncio.gather(*readers)
    await deliver_all(database, projection())
    got = await heard(database)
    assert sorted(got) == sorted(told)
    for writer in range(5):
        places = [tuple(map(int, name.split("-")))[1:] for name in got if name.startswith(f"{writer}-")]
        assert places == sorted(places), "one writer's transactions follow each other"


# --- two at once, and death in the middle ---------------------------------------------------------------------------


async def test_two_deliverers_at_once_share_no_event_and_the_second_goes_away_at_once(database: Database) -> None:
    inside, may_end = asyncio.Event(), asyncio.Event()

    async def handle(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        inside.set()
        await may_end.wait()
        await write_heard(tx, envelopes)

    await say(database, "a", "b")
    first = asyncio.create_task(deliver(database, Subscription("projection", None, handle)))
    await inside.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await deliver(database, projection()) == 0
    may_end.set()
    assert await first == 2
    assert await deliver(database, projection()) == 0
    assert await heard(database) == ["a", "b"]


async def test_64_deliverers_of_a_new_subscription_hand_on_each_event_once(database: Database) -> None:
    await say(database, *range(50))
    for _ in range(5):
        await asyncio.gather(*(deliver(database, projection(), max_events=10) for _ in range(64)))
    await deliver_all(database, projection())
    assert await heard(database) == [str(number) for number in range(50)]


async def test_negative_control_without_the_lock_on_the_cursor_two_deliverers_hand_on_the_same_events(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = asyncio.Barrier(2)

    async def look(tx: Tx, name: str) -> object:
        return await tx.fetchrow(
            "SELECT '0'::xid8 AS xid, 0::bigint AS position, 0 AS tries_alone WHERE $1 <> ''", name
        )

    async def handle(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        await both.wait()
        await write_heard(tx, envelopes)

    monkeypatch.setattr(outbox_cursor, "lock_cursor", look)
    await say(database, "a")
    subscription = Subscription("projection", None, handle)
    await asyncio.gather(deliver(database, subscription), deliver(database, subscription))
    assert await heard(database) == ["a", "a"]


@pytest.mark.parametrize("moment", ["before handling", "after handling", "before commit", "answer to commit lost"])
async def test_a_deliverer_killed_at_any_moment_leaves_each_event_handled_exactly_once(
    database: Database, proxied: Database, proxy: PostgresProxy, moment: str
) -> None:
    async def handle(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        if moment == "before handling":
            await proxy.cut()
        await write_heard(tx, envelopes)
        if moment == "after handling":
            await proxy.cut()

    await say(database, "a", "b")
    proxy.cut_before_commit = moment == "before commit"
    proxy.cut_after_commit = moment == "answer to commit lost"
    with pytest.raises(Unavailable):
        await deliver(proxied, Subscription("projection", None, handle))
    assert await heard(database) == (["a", "b"] if moment == "answer to commit lost" else [])
    async with asyncio.timeout(PATIENCE_SECONDS):
        # Until Postgres has noticed, whoever was killed still has the cursor.
        while await heard(database) != ["a", "b"]:
            await deliver_all(database, projection())
    assert not await deliver_all(database, projection())


async def test_a_cancelled_delivery_is_rolled_back_whole(database: Database) -> None:
    inside = asyncio.Event()

    async def handle(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        await write_heard(tx, envelopes)
        inside.set()
        await asyncio.Event().wait()

    await say(database, "a")
    delivery = asyncio.create_task(deliver(database, Subscription("projection", None, handle)))
    await inside.wait()
    delivery.cancel()
    await asyncio.wait([delivery])
    assert await deliver_all(database, projection()) == 1
    assert await heard(database) == ["a"]


async def test_a_handler_may_emit_and_hears_its_own_events_next_time(database: Database) -> None:
    async def handle(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        await write_heard(tx, envelopes)
        await emit(tx, *(paused(f"{name}'") for name in (e.event.subject for e in envelopes) if len(name) < 3))

    await say(database, "a")
    assert await deliver_all(database, Subscription("projection", None, handle)) == 3
    assert await heard(database) == ["a", "a'", "a''"]


# --- partitions -----------------------------------------------------------------------------------------------------


async def _today(database: Database) -> date:
    today = await database.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    assert isinstance(today, date)
    return today


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


async def _age(database: Database, days: int) -> None:
    """Let everything in the outbox have been written so many days ago."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE plumbing.outbox SET written_at = written_at - $1::interval", timedelta(days=days))


async def test_the_days_ahead_are_made_once_by_any_number_of_workers(database: Database) -> None:
    # The day on which the migration ran: by now it may be over.
    today = (await partitions.days(database, outbox_upkeep.OUTBOX_TABLE))[0]
    now = _noon(today)
    made = await asyncio.gather(*(outbox.prepare(database, now, OUTBOX) for _ in range(4)))
    assert sum(made) == partitions.AHEAD_DAYS - 3, "the migration made the first four"
    days = await partitions.days(database, outbox_upkeep.OUTBOX_TABLE)
    assert days == [today + timedelta(days=ahead) for ahead in range(partitions.AHEAD_DAYS + 1)]
    assert await outbox.prepare(database, now, OUTBOX) == 0
    assert await outbox.prepare(database, now + timedelta(days=1), OUTBOX) == 1


@pytest.mark.one_day
async def test_each_partition_has_the_index_that_reading_in_order_needs(database: Database) -> None:
    await outbox.prepare(database, _noon(await _today(database)), OUTBOX)
    rows = await database.fetch(
        """
        SELECT partition.relname
        FROM pg_inherits AS child
        JOIN pg_class AS partition ON partition.oid = child.inhrelid
        WHERE child.inhparent = 'plumbing.outbox'::regclass
          AND NOT EXISTS (SELECT
                          FROM pg_indexes
                          WHERE indexname LIKE partition.relname || '%'
                            AND indexdef LIKE '%(xid, "position")')
        """
    )
    assert rows == []


@pytest.mark.one_day
async def test_making_days_waits_for_no_writer_and_holds_up_none(database: Database) -> None:
    now = _noon(await _today(database))
    async with slow_transaction(database, "slow"):
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await outbox.prepare(database, now + timedelta(days=1), OUTBOX) > 0
            await say(database, "fast")
    assert await deliver_all(database, projection()) == 2


async def test_a_day_that_landed_in_the_default_partition_is_left_there_and_said(database: Database) -> None:
    for day in await partitions.days(database, outbox_upkeep.OUTBOX_TABLE):
        async with database.transaction() as tx:
            await partitions.drop_day(tx, outbox_upkeep.OUTBOX_TABLE, day)
    await say(database, "a")
    today = await database.fetchval("SELECT (written_at AT TIME ZONE 'UTC')::date FROM plumbing.outbox")
    with capture_logs() as logs:
        await outbox.prepare(database, _noon(today), OUTBOX)
    assert [(entry["event"], entry["day"]) for entry in logs] == [("partitions.day_in_default", today.isoformat())]
    assert today not in await partitions.days(database, outbox_upkeep.OUTBOX_TABLE)
    assert await deliver_all(database, projection()) == 1


@pytest.mark.one_day
async def test_days_behind_every_cursor_and_old_enough_are_dropped_and_no_others(database: Database) -> None:
    today = await _today(database)
    await outbox.prepare(database, _noon(today - timedelta(days=8)), OUTBOX)
    await say(database, "old")
    await _age(database, 7)
    await say(database, "new")
    await deliver(database, projection("ahead"))
    assert await deliver(database, projection("behind"), max_events=1) == 1
    assert await outbox.prune(database, _noon(today), keep_days=7, log=OUTBOX) == 1, (
        "only the day before is older than 7 days"
    )
    assert await outbox.prune(database, _noon(today), keep_days=6, log=OUTBOX) == 1
    assert await database.fetchval("SELECT array_agg(subject) FROM plumbing.outbox") == ["new"]
    assert await deliver_all(database, projection("behind")) == 1


@pytest.mark.one_day
async def test_a_day_that_one_subscriber_has_not_read_stays(database: Database) -> None:
    today = await _today(database)
    await outbox.prepare(database, _noon(today - timedelta(days=8)), OUTBOX)
    await say(database, "a", "b")
    await _age(database, 8)
    await deliver_all(database, projection("ahead"))
    await deliver(database, projection("behind"), max_events=1)
    assert await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX) == 0
    assert await deliver_all(database, projection("behind")) == 1
    assert await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX) == 7
    assert await database.fetchval("SELECT count(*) FROM plumbing.outbox") == 0


@pytest.mark.one_day
async def test_negative_control_dropping_by_age_alone_loses_what_was_not_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def yes(_: Tx, __: date, ___: Log) -> bool:
        return True

    today = await _today(database)
    await outbox.prepare(database, _noon(today - timedelta(days=8)), OUTBOX)
    await say(database, "a", "b")
    await _age(database, 8)
    await deliver(database, projection(), max_events=1)
    monkeypatch.setattr(outbox_upkeep, "_is_read", yes)
    await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX)
    assert await deliver_all(database, projection()) == 0
    assert await heard(database) == ["a"], "b is lost"


@pytest.mark.one_day
async def test_a_subscriber_that_is_gone_for_good_holds_nothing_back_once_forgotten(database: Database) -> None:
    today = await _today(database)
    await outbox.prepare(database, _noon(today - timedelta(days=8)), OUTBOX)
    await say(database, "a")
    await _age(database, 8)
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO plumbing.cursors (subscription) VALUES ('gone')")
    assert await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX) == 0
    async with database.transaction() as tx:
        await outbox.forget(tx, "gone")
    assert await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX) == 7


@pytest.mark.one_day
async def test_old_rows_of_the_default_partition_are_deleted_behind_every_cursor(database: Database) -> None:
    today = await _today(database)
    await say(database, "a", "b")
    await _age(database, 8)
    assert await database.fetchval("SELECT count(*) FROM plumbing.outbox_default") == 2
    await deliver(database, projection(), max_events=1)
    assert await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX) == 1
    await deliver_all(database, projection())
    assert await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX) == 1
    assert await heard(database) == ["a", "b"]


@pytest.mark.one_day
async def test_pruning_gives_up_quickly_when_a_writer_is_slow_so_that_others_need_not_wait(database: Database) -> None:
    today = await _today(database)
    await outbox.prepare(database, _noon(today - timedelta(days=8)), OUTBOX)
    async with slow_transaction(database, "slow"):
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(Unavailable):
                await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX)
            await say(database, "fast")
    assert await outbox.prune(database, _noon(today), keep_days=1, log=OUTBOX) == 7


# --- lag, restore ---------------------------------------------------------------------------------------------------


async def test_lag_tells_how_many_wait_and_for_how_long(database: Database) -> None:
    assert await outbox.lag(database, OUTBOX) == []
    await say(database, "a", "b")
    await deliver_all(database, projection())
    assert [(lag.subscription, lag.events, lag.seconds) for lag in await outbox.lag(database, OUTBOX)] == [
        ("projection", 0, 0.0)
    ]
    await say(database, "c", "d", "e")
    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE plumbing.outbox SET written_at = written_at - INTERVAL '90 seconds' WHERE subject = 'c'"
        )
    (lag,) = await outbox.lag(database, OUTBOX)
    assert lag.events == 3
    assert 90 <= lag.seconds < 120


async def _restore_elsewhere(database: Database) -> None:
    """Make it look as if everything so far came from a server that had counted a billion transactions more."""
    async with database.transaction() as tx:
        for table in ("outbox", "cursors"):
            await tx.execute(f"UPDATE plumbing.{table} SET xid = (xid::text::bigint + 1000000000)::text::xid8")


async def test_after_a_restore_on_another_server_every_event_still_comes_once_and_in_order(database: Database) -> None:
    await say(database, "a")
    await say(database, "b", "c")
    assert await deliver(database, projection(), max_events=2) == 2
    await deliver_all(database, projection("ahead"))
    await _restore_elsewhere(database)
    await say(database, "d")
    with capture_logs() as logs:
        await deliver_all(database, projection())
    assert [(entry["event"], entry["events"]) for entry in logs] == [("outbox.mended_after_restore", 3)]
    await say(database, "e")
    for name in ("projection", "ahead", "new"):
        await deliver_all(database, projection(name))
        assert await heard(database, name) == ["a", "b", "c", "d", "e"]
    assert await outbox.mend_after_restore(database, OUTBOX) == 0


@pytest.mark.one_day
async def test_events_restored_before_anybody_had_read_are_mended_by_the_schedule(database: Database) -> None:
    await say(database, "a", "b")
    await _restore_elsewhere(database)
    await say(database, "c")
    await outbox.prepare(database, _noon(await _today(database)), OUTBOX)
    await deliver_all(database, projection())
    assert await heard(database) == ["a", "b", "c"]


async def test_negative_control_without_mending_a_restored_outbox_loses_events(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Database, __: Log) -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "mend_after_restore", nothing)
        await say(database, "a")
        await deliver_all(database, projection())
        await _restore_elsewhere(database)
        await say(database, "b")
        assert await deliver(database, projection()) == 0
        assert await heard(database) == ["a"]
    await deliver_all(database, projection())
    assert await heard(database) == ["a", "b"]


class Explaining:
    """A reader that notes how Postgres goes about each question, and answers none."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.plans: list[str] = []

    async def fetch(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        rows = await self._database.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {query}", *args)
        self.plans.append("\n".join(row[0] for row in rows))
        return []

    async def fetchrow(self, query: str, *args: object) -> None:
        await self.fetch(query, *args)

    async def fetchval(self, query: str, *args: object) -> None:
        await self.fetch(query, *args)


@pytest.mark.one_day
async def test_reading_on_touches_nothing_that_was_read(database: Database) -> None:
    """However many events lie behind, in however many partitions: each is entered by its index, and not sorted."""
    today = await _today(database)
    await outbox.prepare(database, _noon(today - timedelta(days=8)), OUTBOX)
    for start in range(0, 4000, 500):
        await say(database, *range(start, start + 500))
        await _age(database, 1)
    await deliver_all(database, projection(), max_events=500)
    await say(database, "new")
    explaining = Explaining(database)
    cursor = await database.fetchrow("SELECT xid, position FROM plumbing.cursors")
    assert cursor is not None
    for read in (
        lambda reader: outbox_cursor.read(reader, cursor, None, 500, OUTBOX),
        lambda reader: outbox_cursor.news(reader, "projection", OUTBOX),
        lambda reader: outbox_upkeep._is_restored(reader, OUTBOX),
    ):
        with contextlib.suppress(AssertionError):  # an explanation is no answer
            await read(explaining)
    assert len(explaining.plans) == 3
    for plan in explaining.plans:
        assert "Index" in plan
        assert "Seq Scan on outbox" not in plan
        assert "Sort Method" not in plan
