"""A reader never stands for ever: the one event that cannot be handled is set aside, and found again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner
from msgspec import structs
from structlog.testing import capture_logs

from growth.cli import cli
from growth.plumbing.outbox import dead_letters, outbox
from growth.plumbing.outbox import retry as outbox_retry
from growth.plumbing.outbox.dead_letters import DeadLetter, ReaderStopped
from growth.plumbing.outbox.outbox import OUTBOX, Envelope, Subscription, deliver, emit
from growth.plumbing.outbox.retry import Retries
from growth.plumbing.person import erasure
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch.audit import Act
from growth.shopper.activity.model import LOG
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.events.flash_sale import FlashSalePaused
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal, Unavailable
from tests.app import ENVIRONMENT, running_app
from tests.kit.turn import leading_at

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
ACT = Act(Operator("ann", Role.ADMIN), AT, "r", "mended")


class Reader:
    """A listener that cannot handle some events, and is slow to say so: it writes first."""

    def __init__(self, database: Database, bad: Collection[object] = (), name: str = "reader") -> None:
        self.database, self.name = database, name
        self.bad = {str(one) for one in bad}
        self.error: Exception = ValueError("names a person: u-1")
        self.calls = 0
        self.subscription = Subscription(name, None, self._handle)
        self.retries = Retries(database, [self.subscription])

    async def _handle(self, tx: Tx, envelopes: Sequence[Envelope]) -> None:
        self.calls += 1
        for envelope in envelopes:
            await tx.execute(
                "INSERT INTO public.heard (who, subject) VALUES ($1, $2)", self.name, envelope.event.subject
            )
        if any(envelope.event.subject in self.bad for envelope in envelopes):
            raise self.error

    async def reads(self) -> None:
        while await deliver(self.database, self.subscription):
            pass

    async def retries_due(self) -> None:
        await self.retries.retry_due(await leading_at(self.database, AT))

    async def heard(self) -> list[str]:
        rows = await self.database.fetch("SELECT subject FROM public.heard WHERE who = $1 ORDER BY place", self.name)
        return [row["subject"] for row in rows]

    async def letters(self) -> list[DeadLetter]:
        return await dead_letters.page(self.database, self.name, after=0, limit=1000)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Stacks that nobody reads take their time to draw."""
    with capture_logs():
        yield


@pytest.fixture(autouse=True)
async def heard_table(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(
        "CREATE TABLE public.heard (place bigint GENERATED ALWAYS AS IDENTITY, who text, subject text)"
    )
    await connection.close()


async def say(database: Database, *names: object) -> None:
    async with database.transaction() as tx:
        await emit(tx, *(FlashSalePaused(at=AT, sale_id=str(name)) for name in names))


async def say_unknown(database: Database, type_: str = "tea.served", data: str = "{}") -> None:
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO plumbing.outbox (event_id, type, subject, at, data) VALUES ($1, $2, 't', now(), $3)",
            new_id(AT),
            type_,
            data,
        )


def but(bad: int, count: int) -> list[str]:
    return [str(number) for number in range(count) if number != bad]


# --- found, set aside, and the reader goes on -------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 1, 57, 98, 99])
async def test_one_event_that_fails_stops_nobody_and_is_kept_with_its_reason(database: Database, bad: int) -> None:
    reader, bystander = Reader(database, [bad]), Reader(database, name="bystander")
    await say(database, *range(100))
    await reader.reads()
    await bystander.reads()
    assert await reader.heard() == but(bad, 100)
    assert await bystander.heard() == [str(number) for number in range(100)]
    (letter,) = await reader.letters()
    assert (letter.subject, letter.type, letter.reason, letter.tries) == (str(bad), "flash_sale.paused", "failed", 1)
    assert letter.error.startswith("ValueError")
    assert "u-1" not in letter.error
    assert await bystander.letters() == []


async def test_finding_it_takes_as_many_tries_as_halves(database: Database) -> None:
    reader = Reader(database, [499])
    await say(database, *range(500))
    await deliver(database, reader.subscription)
    assert reader.calls <= 11


