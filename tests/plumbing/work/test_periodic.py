"""One leader a task, whoever dies, sleeps or fails; and no write by a leader of the past."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import asyncpg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from growth.plumbing.postgres import database as postgres
from growth.plumbing.postgres.database import Database, Tx, connect_postgres
from growth.plumbing.work import periodic
from growth.plumbing.work.periodic import LeaseLost, Periodic, PeriodicTask, Turn
from growth.vocabulary.refusals import Unavailable
from tests.patience import PATIENCE_SECONDS
from tests.plumbing.postgres_proxy import PostgresProxy

pytestmark = pytest.mark.anyio

SOON = 0.02
"""Seconds between turns, where a test must not wait."""


@pytest.fixture(autouse=True)
async def done_table(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("CREATE TABLE public.done (place bigint GENERATED ALWAYS AS IDENTITY, who text)")
    await connection.close()


async def _write(tx: Tx, who: str) -> None:
    await tx.execute("INSERT INTO public.done (who) VALUES ($1)", who)


async def _done(database: Database) -> list[str]:
    return [row["who"] for row in await database.fetch("SELECT who FROM public.done ORDER BY place")]


async def _expire(database: Database) -> None:
    """Let every lease have ended, as if its leader had slept through it."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE plumbing.leases SET expires_at = clock_timestamp() - INTERVAL '1 second'")


class Worker:
    """A worker that runs until told otherwise."""

    def __init__(self, database: Database, tasks: list[PeriodicTask], holder: str) -> None:
        self.stop = asyncio.Event()
        self.periodic = Periodic(database, tasks, holder)
        self.running = asyncio.create_task(self.periodic.run(self.stop))

    async def stops(self) -> None:
        self.stop.set()
        await self.running

    async def dies(self) -> None:
        """No goodbye: its leases stay."""

        async def nothing() -> None:
            pass

        self.periodic._release = nothing  # type: ignore[method-assign]
        self.running.cancel()
        await asyncio.wait([self.running])


@contextlib.asynccontextmanager
async def worker(database: Database, *tasks: PeriodicTask, holder: str = "a") -> AsyncIterator[Worker]:
    running = Worker(database, list(tasks), holder)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield running
    finally:
        if not running.running.done():
            await running.stops()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the condition is of others, who signal nothing
        await asyncio.sleep(0.005)


def writing(
    who: str, seen: list[Turn] | None = None, *, name: str = "task", every_seconds: float = SOON
) -> PeriodicTask:
    async def run(turn: Turn) -> int:
        if seen is not None:
            seen.append(turn)
        async with turn.transaction() as tx:
            await _write(tx, who)
        return 1

    return PeriodicTask(name, every_seconds, run)


# --- who leads ------------------------------------------------------------------------------------------------------


async def test_a_task_runs_at_once_and_then_again_and_again_by_postgres_clock(database: Database) -> None:
    turns: list[Turn] = []
    async with worker(database, writing("a", turns)):
        await _until(lambda: len(turns) >= 5)
    now = await database.fetchval("SELECT clock_timestamp()")
    assert all(first.now < second.now for first, second in itertools.pairwise(turns))
    assert now - timedelta(seconds=20) < turns[0].now < now
    assert len(await _done(database)) == len(turns)


async def test_of_many_workers_one_runs_a_task(database: Database) -> None:
    turns: dict[str, list[Turn]] = {who: [] for who in "abcdefgh"}
    async with contextlib.AsyncExitStack() as stack:
        for who, seen in turns.items():
            await stack.enter_async_context(worker(database, writing(who, seen), holder=who))
        await _until(lambda: max(len(seen) for seen in turns.values()) >= 10)
        leaders = [who for who, seen in turns.items() if seen]
        assert len(leaders) == 1
    assert await database.fetchval("SELECT count(*) FROM plumbing.leases") == 1


