"""Nothing acknowledged is lost and nothing counts twice, whenever somebody leaves or a line breaks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import pytest

from growth.plumbing.http.limits import Limiter
from growth.plumbing.postgres.database import Database, Reader
from growth.shopper.activity import store
from growth.shopper.activity.model import LogEntry
from growth.shopper.activity.service import BatchTaken, Events
from growth.vocabulary.refusals import Unavailable
from tests.patience import PATIENCE_SECONDS
from tests.plumbing.postgres_proxy import PostgresProxy
from tests.shopper.activity.telling import JSON, ago, counts, event, names, tell

pytestmark = pytest.mark.anyio

CALLERS = 64


@contextlib.asynccontextmanager
async def somebody_writing(database: Database, name: str) -> AsyncIterator[None]:
    """A transaction of another process that has written the same event and will be rolled back."""
    with contextlib.suppress(ZeroDivisionError):
        async with database.transaction() as tx:
            await tx.execute(
                "INSERT INTO activity.log (day, position, event_id, type, subject, at, data)"
                " VALUES (($2::timestamptz AT TIME ZONE 'UTC')::date, 1, $1, 'app.opened', 'u1', $2, '{}')",
                name,
                datetime.fromisoformat(ago(minutes=1)),
            )
            yield
            raise ZeroDivisionError


async def until_waiting(database: Database, waiting: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < waiting:
            pass


async def tell_again(events: Events, *told: JSON) -> BatchTaken:
    """As a client does after a 503. Lines that were cut are noticed one by one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(Unavailable):
                return await tell(events, *told)


async def test_with_postgres_gone_nothing_is_acknowledged_and_the_batch_may_come_again(
    database: Database, proxied: Database, proxy: PostgresProxy, limiter: Limiter
) -> None:
    events = Events(proxied, limiter)
    await tell(events, event("a"))
    await proxy.freeze()
    with pytest.raises(Unavailable):
        await tell(events, event("b"))
    assert await names(database) == ["a"]
    proxy.thaw()
    # What was held back may pass now, or be called off: told again, it counts once either way.
    taken = await tell_again(events, event("a"), event("b"))
    assert taken.accepted + taken.duplicate == 2
    assert await names(database) == ["a", "b"]


async def test_an_answer_lost_after_the_commit_is_a_duplicate_when_it_is_sent_again(
    database: Database, proxied: Database, proxy: PostgresProxy, limiter: Limiter
) -> None:
    events = Events(proxied, limiter)
    async with somebody_writing(database, "b"):
        telling = asyncio.create_task(tell(events, event("a"), event("b", "app.opened")))
        await until_waiting(database)
        await proxy.cut()
        with pytest.raises(Unavailable):
            await telling
    # Postgres goes on with a statement whose caller is gone.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await names(database) != ["a", "b"]:
            pass
    taken = await tell_again(events, event("a"), event("b", "app.opened"), event("c"))
    assert counts(taken) == (1, 2, [])
    assert await names(database) == ["a", "b", "c"]


async def test_two_processes_that_tell_the_same_in_other_orders_never_wait_in_a_circle(
    database: Database, limiter: Limiter
) -> None:
    one, other = Events(database, limiter), Events(database, limiter)
    async with somebody_writing(database, "m"):
        first = asyncio.create_task(tell(one, event("b"), event("m"), event("a")))
        await until_waiting(database)
        second = asyncio.create_task(tell(other, event("a"), event("b")))
        await until_waiting(database, 2)
    assert counts(await first) == (3, 0, [])
    assert counts(await second) == (0, 2, [])
    assert await names(database) == ["b", "m", "a"]


async def test_what_another_process_takes_back_is_new_here(database: Database, events: Events) -> None:
    async with somebody_writing(database, "a"):
        telling = asyncio.create_task(tell(events, event("a")))
        await until_waiting(database)
    assert counts(await telling) == (1, 0, [])


async def test_a_caller_who_leaves_takes_nobody_along(database: Database, events: Events) -> None:
    async with somebody_writing(database, "first"):
        first = asyncio.create_task(tell(events, event("first")))
        await until_waiting(database)
        callers = [asyncio.create_task(tell(events, event(f"e{place:02}"))) for place in range(CALLERS)]
        await asyncio.sleep(0)
        for leaver in callers[::2]:
            leaver.cancel()
        await asyncio.wait(callers[::2])
    assert counts(await first) == (1, 0, [])
    stayed = await asyncio.gather(*callers[1::2])
    assert all(counts(taken) == (1, 0, []) for taken in stayed)
    await events.drain()
    assert set(await names(database)) >= {f"e{place:02}" for place in range(1, CALLERS, 2)}


async def test_a_batch_that_fails_fails_for_its_own_callers_alone(
    database: Database, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, began, may_fail = store.write, asyncio.Event(), asyncio.Event()

    async def fail_once(reader: Reader, entries: Sequence[LogEntry], *proof: Any) -> frozenset[int]:
        if not began.is_set():
            began.set()
            await may_fail.wait()
            raise Unavailable("Postgres did not answer")
        return await real(reader, entries, *proof)

    monkeypatch.setattr(store, "write", fail_once)
    first = asyncio.create_task(tell(events, event("first")))
    await began.wait()
    waiting = [asyncio.create_task(tell(events, event(place))) for place in range(CALLERS)]
    may_fail.set()
    with pytest.raises(Unavailable):
        await first
    others = await asyncio.gather(*waiting)
    assert sum(taken.accepted for taken in others) == CALLERS
    assert counts(await tell(events, event("first"))) == (1, 0, [])
    assert len(await names(database)) == CALLERS + 1
