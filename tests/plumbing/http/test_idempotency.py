"""The same Idempotency-Key does the work once and gives the same answer, whoever comes when."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import Struct

from growth.plumbing.http import idempotency
from growth.plumbing.http.idempotency import KEPT_HOURS, Once, fingerprint, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import CommitUnknown, Database, Tx
from growth.vocabulary.events.flash_sale import FlashSalePaused
from growth.vocabulary.refusals import Kind, Refusal
from tests.patience import PATIENCE_SECONDS
from tests.plumbing.postgres_proxy import PostgresProxy

pytestmark = pytest.mark.anyio

NO = Kind("test.no", "No.")
NOW = datetime.now(UTC)


class Made(Struct, frozen=True):
    number: int
    at: datetime
    name: str


class Maker:
    """Makes one thing a call, and counts; what it does to Postgres is an event."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.calls = 0
        self.before_work: Callable[[], Awaitable[object]] | None = None

    async def make(
        self,
        key: str | None,
        content: str = "content",
        *,
        scope: str = "ann POST /things",
        now: datetime = NOW,
        error: Exception | None = None,
    ) -> Once[Made]:
        async with self.database.transaction() as tx:

            async def work() -> Made:
                self.calls += 1
                if self.before_work:
                    await self.before_work()
                await emit(tx, FlashSalePaused(at=now, sale_id="thing"))
                if error:
                    raise error
                return Made(self.calls, now, "ü")

            return await once(
                tx, scope=scope, key=key, content=fingerprint(content), answer_type=Made, work=work, now=now
            )

    async def things(self) -> int:
        count = await self.database.fetchval("SELECT count(*) FROM plumbing.outbox")
        assert isinstance(count, int)
        return count


@pytest.fixture
def maker(database: Database) -> Maker:
    return Maker(database)


async def test_a_repeated_key_gets_the_first_answer_and_the_work_is_done_once(maker: Maker) -> None:
    first = await maker.make("key")
    again = [await maker.make("key") for _ in range(3)]
    assert first == Once(Made(1, NOW, "ü"), replayed=False)
    assert again == [Once(first.answer, replayed=True)] * 3
    assert maker.calls == await maker.things() == 1


async def test_without_a_key_every_call_is_work(maker: Maker) -> None:
    answers = [await maker.make(None) for _ in range(2)]
    assert [answer.answer.number for answer in answers] == [1, 2]
    assert not any(answer.replayed for answer in answers)
    assert await maker.database.fetchval("SELECT count(*) FROM plumbing.idempotency") == 0


async def test_a_key_with_other_content_is_refused(maker: Maker) -> None:
    await maker.make("key", "one")
    with pytest.raises(Refusal) as raised:
        await maker.make("key", "two")
    assert raised.value.kind is idempotency.OTHER_CONTENT
    assert raised.value.kind.status == 422
    assert maker.calls == 1


async def test_keys_of_other_callers_and_paths_are_other_keys(maker: Maker) -> None:
    scopes = ["ann POST /things", "bob POST /things", "ann POST /others", "ann POST /thing"]
    answers = [await maker.make("key", scope=scope) for scope in scopes]
    answers.append(await maker.make("skey", scope="ann POST /thing"))
    assert [answer.answer.number for answer in answers] == [1, 2, 3, 4, 5]


async def test_a_refused_call_keeps_nothing_and_may_be_tried_again(maker: Maker) -> None:
    for _ in range(2):
        with pytest.raises(Refusal):
            await maker.make("key", error=Refusal(NO))
    assert await maker.things() == 0
    assert (await maker.make("key")).replayed is False
    assert await maker.things() == 1


async def test_a_key_that_is_still_running_is_refused_at_once(maker: Maker) -> None:
    inside, may_end = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        inside.set()
        await may_end.wait()

    maker.before_work = wait
    first = asyncio.create_task(maker.make("key"))
    await inside.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Refusal) as raised:
            await maker.make("key")
    assert raised.value.kind is idempotency.IN_PROGRESS
    may_end.set()
    await first
    assert (await maker.make("key")).replayed


async def test_64_callers_with_one_key_do_the_work_once_many_times_over(maker: Maker) -> None:
    """Whoever is told to wait comes again, as clients do; all end with one answer."""

    async def insist(key: str) -> Made:
        while True:
            try:
                return (await maker.make(key)).answer
            except Refusal as refusal:
                assert refusal.kind is idempotency.IN_PROGRESS  # noqa: PT017 - the only no there may be
                await asyncio.sleep(0.001)

    for number in range(10):
        answers = await asyncio.gather(*(insist(f"key-{number}") for _ in range(64)))
        assert len(set(answers)) == 1
        assert await maker.things() == number + 1