async def test_workers_share_out_tasks_that_others_lead(database: Database) -> None:
    async with worker(database, writing("a", name="one"), holder="a"):
        await _until_done(database, {"a"})
        async with worker(database, writing("b", name="one"), writing("b", name="two"), holder="b"):
            await _until_done(database, {"b"})
        assert {row["name"]: row["holder"] for row in await database.fetch("SELECT * FROM plumbing.leases")} == {
            "one": "a",
            "two": "b",
        }


async def _until_done(database: Database, whom: set[str]) -> None:
    while not whom <= set(await _done(database)):  # noqa: ASYNC110 - rows signal nothing
        await asyncio.sleep(0.005)


async def test_a_worker_that_stops_hands_its_tasks_over_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half an hour between two looks, a day's lease: nobody takes over but where it is handed over.
    monkeypatch.setattr(periodic, "LEASE_SECONDS", 86_400.0)
    monkeypatch.setattr(periodic, "RENEW_SHARE", 0.002 * 10 / 86_400)
    async with worker(database, writing("b"), holder="b") as second:
        await _until_done(database, {"b"})
        async with worker(database, writing("a"), holder="a"):
            await asyncio.sleep(0.1)
            assert set(await _done(database)) == {"b"}
            await second.stops()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await _until_done(database, {"a"})
    fences = await database.fetchval("SELECT fence FROM plumbing.leases")
    assert fences == 2


async def test_a_worker_that_dies_is_replaced_when_its_lease_ends_and_not_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "LEASE_SECONDS", 0.5)
    async with worker(database, writing("b"), holder="b") as first:
        await _until_done(database, {"b"})
        await first.dies()
    until = await database.fetchval("SELECT expires_at FROM plumbing.leases")
    turns: list[Turn] = []
    async with worker(database, writing("a", turns), holder="a"):
        await _until(lambda: bool(turns))
    assert turns[0].now >= until


async def test_a_leader_keeps_its_lease_however_long_it_leads(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "LEASE_SECONDS", 3.0)
    ends = "SELECT expires_at FROM plumbing.leases"
    first: list[Turn] = []
    second: list[Turn] = []
    async with worker(database, writing("a", first), holder="a"):
        await _until(lambda: bool(first))
        first_end = await database.fetchval(ends)
        async with worker(database, writing("b", second), holder="b"):
            # It leads for longer than one lease.
            while await database.fetchval(ends) < first_end + timedelta(seconds=periodic.LEASE_SECONDS):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert not second
    assert await database.fetchval("SELECT fence FROM plumbing.leases") == 1


