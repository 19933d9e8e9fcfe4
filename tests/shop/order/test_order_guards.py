"""Hooks at the same time; then each guard is taken away, and what it guards breaks."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from random import Random

import pytest
from msgspec.structs import replace

from growth.plumbing.postgres.database import Database, Tx
from growth.shop.order.model import Known
from growth.shop.order.refund import model as refund_model
from growth.shop.order.refund.model import RefundedLine
from growth.shop.order.service import ShopService
from growth.shop.order.store import heard as memory
from growth.shop.order.store import orders as store
from growth.vocabulary.orders import LineOutcome, Order
from tests.patience import PATIENCE_SECONDS
from tests.shop.order.telling import (
    SECRET,
    Recorder,
    as_one_order,
    broken,
    closed,
    line,
    of,
    outcomes,
    paid,
    placed,
    refunded,
    stored,
    story,
    tell,
)

pytestmark = pytest.mark.anyio

CALLERS = 64


# --- at the same time -----------------------------------------------------------------------------------------------


async def test_of_64_deliveries_of_one_event_exactly_one_is_applied(
    database: Database, service: ShopService, recorder: Recorder
) -> None:
    answers = await asyncio.gather(*(tell(service, paid()) for _ in range(CALLERS)))
    told = [outcomes(results)[0] for results in answers]
    assert sorted(told) == ["applied"] + ["duplicate applied"] * (CALLERS - 1)
    assert len(recorder.seen) == 1
    assert await database.fetchval("SELECT count(*) FROM shop.events") == 1


async def test_of_64_events_that_tell_the_same_exactly_one_is_applied(service: ShopService) -> None:
    answers = await asyncio.gather(*(tell(service, paid(id_=f"e{number}")) for number in range(CALLERS)))
    told = [outcomes(results)[0] for results in answers]
    assert sorted(told) == ["applied"] + ["ignored shop.already_known"] * (CALLERS - 1)


async def test_of_64_events_under_one_id_for_64_orders_exactly_one_is_applied(
    database: Database, service: ShopService
) -> None:
    answers = await asyncio.gather(*(tell(service, closed(f"o{number}", id_="e")) for number in range(CALLERS)))
    told = [outcomes(results)[0] for results in answers]
    assert sorted(told) == ["applied"] + ["rejected shop.other_content"] * (CALLERS - 1)
    assert len((await stored(database))["orders"]) == 1


async def test_64_refunds_at_once_never_pay_back_more_than_was_paid(database: Database, service: ShopService) -> None:
    await tell(service, paid("o1", line(units=10, amount_fen=1000)))
    refunds = [refunded("o1", f"r{number}", of(1, 100)) for number in range(CALLERS)]
    answers = await asyncio.gather(*(tell(service, told) for told in refunds))
    told = [outcomes(results)[0] for results in answers]
    assert told == ["applied"] * CALLERS
    beyond = [one for results in answers for one in results[0].lines if one.code == "shop.refund_clipped"]
    assert len(beyond) == CALLERS - 10
    order = await store.read_order(database, "o1")
    assert order is not None
    assert (order.lines[0].refunded_units, order.lines[0].refunded_fen) == (10, 1000)


async def test_all_that_happens_to_an_order_at_once_ends_in_the_same_facts(
    database: Database, service: ShopService
) -> None:
    numbers = [f"o{number}" for number in range(20)]
    told = [one for order_id in numbers for one in story(order_id)] * 2
    Random(1).shuffle(told)
    answers = await asyncio.gather(*(tell(service, one) for one in told))
    assert sorted(outcomes([one])[0] for (one,) in answers) == ["applied"] * 120 + ["duplicate applied"] * 120
    assert len(as_one_order(await stored(database))) == 1 + 2 + 2 + 3


# --- negative controls: each guard taken away, and what it guards breaks ---------------------------------------------


class Pausing(Recorder):
    """Stops the first transaction that sees the order paid, until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(self._pause)
        self.is_paused, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def _pause(self, _tx: Tx, order: Order) -> Sequence[LineOutcome]:
        if order.is_paid and not self.is_paused.is_set():
            self.is_paused.set()
            await self.may_go_on.wait()
        return ()


async def refund_while_paying(database: Database, *, waits: bool) -> Order:
    """Tell of a refund while the payment's transaction is open."""
    pausing = Pausing()
    one, other = [ShopService(database, [pausing], [SECRET]) for _ in range(2)]
    await tell(one, placed())
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        paying = group.create_task(tell(one, paid()))
        await pausing.is_paused.wait()
        refunding = group.create_task(tell(other, refunded()))
        while waits and not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not refunding.done()
        if not waits:
            await refunding
        pausing.may_go_on.set()
    assert outcomes(paying.result() + refunding.result()) == ["applied", "applied"]
    order = await store.read_order(database, "o1")
    assert order is not None
    return order


async def no_turns(*_: object) -> None:
    """Let everybody in at once."""


async def test_a_refund_told_while_the_order_is_paid_waits_and_counts(database: Database) -> None:
    order = await refund_while_paying(database, waits=True)
    assert order.lines[0].refunded_units == 1


async def test_without_the_lock_of_the_order_a_refund_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(tx: Tx, order_ids: Sequence[str]) -> dict[str, Known]:
        rows = await tx.fetch("SELECT * FROM shop.orders WHERE order_id = ANY ($1)", order_ids)
        return {
            row["order_id"]: Known(
                order=Order(**{name: row[name] for name in Order.__struct_fields__ if name != "lines"}),
                placed_content=row["placed_content"],
                paid_content=row["paid_content"],
            )
            for row in rows
        }

    monkeypatch.setattr(store, "take_turns", no_turns)
    monkeypatch.setattr(store, "take_shoppers_turns", no_turns)
    monkeypatch.setattr(store, "lock_orders", look)
    order = await refund_while_paying(database, waits=False)
    assert order.lines[0].refunded_units == 0
    assert len(await broken(database)) == 1
    await database.fetch("TRUNCATE shop.orders CASCADE")


async def test_without_the_bound_of_the_line_more_is_paid_back_than_was_paid(
    database: Database, service: ShopService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(order: Order, told: Mapping[str, RefundedLine]) -> Order:
        lines = [replace(line, refunded_units=told[line.line_id].units) for line in order.lines]
        return replace(order, lines=tuple(lines))

    monkeypatch.setattr(refund_model, "counted", counted)
    # The constraint is the second guard: with it alone, nothing is stored, and a bug is reported.
    with pytest.raises(RuntimeError):
        await tell(service, paid(), refunded("o1", "r", of(3, 0)))
    await database.fetch("ALTER TABLE shop.order_lines DROP CONSTRAINT order_lines_refunded_units")
    await tell(service, refunded("o1", "r", of(3, 0)))
    assert len(await broken(database)) == 1
    await database.fetch("TRUNCATE shop.orders CASCADE")


async def test_without_the_id_of_the_event_taken_first_participants_are_asked_64_times(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never_seen(*_: object) -> dict[str, str]:
        return {}

    async def all_kept(_: Tx, fresh: Sequence[object], __: datetime) -> int:
        return len(fresh)

    recorder = Recorder()
    monkeypatch.setattr(memory, "find_events", never_seen)
    monkeypatch.setattr(memory, "keep_events", all_kept)
    service = ShopService(database, [recorder], [SECRET])
    await asyncio.gather(*(tell(service, paid()) for _ in range(CALLERS)))
    assert len(recorder.seen) == CALLERS