async def test_without_the_lock_the_unique_key_still_does_the_work_once(maker: Maker) -> None:
    """The lock only spares work. Two that both believed to be first: one commits, the other is rolled back."""
    both = asyncio.Barrier(2)
    maker.before_work = both.wait
    maker.database = _BlindToLocks(maker.database)  # type: ignore[assignment]
    results = await asyncio.gather(maker.make("key"), maker.make("key"), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Once", "Refusal"]
    assert maker.calls == 2
    assert await maker.things() == 1


async def test_negative_control_without_the_unique_key_the_work_is_done_twice(maker: Maker) -> None:
    async with maker.database.transaction() as tx:
        await tx.execute("ALTER TABLE plumbing.idempotency DROP CONSTRAINT idempotency_pkey")
    both = asyncio.Barrier(2)
    maker.before_work = both.wait
    maker.database = _BlindToLocks(maker.database, "ON CONFLICT (scope, key)", "ON CONFLICT")  # type: ignore[assignment]
    await asyncio.gather(maker.make("key"), maker.make("key"))
    assert await maker.things() == 2


class _BlindToLocks:
    """A database on which every lock is free."""

    def __init__(self, database: Database, *_: str) -> None:
        self._database = database
        self._drops_conflict = bool(_)
        self.fetchval = database.fetchval

    def transaction(self) -> "_BlindTransaction":
        return _BlindTransaction(self._database, drops_conflict=self._drops_conflict)


class _BlindTransaction:
    def __init__(self, database: Database, *, drops_conflict: bool) -> None:
        self._open = database.transaction()
        self._drops_conflict = drops_conflict

    async def __aenter__(self) -> Tx:
        tx = await self._open.__aenter__()
        fetchrow, fetchval = tx.fetchrow, tx.fetchval

        async def blind(query: str, *args: object) -> object:
            lock = "pg_try_advisory_xact_lock(hashtextextended($1 || chr(31) || $2, 0))"
            assert lock in query
            return await fetchrow(query.replace(lock, "TRUE"), *args)

        async def careless(query: str, *args: object) -> object:
            start, end = query.index("ON CONFLICT"), query.index("RETURNING")
            return await fetchval(f"{query[:start]} {query[end:]}", *args[:7])

        tx.fetchrow = blind  # type: ignore[assignment]
        if self._drops_conflict:
            tx.fetchval = careless  # type: ignore[assignment]
        return tx

    async def __aexit__(self, *error: object) -> bool | None:
        return await self._open.__aexit__(*error)  # type: ignore[arg-type]


async def test_after_a_commit_nobody_heard_of_the_same_key_tells_what_happened(
    database: Database, proxied: Database, proxy: PostgresProxy
) -> None:
    """The caller of a lost answer asks again with the same key, and is not served twice."""
    proxy.cut_after_commit = True
    with pytest.raises(CommitUnknown):
        await Maker(proxied).make("key")
    maker = Maker(database)
    assert (await maker.make("key")).replayed
    assert maker.calls == 0
    assert await maker.things() == 1


async def test_after_a_day_a_key_is_new_again_pruned_or_not(maker: Maker) -> None:
    await maker.make("key", "one", now=NOW - timedelta(hours=KEPT_HOURS))
    answer = await maker.make("key", "two")
    assert not answer.replayed
    assert (await maker.make("key", "two")).replayed


async def test_pruning_forgets_what_is_older_than_a_day_in_bounded_batches(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "PRUNED_AT_ONCE", 3)
    for number in range(5):
        await maker.make(f"old-{number}", now=NOW - timedelta(hours=KEPT_HOURS, seconds=number))
    await maker.make("new", now=NOW - timedelta(hours=KEPT_HOURS - 1))
    assert [await idempotency.prune(maker.database, NOW) for _ in range(3)] == [3, 2, 0]
    assert await maker.database.fetchval("SELECT array_agg(key) FROM plumbing.idempotency") == ["new"]


async def test_two_pruners_at_once_share_the_work(maker: Maker) -> None:
    for number in range(8):
        await maker.make(f"old-{number}", now=NOW - timedelta(days=2))
    pruned = await asyncio.gather(*(idempotency.prune(maker.database, NOW) for _ in range(4)))
    assert sum(pruned) == 8


def test_a_fingerprint_tells_parts_from_their_concatenation() -> None:
    prints = [fingerprint("ab", "c"), fingerprint("a", "bc"), fingerprint("abc"), fingerprint("abc", ""), fingerprint()]
    assert len(set(prints)) == len(prints)
    assert fingerprint("a", "ü") == fingerprint(b"a", "ü".encode())