async def test_a_slow_task_is_not_run_by_every_worker_in_turn(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leader renews the lease between turns: "every hour" means every hour, however many workers there are."""
    monkeypatch.setattr(periodic, "MAX_LEASE_SECONDS", 0.3)
    monkeypatch.setattr(periodic, "LEASE_SECONDS", 0.3)
    ends = "SELECT expires_at FROM plumbing.leases"
    async with worker(database, writing("a", every_seconds=3600)):
        await _until_done(database, {"a"})
        for _ in range(3):
            before = await database.fetchval(ends)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await database.fetchval(ends) == before:  # noqa: ASYNC110 - rows signal nothing
                    await asyncio.sleep(SOON)
        assert await _done(database) == ["a"]


async def test_an_hourly_task_has_another_leader_within_minutes_of_a_sudden_death(database: Database) -> None:
    async with worker(database, writing("a", every_seconds=3600)):
        await _until_done(database, {"a"})
        left = await database.fetchval("SELECT expires_at - clock_timestamp() FROM plumbing.leases")
        assert left <= timedelta(seconds=periodic.MAX_LEASE_SECONDS)


async def test_a_task_that_never_ended_well_is_late_from_when_it_was_first_led(database: Database) -> None:
    """Without a first time, an alert on the last success cannot see it."""

    async def fails(_: Turn) -> int:
        raise ValueError("a bug")

    def began() -> float | None:
        return REGISTRY.get_sample_value("growth_task_last_success_timestamp_seconds", {"task": "never_well"})

    assert began() is None
    with capture_logs():
        async with worker(database, PeriodicTask("never_well", SOON, fails)):
            await _until(lambda: began() is not None)
            first = began()
            await asyncio.sleep(SOON * 5)
            assert began() == first


# --- the fence ------------------------------------------------------------------------------------------------------


async def _turn_of_the_past(database: Database) -> tuple[Turn, Turn]:
    """Two turns: of a leader that slept through its lease, and of the one that leads by now."""
    old_lease = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "a")
    held = await old_lease.hold()
    assert held is not None
    await _expire(database)
    new_lease = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "b")
    new_held = await new_lease.hold()
    assert new_held is not None
    assert new_held.fence > held.fence
    return Turn(database, "task", held), Turn(database, "task", new_held)


async def _nothing(_: Turn) -> int:
    return 0


async def _in_transaction(turn: Turn, who: str) -> None:
    async with turn.transaction() as tx:
        await _write(tx, who)


async def test_a_leader_of_the_past_cannot_write(database: Database) -> None:
    old, new = await _turn_of_the_past(database)
    with pytest.raises(LeaseLost):
        await _in_transaction(old, "old")
    await _in_transaction(new, "new")
    assert await _done(database) == ["new"]


async def test_negative_control_without_the_proof_a_leader_of_the_past_writes(database: Database) -> None:
    old, new = await _turn_of_the_past(database)
    async with old._database.transaction() as tx:
        await _write(tx, "old")
    await _in_transaction(new, "new")
    assert await _done(database) == ["old", "new"], "written by one who no longer leads"


async def test_nobody_takes_over_while_a_leaders_transaction_is_open_even_if_its_lease_has_ended(
    database: Database,
) -> None:
    lease = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "a")
    held = await lease.hold()
    assert held is not None
    other = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "b")
    await _expire(database)
    async with Turn(database, "task", held).transaction() as tx:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await other.hold() is None, "and is told so at once"
        await _write(tx, "a")
    assert await other.hold() is not None
    assert await _done(database) == ["a"]


async def test_a_leader_that_freezes_within_a_transaction_does_not_keep_its_task(
    database: Database, proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock would keep everybody out for as long as its connection lives, which may be hours."""
    monkeypatch.setattr(postgres, "MAX_IDLE_SECONDS", 0.3)
    frozen = await connect_postgres(proxy.dsn, max_connections=1, acquire_seconds=0.5, statement_seconds=0.5)
    held = await periodic._Lease(frozen, PeriodicTask("task", 1, _nothing), "a").hold()
    assert held is not None

    async def freeze_and_wake_up_later() -> None:
        async with Turn(frozen, "task", held).transaction() as tx:
            await proxy.freeze()
            while await other.hold() is None:  # noqa: ASYNC110 - Postgres signals nothing
                await asyncio.sleep(0.05)
            proxy.thaw()
            await _write(tx, "a")

    other = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "b")
    await _expire(database)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Unavailable):
            await freeze_and_wake_up_later()
    assert await _done(database) == []
    await frozen.close()


async def test_negative_control_a_proof_without_the_lock_lets_another_take_over_in_between(database: Database) -> None:
    lease = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "a")
    held = await lease.hold()
    assert held is not None
    other = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "b")
    await _expire(database)
    async with database.transaction() as tx:
        proof = "SELECT TRUE FROM plumbing.leases WHERE name = 'task' AND holder = 'a' AND fence = $1"
        assert await tx.fetchval(proof, held.fence)
        assert await other.hold() is not None, "two leaders at once"


async def test_a_turn_may_have_several_transactions_one_within_another_too(database: Database) -> None:
    lease = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "a")
    held = await lease.hold()
    assert held is not None
    turn = Turn(database, "task", held)
    async with asyncio.timeout(PATIENCE_SECONDS), turn.transaction() as outer:
        await asyncio.gather(*(_in_transaction(turn, "inner") for _ in range(3)))
        await _write(outer, "outer")
    assert await _done(database) == ["inner"] * 3 + ["outer"]