async def test_several_that_fail_are_each_set_aside(database: Database) -> None:
    reader = Reader(database, [3, 4, 90])
    await say(database, *range(100))
    await reader.reads()
    assert [one.subject for one in await reader.letters()] == ["3", "4", "90"]
    assert len(await reader.heard()) == 97


async def test_two_that_fail_only_together_are_both_handled(database: Database) -> None:
    reader = Reader(database)
    inner = reader.subscription.handle

    async def handle(tx: Tx, envelopes: Sequence[Any]) -> None:
        await inner(tx, envelopes)
        assert len({one.event.subject for one in envelopes} & {"1", "2"}) < 2, "a key twice in one call"

    subscription = Subscription("reader", None, handle)
    await say(database, *range(4))
    while await deliver(database, subscription):
        pass
    assert await reader.heard() == ["0", "1", "2", "3"]
    assert await reader.letters() == []


@pytest.mark.parametrize("outside", [Unavailable("Redis"), asyncpg.DiskFullError(""), TimeoutError()])
async def test_the_outside_failing_sets_nothing_aside(database: Database, outside: Exception) -> None:
    reader = Reader(database, [0])
    reader.error = outside
    await say(database, 0, 1)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await deliver(database, reader.subscription)
    assert (await reader.letters(), await reader.heard()) == ([], [])
    reader.bad.clear()
    await reader.reads()
    assert await reader.heard() == ["0", "1"]


async def test_an_error_of_the_driver_is_an_event_that_fails(database: Database) -> None:
    """asyncpg has one class for a dead line and for a call that is wrong."""

    async def handle(tx: Tx, _: Sequence[Any]) -> None:
        await tx.execute("SELECT $1::int", 2**40)

    await say(database, 0)
    assert await deliver(database, Subscription("reader", None, handle)) == 1
    assert await deliver(database, Subscription("reader", None, handle)) == 0
    (letter,) = await dead_letters.page(database, "reader", after=0, limit=10)
    assert letter.error.startswith("DataError")


