"""Each fact becomes one event, in the order in which facts of one order became known, none before its payment."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.plumbing.outbox.outbox import Envelope, Subscription, deliver
from growth.plumbing.postgres.database import Database, Tx
from growth.shop.order.model import Registration
from growth.shop.order.refund import model as refund_model
from growth.shop.order.refund.model import Refund
from growth.shop.order.service import ShopService, registration
from growth.shop.order.store import orders as store
from growth.vocabulary.events import Event
from growth.vocabulary.events.shop import (
    ShopOrderClosed,
    ShopOrderCorrected,
    ShopOrderLine,
    ShopOrderPaid,
    ShopOrderPlaced,
    ShopOrderReceived,
    ShopOrderRefunded,
    ShopRefundLine,
    ShopRegistrationCorrected,
    ShopShopperRegistered,
)
from growth.vocabulary.orders import Order, OrderLine
from tests.patience import PATIENCE_SECONDS
from tests.shop.order.telling import (
    CLAIM_ID,
    JSON,
    NOON,
    SECRET,
    Recorder,
    at,
    broken,
    closed,
    line,
    of,
    paid,
    placed,
    received,
    refunded,
    registered,
    story,
    tell,
)
from tests.shop.order.test_order_guards import Pausing, no_turns

pytestmark = pytest.mark.anyio

CALLERS = 64


def time(minutes: int) -> datetime:
    return datetime.fromisoformat(at(minutes))


async def events(database: Database) -> list[Event]:
    """What a subscriber hears, in its order."""
    heard: list[Event] = []

    async def handle(_: Tx, envelopes: Sequence[Envelope]) -> None:
        heard.extend(envelope.event for envelope in envelopes)

    while await deliver(database, Subscription("test.listener", None, handle)):
        pass
    return heard


def kinds(heard: Sequence[Event]) -> list[str]:
    return [type(event).__name__.removeprefix("ShopOrder") for event in heard]


async def test_every_fact_is_told_with_what_it_says(database: Database, service: ShopService) -> None:
    await tell(
        service,
        placed("o1", line("1"), line("2")),
        paid("o1", line("1", claim_id=CLAIM_ID), line("2", sku="pot")),
        refunded("o1", "r1", of(1, 100), time=at(5)),
        received("o1"),
        closed("o1"),
    )
    first = ShopOrderLine(line_id="1", sku="tea", units=2, amount_fen=200)
    assert await events(database) == [
        ShopOrderPlaced(
            at=NOON,
            order_id="o1",
            user_id="u1",
            placed_at=time(1),
            lines=[first, ShopOrderLine(line_id="2", sku="tea", units=2, amount_fen=200)],
        ),
        ShopOrderPaid(
            at=NOON,
            order_id="o1",
            user_id="u1",
            paid_at=time(2),
            paid_fen=200,
            lines=[
                ShopOrderLine(line_id="1", sku="tea", units=2, amount_fen=200, claim_id=CLAIM_ID),
                ShopOrderLine(line_id="2", sku="pot", units=2, amount_fen=200),
            ],
            is_first_order=True,
        ),
        ShopOrderRefunded(
            at=NOON,
            order_id="o1",
            user_id="u1",
            refund_id="r1",
            refunded_at=time(5),
            lines=[ShopRefundLine(line_id="1", sku="tea", units=1, amount_fen=100)],
            is_whole=False,
        ),
        ShopOrderReceived(at=NOON, order_id="o1", user_id="u1", received_at=time(4)),
        ShopOrderClosed(at=NOON, order_id="o1", user_id="u1", closed_at=time(3)),
    ]


async def test_redelivered_and_retold_facts_are_told_once(database: Database, service: ShopService) -> None:
    again = [one | {"id": f"again-{number}"} for number, one in enumerate(story("o1"))]
    await tell(service, *story("o1"), *story("o1"), *again, registered(), registered(id_="x"))
    assert sorted(kinds(await events(database))) == [
        *("Closed", "Paid", "Placed", "Received", "Refunded", "Refunded"),
        "ShopShopperRegistered",
    ]


async def test_rejected_facts_are_not_told(database: Database, service: ShopService) -> None:
    again = refunded("o1", "r", of(1, 1), id_="y")
    await tell(service, paid(), paid(paid_fen=1, id_="x"), placed(user_id="u2"), refunded("o1", "r", of(3, 0)), again)
    assert kinds(await events(database)) == ["Paid", "Refunded"]


async def test_a_refund_of_which_nothing_counts_any_more_is_not_told(database: Database, service: ShopService) -> None:
    await tell(service, paid(), refunded("o1", "a", of(2, 200)), refunded("o1", "b", of(1, 1)))
    assert kinds(await events(database)) == ["Paid", "Refunded"]


async def test_in_every_order_of_arrival_the_payment_comes_before_what_needs_it(
    database: Database, service: ShopService
) -> None:
    arrivals = list(permutations(range(1, 4)))
    for number, arrival in enumerate(arrivals):
        await tell(service, *([*story(f"o{number}"), received(f"o{number}")][step] for step in (*arrival, 6)))
    heard = await events(database)
    for number in range(len(arrivals)):
        own = [event for event in heard if event.subject == f"o{number}"]
        assert kinds(own) == ["Paid", "Refunded", "Refunded", "Received"]
        refunds = [event for event in own if isinstance(event, ShopOrderRefunded)]
        assert [refund.is_whole for refund in refunds] == [False, True]
        counted = [(line.line_id, line.units, line.amount_fen) for refund in refunds for line in refund.lines]
        assert sorted(counted) == [("1", 1, 50), ("1", 1, 150), ("2", 2, 0)]


async def test_of_what_was_refunded_too_early_as_much_is_told_as_the_order_has(
    database: Database, service: ShopService
) -> None:
    await tell(
        service,
        refunded("o1", "late", of(1, 150), time=at(9)),
        refunded("o1", "early", of(1, 150), time=at(8)),
        refunded("o1", "unknown", of(1, 1, "no such line"), time=at(7)),
        received(),
    )
    assert await events(database) == []
    await tell(service, paid())
    heard = await events(database)
    assert kinds(heard) == ["Paid", "Refunded", "Refunded", "Received"]
    refunds = [event for event in heard if isinstance(event, ShopOrderRefunded)]
    assert [
        (refund.refund_id, refund.lines[0].units, refund.lines[0].amount_fen, refund.is_whole) for refund in refunds
    ] == [("early", 1, 150, False), ("late", 1, 50, True)]


async def test_money_back_for_all_of_an_order_is_whole_once(database: Database, service: ShopService) -> None:
    await tell(
        service,
        paid("o1", line("1"), line("2", amount_fen=0)),
        refunded("o1", "a", of(0, 200)),
        refunded("o1", "b", of(2, 0, "2")),
        refunded("o1", "c", of(2, 0)),
    )
    heard = [event for event in await events(database) if isinstance(event, ShopOrderRefunded)]
    # The gift of 0 fen says nothing of the money.
    assert [(refund.refund_id, refund.is_whole) for refund in heard] == [("a", True), ("b", False), ("c", False)]


async def test_a_receipt_heard_before_the_payment_is_told_with_its_earliest_time(
    database: Database, service: ShopService
) -> None:
    await tell(service, received(id_="a", time=at(9)), received(id_="b", time=at(8)), paid())
    heard = await events(database)
    assert kinds(heard) == ["Paid", "Received"]
    assert isinstance(heard[1], ShopOrderReceived)
    assert heard[1].received_at == time(8)


async def test_an_order_closed_that_was_not_heard_of_is_nobodys(database: Database, service: ShopService) -> None:
    await tell(service, closed("o1"), placed("o2"), closed("o2"))
    heard = [event for event in await events(database) if isinstance(event, ShopOrderClosed)]
    assert [(event.order_id, event.user_id) for event in heard] == [("o1", None), ("o2", "u1")]


async def test_a_participant_that_fails_takes_the_event_back(database: Database) -> None:
    async def fail(_tx: Tx, _order: object) -> Sequence[object]:
        raise ValueError("a bug")

    with pytest.raises(RuntimeError):
        await tell(ShopService(database, [Recorder(fail)], [SECRET]), paid())  # type: ignore[arg-type]
    assert await events(database) == []
    await tell(ShopService(database, [], [SECRET]), paid())
    assert kinds(await events(database)) == ["Paid"]


# --- the first order ------------------------------------------------------------------------------------------------


async def firsts(database: Database) -> list[str]:
    """The orders that are first orders, by what was heard last of each."""
    return first_by(await events(database))


def first_by(heard: Sequence[Event]) -> list[str]:
    told = [event for event in heard if isinstance(event, ShopOrderPaid | ShopOrderCorrected)]
    is_first = {event.order_id: event.is_first_order for event in told}
    return sorted(order_id for order_id, is_ in is_first.items() if is_)


async def test_who_was_paid_back_whole_has_not_bought_so_that_the_next_order_is_the_first(
    database: Database, service: ShopService
) -> None:
    await tell(service, placed("o0"), paid("o1"), refunded("o1", "r", of(2, 200)), paid("o2"), paid("p", user_id="u2"))
    await tell(service, paid("o3"))
    assert await firsts(database) == ["o1", "o2", "p"]


async def test_a_payment_of_before_and_a_refund_of_the_first_correct_the_others_once(
    database: Database, service: ShopService
) -> None:
    def bought(order_id: str, minutes: int) -> JSON:
        told = paid(order_id)
        return told | {"data": told["data"] | {"paid_at": at(minutes)}}

    await tell(service, bought("third", 30), bought("second", 20), bought("fourth", 40))
    heard = await events(database)
    assert first_by(heard) == ["second"]
    await tell(service, bought("first", 10), refunded("first", "part", of(1, 100)))
    heard += await events(database)
    assert first_by(heard) == ["first"]
    await tell(service, refunded("first", "rest", of(1, 100)), refunded("third", "r", of(2, 200)))
    # Paid back or not, before the first there was none.
    heard += await events(database)
    assert first_by(heard) == ["first", "second"]
    corrected = [one for one in heard if isinstance(one, ShopOrderCorrected)]
    assert [(one.order_id, one.is_first_order) for one in corrected] == [
        ("third", False),
        ("second", False),
        ("second", True),
    ]


async def test_an_earlier_receipt_is_told_with_all_that_the_order_is(database: Database, service: ShopService) -> None:
    await tell(service, received(id_="late", time=at(9)), received(id_="early", time=at(8)))
    assert await events(database) == []
    await tell(service, paid(), refunded(), received(id_="earlier", time=at(5)), received(id_="later", time=at(6)))
    heard = await events(database)
    assert heard[-1] == ShopOrderCorrected(
        at=NOON,
        order_id="o1",
        user_id="u1",
        paid_at=time(2),
        paid_fen=200,
        lines=[ShopOrderLine(line_id="1", sku="tea", units=2, amount_fen=200)],
        is_first_order=True,
        is_purchase=True,
        received_at=time(5),
        has_refund=True,
        is_whole=False,
    )
    assert kinds(heard) == ["Paid", "Received", "Refunded", "Corrected"]


async def test_an_order_of_nothing_is_nobodys_first(database: Database, service: ShopService) -> None:
    sample = line(amount_fen=0)
    await tell(service, paid("freight", sample, paid_fen=600), paid("by-card", paid_fen=0), paid("real"), paid("then"))
    heard = [event for event in await events(database) if isinstance(event, ShopOrderPaid)]
    assert [(event.is_purchase, event.is_first_order) for event in heard] == [
        (False, False),
        (False, False),
        (True, True),
        (True, False),
    ]


async def test_of_64_orders_paid_at_once_one_is_the_first(database: Database, service: ShopService) -> None:
    await asyncio.gather(*(tell(service, paid(f"o{number}")) for number in range(CALLERS)))
    assert len(await firsts(database)) == 1


async def test_without_the_lock_of_the_shopper_there_are_several_first_orders(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "take_shoppers_turns", no_turns)
    pausing = Pausing()
    one, other = [ShopService(database, [pausing], [SECRET]) for _ in range(2)]
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(tell(one, paid("o1")))
        await pausing.is_paused.wait()
        await tell(other, paid("o2"))
        pausing.may_go_on.set()
    assert sorted(await firsts(database)) == ["o1", "o2"]


# --- the order ------------------------------------------------------------------------------------------------------


async def refund_that_began_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the refund's transaction begin to write, and then be overtaken by the payment's; return what is heard."""
    began, may_go_on, real = asyncio.Event(), asyncio.Event(), store.write

    async def dawdle(tx: Tx, *what: Any) -> None:
        await real(tx, *what)
        if not began.is_set():
            began.set()
            await may_go_on.wait()

    monkeypatch.setattr(store, "write", dawdle)
    one, other = [ShopService(database, [], [SECRET]) for _ in range(2)]
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(tell(one, refunded()))
        await began.wait()
        paying = group.create_task(tell(other, paid()))
        while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") and not paying.done():
            pass
        may_go_on.set()
    return kinds(await events(database))