async def test_a_leader_that_lost_its_lease_within_a_turn_ends_it_quietly(database: Database) -> None:
    rivals = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "b")

    async def run(turn: Turn) -> int:
        await _in_transaction(turn, "a")
        await _expire(database)
        assert await rivals.hold() is not None
        await _in_transaction(turn, "too late")
        return 2

    with capture_logs() as logs:
        async with worker(database, PeriodicTask("task", SOON, run)):
            await _until(lambda: "periodic.lease_lost" in {entry["event"] for entry in logs})
    assert await _done(database) == ["a"]
    assert "periodic.failed" not in {entry["event"] for entry in logs}


async def test_64_workers_at_once_never_lead_together(database: Database, postgres_dsn: str) -> None:
    """Leases are taken, lost and taken again at random; every fence number has had one holder."""
    holders: dict[int, set[str]] = {}
    leases = [periodic._Lease(database, PeriodicTask("task", 1, _nothing), f"worker-{number}") for number in range(64)]
    for _ in range(10):
        for held in await asyncio.gather(*(lease.hold() for lease in leases)):
            if held is not None:
                holders.setdefault(held.fence, set()).add(held.holder)
        await _expire(database)
    assert len(holders) >= 5
    assert all(len(whom) == 1 for whom in holders.values())


# --- turns ----------------------------------------------------------------------------------------------------------


async def test_full_batches_follow_at_once_and_the_rest_waits_for_its_time(database: Database) -> None:
    left = [10, 10, 10, 3]

    async def run(_: Turn) -> int:
        return left.pop(0) if left else pytest.fail("it had its time again too soon")

    async with worker(database, PeriodicTask("task", 3600, run, full_batch=10)):
        await _until(lambda: not left)
        await asyncio.sleep(0.05)


async def test_endless_full_batches_pause_now_and_then(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "MAX_TURNS_AT_ONCE", 3)
    monkeypatch.setattr(periodic, "PAUSE_SECONDS", 0.6)
    turns: list[Turn] = []

    async def run(turn: Turn) -> int:
        turns.append(turn)
        return 10

    async with worker(database, PeriodicTask("task", 3600, run, full_batch=10)):
        await _until(lambda: len(turns) >= 4)
    assert turns[3].now - turns[2].now > timedelta(seconds=0.5)
    assert turns[2].now - turns[0].now < timedelta(seconds=0.5)


async def test_a_task_that_fails_is_tried_again_later_and_later_and_disturbs_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "MAX_BACKOFF_SECONDS", 0.05)
    failures = 0

    async def fails(_: Turn) -> int:
        nonlocal failures
        failures += 1
        if failures > 3:
            return 0
        raise (ValueError("a bug"), Unavailable("Redis"), TimeoutError())[failures % 3]

    good: list[Turn] = []
    with capture_logs() as logs:
        async with worker(database, PeriodicTask("bad", SOON, fails), writing("good", good, name="good")):
            await _until(lambda: failures > 5 and len(good) > 5)
    assert [entry["failures"] for entry in logs if entry["event"] == "periodic.failed"] == [1, 2, 3]