async def test_readers_of_the_activity_log_set_aside_too(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO activity.log (day, position, event_id, type, subject, at, data)
            SELECT DATE '2026-11-21', number, 'e' || number, 'app.opened', 'u' || number, '2026-11-21T20:00Z', '{}'
            FROM generate_series(1, 10) AS number
            """
        )
    got: list[str] = []

    async def handle(_: Tx, activities: Sequence[Any]) -> None:
        if any(one.user_id == "u5" for one in activities):
            raise ValueError
        got.extend(one.user_id for one in activities)

    subscription = Subscription("reader", None, handle, LOG)
    while await deliver(database, subscription):
        pass
    assert got == [f"u{number}" for number in range(1, 11) if number != 5]
    (letter,) = await dead_letters.page(database, None, after=0, limit=10)
    assert (letter.log, letter.event_id, letter.subject) == ("activity.log", "e5", "u5")


# --- one event on which the outside fails, or the outside ------------------------------------------------------------


async def too_slow(tx: Tx) -> None:
    """A statement that takes longer than it may."""
    await tx.execute("SELECT pg_sleep(600)", timeout=0.05)


async def cancelled(tx: Tx) -> None:
    """The same, where Postgres' own limit ends it."""
    await tx.execute("SET LOCAL statement_timeout = 50")
    await tx.execute("SELECT pg_sleep(600)")


async def listen(reader: Reader, tries: int = 30) -> None:
    """As the worker does: less at once after each failure."""
    failures = 0
    for _ in range(tries):
        try:
            if not await deliver(reader.database, reader.subscription, max_events=max(1, 8 >> failures)):
                return
        except Unavailable:
            failures += 1
        else:
            failures = 0


@pytest.mark.parametrize("why", [too_slow, cancelled])
async def test_one_event_that_takes_too_long_is_set_aside_and_the_others_go_on(database: Database, why: Any) -> None:
    reader = Reader(database)
    inner = reader.subscription.handle

    async def handle(tx: Tx, envelopes: Sequence[Any]) -> None:
        await inner(tx, envelopes)
        if any(one.event.subject == "7" for one in envelopes):
            await why(tx)

    reader.subscription = structs.replace(reader.subscription, handle=handle)
    await say(database, *range(20))
    await listen(reader)
    assert await reader.heard() == but(7, 20), "each once, in order: what was tried for its sake was taken back"
    (letter,) = await reader.letters()
    assert (letter.subject, letter.reason) == ("7", "failed")
    assert letter.error.startswith("TimeoutError" if why is too_slow else "QueryCanceledError 57014")


async def test_several_side_by_side_that_take_too_long_are_each_set_aside(database: Database) -> None:
    reader = Reader(database, [0, 1, 2, 9])
    reader.error = TimeoutError()
    await say(database, *range(10))
    await listen(reader, 60)
    assert [one.subject for one in await reader.letters()] == ["0", "1", "2"], "nobody waits behind the last"
    assert await reader.heard() == [str(number) for number in range(3, 9)]


async def test_a_postgres_that_is_slow_for_everybody_sets_nothing_aside(database: Database) -> None:
    reader = Reader(database, range(30))
    reader.error = TimeoutError()
    await say(database, *range(30))
    await listen(reader, 60)
    assert (await reader.letters(), await reader.heard()) == ([], [])
    reader.bad.clear()
    await listen(reader)
    assert await reader.heard() == [str(number) for number in range(30)]
    assert await reader.letters() == []


@pytest.mark.parametrize("slow_for_tries", range(1, 12))
async def test_whenever_postgres_is_well_again_the_event_that_was_tried_meanwhile_is_handled(
    database: Database, slow_for_tries: int
) -> None:
    reader = Reader(database)
    inner = reader.subscription.handle

    async def handle(tx: Tx, envelopes: Sequence[Any]) -> None:
        await inner(tx, envelopes)
        if reader.calls <= slow_for_tries:
            raise TimeoutError

    reader.subscription = structs.replace(reader.subscription, handle=handle)
    await say(database, *range(3))
    await listen(reader)
    assert (await reader.letters(), await reader.heard()) == ([], ["0", "1", "2"])


async def test_so_many_in_a_row_that_take_too_long_are_no_doing_of_the_events(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MAX_IN_A_ROW", 3)
    reader = Reader(database, range(4))
    reader.error = TimeoutError()
    await say(database, *range(6))
    await listen(reader)
    assert (await reader.letters(), await reader.heard()) == ([], [])
    reader.bad.remove("3")
    await listen(reader, 60)
    assert [one.subject for one in await reader.letters()] == ["0", "1", "2"]
    assert await reader.heard() == ["3", "4", "5"]


async def test_an_event_in_doubt_waits_for_one_that_gets_through_however_far_behind(database: Database) -> None:
    reader = Reader(database, ["slow"])
    reader.error = TimeoutError()
    reader.subscription = structs.replace(reader.subscription, types=frozenset({"flash_sale.paused"}))
    await say(database, "slow")
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO plumbing.outbox (event_id, type, subject, at, data)
            SELECT gen_random_uuid(), 'tea.served', 't', now(), '{}'
            FROM generate_series(1, 1000)
            """
        )
    await listen(reader)
    assert await reader.letters() == [], "nobody waits for it"
    await say(database, "last")
    await listen(reader, 150)
    assert [one.subject for one in await reader.letters()] == ["slow"]
    assert await reader.heard() == ["last"]


async def test_one_that_fails_for_a_reason_of_its_own_proves_nothing_of_the_outside(database: Database) -> None:
    reader = Reader(database)

    async def handle(_: Tx, envelopes: Sequence[Any]) -> None:
        for one in envelopes:
            raise TimeoutError if one.event.subject == "0" else ValueError

    reader.subscription = structs.replace(reader.subscription, handle=handle)
    await say(database, *range(3))
    await listen(reader)
    assert await reader.letters() == []


async def test_workers_in_doubt_of_one_event_set_it_aside_once(database: Database) -> None:
    reader = Reader(database, [2])
    reader.error = TimeoutError()
    await say(database, *range(6))

    async def work(pause_seconds: float) -> None:
        while len(await reader.heard()) < 5:
            with contextlib.suppress(Unavailable):
                await deliver(database, reader.subscription, max_events=1)
            await asyncio.sleep(pause_seconds)

    await asyncio.gather(work(0.05), work(0.07), work(0.11))
    assert [one.subject for one in await reader.letters()] == ["2"]
    assert await reader.heard() == but(2, 6)


async def test_negative_control_without_doubt_one_event_stops_its_reader(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_TRIES_ALONE", 10**6)
    reader = Reader(database, [0])
    reader.error = TimeoutError()
    await say(database, *range(3))
    await listen(reader)
    assert (await reader.letters(), await reader.heard()) == ([], [])


# --- it does not pour everything out ----------------------------------------------------------------------------------


async def test_a_reader_that_fails_on_everything_stops_and_goes_on_when_it_is_mended(database: Database) -> None:
    reader = Reader(database, range(100))
    await say(database, *range(100))
    with pytest.raises(ReaderStopped):
        await reader.reads()
    for _ in range(3):
        with pytest.raises(ReaderStopped):
            await reader.reads()
    assert len(await reader.letters()) == dead_letters.MAX_IN_A_ROW
    reader.bad.clear()
    await reader.reads()
    assert await reader.heard() == [str(number) for number in range(dead_letters.MAX_IN_A_ROW, 100)]
    assert await database.fetchval("SELECT parked_in_a_row FROM plumbing.cursors") == 0


async def test_a_reader_that_fails_on_every_other_event_stops_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MAX_FAILED", 10)
    reader = Reader(database, range(0, 60, 2))
    await say(database, *range(60))
    with pytest.raises(ReaderStopped):
        await reader.reads()
    assert len(await reader.letters()) == 10
    for letter in await reader.letters():
        async with database.transaction() as tx:
            await dead_letters.pass_over(tx, ACT, letter.letter)
    with pytest.raises(ReaderStopped):
        await reader.reads()
    assert [one.subject for one in await reader.letters()] == [str(number) for number in range(20, 40, 2)]


async def test_negative_control_without_the_bound_all_is_poured_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MAX_IN_A_ROW", 10**6)
    monkeypatch.setattr(dead_letters, "MAX_FAILED", 10**6)
    reader = Reader(database, range(50))
    await say(database, *range(50))
    await reader.reads()
    assert len(await reader.letters()) == 50


# --- events of a newer release ----------------------------------------------------------------------------------------


async def test_an_event_of_a_newer_release_stops_nobody_and_is_taken_up_by_a_process_that_knows_it(
    database: Database,
) -> None:
    reader = Reader(database)
    await say(database, "a")
    await say_unknown(database)
    await say_unknown(database, "flash_sale.paused", '{"not": "as this release has it"}')
    await say(database, "b")
    await reader.reads()
    assert await reader.heard() == ["a", "b"]
    assert [(one.type, one.reason) for one in await reader.letters()] == [
        ("tea.served", "unread"),
        ("flash_sale.paused", "unread"),
    ]
    # This process, and one more of its release, do not know more the second time.
    await reader.retries_due()
    assert [one.tries for one in await reader.letters()] == [2, 2]
    await reader.retries_due()
    assert [one.tries for one in await reader.letters()] == [2, 2]

    newer = Reader(database)
    log = outbox.Log(OUTBOX.table, lambda row: Envelope(row["event_id"], FlashSalePaused(at=AT, sale_id=row["type"])))
    newer.subscription = Subscription("reader", None, newer._handle, log)
    newer.retries = Retries(database, [newer.subscription])
    await newer.retries_due()
    assert await newer.letters() == []
    assert sorted(await newer.heard()) == ["a", "b", "flash_sale.paused", "tea.served"]


async def test_a_thousand_events_of_a_newer_release_do_not_stop_a_reader(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO plumbing.outbox (event_id, type, subject, at, data)
            SELECT gen_random_uuid(), 'tea.served', 't', now(), '{}'
            FROM generate_series(1, 1000)
            """
        )
    await say(database, "a")
    reader = Reader(database)
    await reader.reads()
    assert await reader.heard() == ["a"]
    assert len(await reader.letters()) == 1000
    assert reader.calls == 1


# --- retry and pass ---------------------------------------------------------------------------------------------------


async def test_what_is_mended_is_handled_once_when_it_is_tried_again(database: Database) -> None:
    reader = Reader(database, [1])
    await say(database, 0, 1, 2)
    await reader.reads()
    (letter,) = await reader.letters()
    await reader.retries_due()
    assert len(await reader.letters()) == 1, "nobody asked"

    async with database.transaction() as tx:
        await dead_letters.retry(tx, ACT, letter.letter)
    await reader.retries_due()
    (again,) = await reader.letters()
    assert (again.tries, again.retry_at, again.reason) == (2, None, "failed")
    assert await reader.heard() == ["0", "2"], "what failed wrote nothing"

    reader.bad.clear()
    async with database.transaction() as tx:
        await dead_letters.retry(tx, ACT, letter.letter)
    await reader.retries_due()
    await reader.retries_due()
    assert await reader.letters() == []
    assert await reader.heard() == ["0", "2", "1"]


async def test_a_letter_on_which_the_outside_fails_keeps_no_other_from_being_tried(database: Database) -> None:
    reader = Reader(database, range(3))
    await say(database, *range(3))
    await reader.reads()
    reader.bad, reader.error = {"0"}, TimeoutError()
    for letter in await reader.letters():
        async with database.transaction() as tx:
            await dead_letters.retry(tx, ACT, letter.letter)
    await reader.retries_due()
    assert await reader.heard() == ["1", "2"]
    (letter,) = await reader.letters()
    assert (letter.tries, letter.reason, letter.retry_at) == (2, "failed", None), "whoever asked sees why"
    assert letter.error.startswith("TimeoutError")


async def test_what_nobody_asked_for_is_tried_until_the_outside_answers_and_stays_unread_meanwhile(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_retry, "RETRY_BATCH", 2)
    reader = Reader(database)
    for number in range(5):
        await say_unknown(database, f"tea.served.{number}")
    await reader.reads()
    newer = Reader(database, ["tea.served.0", "tea.served.1"])
    newer.error = TimeoutError()
    log = outbox.Log(OUTBOX.table, lambda row: Envelope(row["event_id"], FlashSalePaused(at=AT, sale_id=row["type"])))
    newer.subscription = structs.replace(newer.subscription, log=log)
    newer.retries = Retries(database, [newer.subscription])
    for _ in range(6):
        await newer.retries_due()
    assert await newer.heard() == ["tea.served.2", "tea.served.3", "tea.served.4"]
    assert {one.reason for one in await newer.letters()} == {"unread"}
    newer.bad.clear()
    for _ in range(2):
        await newer.retries_due()
    assert await newer.letters() == []


async def test_a_letter_outlives_its_day_of_the_log(database: Database) -> None:
    reader = Reader(database, [1])
    await say(database, 1)
    await reader.reads()
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM plumbing.outbox")
        await dead_letters.retry(tx, ACT, (await reader.letters())[0].letter)
    reader.bad.clear()
    await reader.retries_due()
    assert await reader.heard() == ["1"]


async def test_what_is_passed_over_is_gone_and_the_audit_knows_of_it(database: Database) -> None:
    reader = Reader(database, [1])
    await say(database, 1)
    await reader.reads()
    (letter,) = await reader.letters()
    async with database.transaction() as tx:
        await dead_letters.pass_over(tx, ACT, letter.letter)
    assert await reader.letters() == []
    row = await database.fetchrow("SELECT operator, action, subject, reason FROM plumbing.audit")
    assert row is not None
    assert tuple(row) == ("ann", "dead_letter.pass", str(letter.letter), "mended")
    with pytest.raises(Refusal):
        async with database.transaction() as tx:
            await dead_letters.retry(tx, ACT, letter.letter)


async def test_a_letter_of_a_reader_that_is_no_more_stays_until_it_is_passed_over(database: Database) -> None:
    reader = Reader(database, [1])
    await say(database, 1)
    await reader.reads()
    async with database.transaction() as tx:
        await dead_letters.retry(tx, ACT, (await reader.letters())[0].letter)
    await Retries(database, []).retry_due(await leading_at(database, AT))
    assert [(one.tries, one.error) for one in await reader.letters()] == [(2, "_NobodyReads")]


async def test_an_outlet_that_is_switched_off_leaves_no_letters(database: Database) -> None:
    reader = Reader(database, [1])
    await say(database, 1)
    await reader.reads()
    async with database.transaction() as tx:
        await outbox.forget(tx, "reader")
    assert await reader.letters() == []


async def test_the_lag_counts_what_was_set_aside(database: Database) -> None:
    reader = Reader(database, [1])
    await say(database, 1)
    await say_unknown(database)
    await reader.reads()
    (lag,) = await outbox.lag(database, OUTBOX)
    assert (lag.events, lag.failed, lag.unread) == (0, 1, 1)


async def test_erasing_a_shopper_finds_them_in_dead_letters(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO plumbing.dead_letters (
                subscription, log, xid, position, event_id, type, subject, at, data, reason, error, parked_at, tried_at
            )
            VALUES ('r', 'plumbing.outbox', '1', 1, 'e', 't', 'u-1', now(), '{"user_id":"u-1","sku":"u-1"}',
                    'failed', 'E', now(), now())
            """
        )
        await erasure.ask(tx, new_id(AT), "u-1", "erased-1", AT)
    sweeping = erasure.Erasures(database, [])
    while await sweeping.sweep(await leading_at(database, AT)):
        pass
    row = await database.fetchrow("SELECT subject, data::text FROM plumbing.dead_letters")
    assert row is not None
    assert row["subject"] == "erased-1"
    assert '"u-1"' not in row["data"].replace('"sku":"u-1"', "").replace('"sku": "u-1"', "")


# --- operators --------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def one_letter(database: Database) -> AsyncIterator[DeadLetter]:
    reader = Reader(database, ["s"])
    await say(database, "s")
    await reader.reads()
    (letter,) = await reader.letters()
    yield letter
    async with database.transaction() as tx:
        await outbox.forget(tx, "reader")


async def test_operators_list_retry_and_pass_over_http(database: Database, postgres_dsn: str, redis_url: str) -> None:
    async with one_letter(database) as letter, running_app(postgres_dsn, redis_url) as app:
        listed = await app.operator("GET", "/admin/v1/dead-letters?subscription=reader", role=Role.VIEWER)
        (item,) = listed.json()["items"]
        assert (item["letter"], item["error"], "data" in item) == (letter.letter, letter.error, False)
        path = f"/admin/v1/dead-letters/{letter.letter}"
        reason = {"reason": "mended"}
        for action in ("retry", "pass"):
            assert (await app.operator("POST", f"{path}/{action}", reason, role=Role.EDITOR)).status_code == 403
        asked = await app.operator("POST", f"{path}/retry", reason, role=Role.ADMIN)
        assert asked.json()["retry_at"] is not None
        assert (await app.operator("POST", f"{path}/pass", reason, role=Role.ADMIN)).status_code == 200
        gone = await app.operator("POST", f"{path}/retry", reason, role=Role.ADMIN)
        assert (gone.status_code, gone.json()["code"]) == (404, "dead_letter.not_found")


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
async def test_the_command_lists_shows_retries_and_passes(
    database: Database, postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GROWTH_POSTGRES_DSN", postgres_dsn)
    monkeypatch.setenv("GROWTH_REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "300")

    async def says(*arguments: str) -> str:
        run = await asyncio.to_thread(CliRunner().invoke, cli, ["dead-letters", *arguments])
        assert run.exit_code == 0, run.output
        return run.output

    async with one_letter(database) as letter:
        number = str(letter.letter)
        assert "ValueError" in await says("list")
        assert '"sale_id": "s"' in await says("show", number)
        assert "within seconds" in await says("retry", "--all")
        assert (await dead_letters.get(database, letter.letter))[0].retry_at is not None
        await says("pass", number, "--reason", "nobody misses it")
        assert "No event waits" in await says("list")


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("command", [("show",), ("retry",), ("pass", "--reason", "x")])
async def test_a_number_that_no_letter_can_have_is_refused_without_a_stack(command: tuple[str, ...]) -> None:
    run = CliRunner().invoke(cli, ["dead-letters", *command, "9" * 20])
    assert run.exit_code == 2
    assert "not in the range" in run.output


async def test_a_letter_keeps_when_it_was_parked(database: Database) -> None:
    async with one_letter(database) as letter:
        assert letter.tried_at - letter.parked_at < timedelta(seconds=1)