async def test_a_payment_is_heard_before_the_refund_that_began_before_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await refund_that_began_first(database, monkeypatch) == ["Paid", "Refunded"]


async def test_without_turns_the_payment_does_not_hear_of_the_refund_that_began_before_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "take_turns", no_turns)
    assert await refund_that_began_first(database, monkeypatch) == ["Paid"]
    assert len(await broken(database)) == 1
    await database.fetch("TRUNCATE shop.orders CASCADE")


# --- shoppers -------------------------------------------------------------------------------------------------------


async def test_a_shopper_is_told_once_and_without_what_is_personal(database: Database, service: ShopService) -> None:
    first = registered("u1", 5, source="app", device_id="d1", address="192.0.2.1")
    earlier = registered("u1", 1, source="web", device_id="d2", address="192.0.2.2")
    await tell(service, first, earlier, registered("u1", 9))
    assert await events(database) == [
        ShopShopperRegistered(at=NOON, user_id="u1", registered_at=time(5), source="app"),
        # Who decided on the first telling hears that it was wrong.
        ShopRegistrationCorrected(
            at=NOON, user_id="u1", registered_at=time(1), source="web", was_registered_at=time(5)
        ),
    ]
    assert await registration(database, ["u1", "nobody"]) == {"u1": Registration(time(1), "web", "d2", "192.0.2.2")}