async def test_backoff_is_bounded(database: Database) -> None:
    waits: list[float] = []

    async def rest(_: Periodic, __: asyncio.Event, ___: object, seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    async def fails(_: Turn) -> int:
        raise ValueError("a bug")

    with pytest.MonkeyPatch.context() as patched, capture_logs():
        patched.setattr(Periodic, "_rest", rest)
        running = Worker(database, [PeriodicTask("task", 1, fails)], "a")
        await _until(lambda: len(waits) > 12)
        await running.stops()
    longest = periodic.MAX_BACKOFF_SECONDS * (1 + periodic.JITTER_SHARE)
    assert waits[1] < 2
    assert longest / 2 < max(waits) <= longest


async def test_a_turn_that_hangs_is_ended(database: Database) -> None:
    async def hangs(_: Turn) -> int:
        await asyncio.Event().wait()
        return 0

    with capture_logs() as logs:
        async with worker(database, PeriodicTask("task", SOON, hangs, max_seconds=0.05)):
            await _until(lambda: any(entry["event"] == "periodic.failed" for entry in logs))


async def test_waking_a_task_runs_it_before_its_time(database: Database) -> None:
    turns: list[Turn] = []
    async with worker(database, writing("a", turns, every_seconds=3600)) as running:
        await _until(lambda: len(turns) == 1)
        for expected in (2, 3):
            await asyncio.sleep(0.01)
            running.periodic.wake("task")
            await _until(lambda expected=expected: len(turns) == expected)  # type: ignore[misc]


async def test_two_tasks_of_one_name_are_a_mistake(database: Database) -> None:
    with pytest.raises(AssertionError):
        Periodic(database, [PeriodicTask("task", 1, _nothing), PeriodicTask("task", 2, _nothing)])


# --- stopping, and Postgres going away ------------------------------------------------------------------------------


async def test_stopping_lets_the_running_turn_end_and_starts_no_other(database: Database) -> None:
    inside, may_end = asyncio.Event(), asyncio.Event()

    async def run(turn: Turn) -> int:
        inside.set()
        await may_end.wait()
        await _in_transaction(turn, "a")
        return 10

    async with worker(database, PeriodicTask("task", SOON, run, full_batch=10)) as running:
        await inside.wait()
        running.stop.set()
        await asyncio.sleep(0.02)
        may_end.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running.running
    assert await _done(database) == ["a"]
    assert await database.fetchval("SELECT expires_at <= clock_timestamp() FROM plumbing.leases")


async def test_stopping_ends_a_turn_that_will_not_end_and_rolls_it_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "STOP_SECONDS", 0.1)
    inside = asyncio.Event()

    async def run(turn: Turn) -> int:
        async with turn.transaction() as tx:
            await _write(tx, "a")
            inside.set()
            await asyncio.Event().wait()
        return 0

    async with worker(database, PeriodicTask("task", SOON, run)) as running:
        await inside.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running.stops()
    assert await _done(database) == []
    assert await database.fetchval("SELECT expires_at <= clock_timestamp() FROM plumbing.leases")


async def test_stopping_ends_while_postgres_is_frozen(
    proxied: Database, proxy: PostgresProxy, database: Database
) -> None:
    turns: list[Turn] = []
    running = Worker(proxied, [writing("a", turns)], "a")
    await _until(lambda: len(turns) > 1)
    await proxy.freeze()
    with capture_logs():
        await running.stops()
    proxy.thaw()


async def test_tasks_go_on_by_themselves_when_postgres_comes_back(
    proxied: Database, proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "MAX_BACKOFF_SECONDS", 0.1)
    turns: list[Turn] = []
    with capture_logs() as logs:
        async with worker(proxied, writing("a", turns)):
            await _until(lambda: len(turns) > 1)
            await proxy.freeze()
            await _until(lambda: any(entry["event"] == "periodic.failed" for entry in logs))
            proxy.thaw()
            seen = len(turns)
            await _until(lambda: len(turns) > seen + 2)


async def test_a_lease_survives_a_lost_table_of_leases(database: Database) -> None:
    lease = periodic._Lease(database, PeriodicTask("task", 1, _nothing), "a")
    held = await lease.hold()
    assert held is not None
    async with database.transaction() as tx:
        await tx.execute("TRUNCATE plumbing.leases")
    with pytest.raises(LeaseLost):
        await _in_transaction(Turn(database, "task", held), "a")
    again = await lease.hold()
    assert again is not None
    await _in_transaction(Turn(database, "task", again), "a")