async def test_of_64_registrations_at_once_one_is_told(database: Database, service: ShopService) -> None:
    told: list[JSON] = [registered("u1", minutes) for minutes in range(CALLERS)]
    await asyncio.gather(*(tell(service, one) for one in told))
    first, *rest = kinds(await events(database))
    # Whatever came earlier than what was known by then corrected it.
    assert (first, set(rest) - {"ShopRegistrationCorrected"}) == ("ShopShopperRegistered", set())
    assert (await registration(database, ["u1"]))["u1"].registered_at == time(0)


# --- counting, against a slow obvious way ---------------------------------------------------------------------------

AMOUNTS = st.tuples(st.sampled_from(["1", "2", "3"]), st.integers(0, 4), st.integers(0, 40))


@given(
    lines=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 50)), min_size=1, max_size=2),
    refunds=st.lists(st.lists(AMOUNTS, min_size=1, max_size=3, unique_by=lambda told: told[0]), max_size=5),
    freight=st.integers(0, 20),
)
def test_early_refunds_count_unit_by_unit_and_fen_by_fen(
    lines: list[tuple[int, int]], refunds: list[list[tuple[str, int, int]]], freight: int
) -> None:
    cost = sum(fen for _, fen in lines) + freight
    order = Order(
        order_id="o",
        user_id="u",
        paid_at=NOON,
        paid_fen=cost,
        lines=tuple(
            OrderLine(line_id=str(place + 1), sku="tea", units=units, amount_fen=fen)
            for place, (units, fen) in enumerate(lines)
        ),
    )
    counted = refund_model.replayed(
        order, [Refund(str(number), NOON, told) for number, told in enumerate(refunds)], NOON
    )
    is_all_back = 0 < cost <= sum(amount[2] for refund in refunds for amount in refund)
    for told in order.lines:
        mine = [one for event in counted for one in event.lines if one.line_id == told.line_id]
        asked = [amount for refund in refunds for amount in refund if amount[0] == told.line_id]
        assert sum(one.units for one in mine) == min(told.units, sum(amount[1] for amount in asked))
        fen = told.amount_fen if is_all_back else min(told.amount_fen, sum(amount[2] for amount in asked))
        assert sum(one.amount_fen for one in mine) == fen
    assert all(one.units or one.amount_fen for event in counted for one in event.lines)
    assert sum(event.is_whole for event in counted) <= 1
