"""Orders are sets of facts: whatever the order of arrival, the same facts, once, and everybody concerned agrees."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import permutations
from random import Random

import pytest

from growth.plumbing.postgres.database import Database, Tx
from growth.shop.order.service import ShopService, has_bought
from growth.shop.order.store import orders as store
from growth.vocabulary.orders import LineOutcome, Order, Outcome
from tests.shop.order.telling import (
    JSON,
    SECRET,
    Recorder,
    as_one_order,
    at,
    closed,
    line,
    of,
    outcomes,
    paid,
    placed,
    received,
    refunded,
    registered,
    stored,
    story,
    tell,
)

pytestmark = pytest.mark.anyio

CALLERS = 64


async def test_every_order_of_arrival_ends_in_the_same_facts(
    database: Database, service: ShopService, recorder: Recorder
) -> None:
    orders = list(permutations(range(6)))
    told = [[story(f"o{number}")[step] for step in arrival] for number, arrival in enumerate(orders)]
    # A crowd at a time, so that on a slow machine nobody waits beyond their turn.
    crowds = [told[start : start + CALLERS] for start in range(0, len(told), CALLERS)]
    answers = [results for crowd in crowds for results in await asyncio.gather(*(tell(service, *one) for one in crowd))]
    assert all(outcomes(results) == ["applied"] * 6 for results in answers)

    facts = await stored(database)
    assert len(facts["orders"]) == len(orders) == 720
    # Every order has the same rows, so that 720 orders have as many distinct ones as one has.
    distinct = as_one_order(facts)
    assert len(distinct) == 1 + 2 + 2 + 3

    last = {order.order_id: order for order in recorder.seen}
    views = {repr(last[f"o{number}"]).replace(f"'o{number}'", "") for number in range(len(orders))}
    assert len(views) == 1
    order = last["o0"]
    assert None not in {order.paid_at, order.placed_at, order.closed_at, order.received_at}
    assert [(one.line_id, one.units, one.refunded_units, one.refunded_fen) for one in order.lines] == [
        ("1", 2, 2, 200),
        ("2", 2, 2, 0),
    ]
    assert all(one.is_refunded for one in order.lines)


async def test_redelivered_and_retold_facts_change_nothing(database: Database, service: ShopService) -> None:
    await tell(service, *story("o1"))
    once = await stored(database)
    dice = Random(7)
    for round_ in range(20):
        retold = [told | {"id": f"again-{round_}-{number}"} for number, told in enumerate(story("o1"))]
        mixed = story("o1") + retold
        dice.shuffle(mixed)
        results = await tell(service, *mixed)
        for told, result in zip(mixed, results, strict=True):
            is_again = str(told["id"]).startswith("again")
            assert outcomes([result]) == ["ignored shop.already_known" if is_again else "duplicate applied"]
    assert await stored(database) == once


async def test_participants_see_all_facts_so_far_and_who_told_them(service: ShopService, recorder: Recorder) -> None:
    await tell(service, refunded(), closed(), placed(), paid())
    heard = [(o.user_id, len(o.lines), o.is_paid, [one.refunded_units for one in o.lines]) for o in recorder.seen]
    assert heard == [(None, 0, False, []), (None, 0, False, []), ("u1", 1, False, [0]), ("u1", 1, True, [1])]


async def test_a_closing_told_twice_counts_from_the_earlier_time(database: Database, service: ShopService) -> None:
    results = await tell(
        service,
        closed(id_="a", time=at(9)),
        closed(id_="b", time=at(3)),
        closed(id_="c", time=at(5)),
        received(id_="d", time=at(9)),
        received(id_="e", time=at(8)),
        refunded(id_="f", time=at(7)),
        refunded(id_="g", time=at(6)),
    )
    known = "ignored shop.already_known"
    assert outcomes(results) == ["applied", known, known, "applied", "applied shop.corrected", "applied", known]
    order = await store.read_order(database, "o1")
    assert order is not None
    assert (order.closed_at, order.received_at) == (datetime.fromisoformat(at(3)), datetime.fromisoformat(at(8)))
    assert (await stored(database))["refunds"][0][-1] == datetime.fromisoformat(at(6))


@pytest.mark.parametrize(
    "contradiction",
    [
        paid(user_id="u2", id_="x"),
        paid(paid_fen=201, id_="x"),
        paid("o1", line(amount_fen=1), id_="x"),
        paid("o1", line(), line("2"), id_="x"),
        placed(user_id="u2", id_="x"),
        placed("o1", line(units=3), id_="x"),
        refunded("o1", "r1", {"line_id": "1", "units": 0, "amount_fen": 1}, id_="x"),
    ],
)
async def test_a_fact_is_never_changed_by_a_contradiction(
    database: Database, service: ShopService, recorder: Recorder, contradiction: JSON
) -> None:
    await tell(service, placed(), paid(), refunded())
    before, seen = await stored(database), len(recorder.seen)
    assert outcomes(await tell(service, contradiction)) == ["rejected shop.contradicts"]
    assert outcomes(await tell(service, contradiction)) == ["duplicate rejected"]
    assert await stored(database) == before
    assert len(recorder.seen) == seen


async def test_placed_and_paid_by_different_users_contradict_in_either_order(service: ShopService) -> None:
    told = await tell(service, placed("a", user_id="u1"), paid("a", user_id="u2"))
    assert outcomes(told) == ["applied", "rejected shop.contradicts"]
    told = await tell(service, paid("b", user_id="u2"), placed("b", user_id="u1"))
    assert outcomes(told) == ["applied", "rejected shop.contradicts"]


async def test_the_order_of_lines_and_the_zone_of_a_time_are_not_content(service: ShopService) -> None:
    told = paid("o1", line("1"), line("2"))
    again = paid("o1", line("2"), line("1"), id_=told["id"], time=at(50))
    again["data"]["paid_at"] = "2026-11-21T19:02:00.000+08:00"
    assert outcomes(await tell(service, told, again)) == ["applied", "duplicate applied"]
    again["data"]["paid_at"] = "2026-11-21T19:02:00.001+08:00"
    assert outcomes(await tell(service, again)) == ["rejected shop.other_content"]


async def test_an_id_taken_for_another_order_is_not_applied_to_it(database: Database, service: ShopService) -> None:
    results = await tell(service, closed("o1", id_="e"), closed("o2", id_="e"), closed("o2", id_="e", source="till"))
    assert outcomes(results) == ["applied", "rejected shop.other_content", "applied"]
    shopper = registered("o1") | {"id": "e"}
    assert outcomes(await tell(service, shopper)) == ["rejected shop.other_content"]
    assert [row[0] for row in (await stored(database))["orders"]] == ["o1", "o2"]


# --- refunds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "ends", "notes"),
    [
        ([of(3, 0)], [(2, 0), (0, 0)], ["1 applied shop.refund_clipped"]),
        ([of(0, 201)], [(0, 200), (0, 0)], ["1 applied shop.refund_clipped"]),
        ([of(1, 1), of(3, 1, "2")], [(1, 1), (2, 1)], ["2 applied shop.refund_clipped"]),
        ([of(1, 1), of(1, 1, "9")], [(1, 1), (0, 0)], ["9 ignored shop.no_such_line"]),
        ([of(1, 10, "9")], [(0, 0), (0, 0)], ["9 ignored shop.no_such_line"]),
    ],
)
async def test_a_refund_of_more_than_there_is_counts_as_far_as_lines_go_and_says_so_in_either_order(
    database: Database,
    service: ShopService,
    lines: list[JSON],
    ends: list[tuple[int, int]],
    notes: list[str],
) -> None:
    payment, refund = paid("o1", line("1"), line("2"), paid_fen=400), refunded("o1", "r", *lines)
    for order_id, told in (("a", [payment, refund]), ("b", [refund, payment])):
        mine = [one | {"id": order_id + one["id"], "data": one["data"] | {"order_id": order_id}} for one in told]
        results = await tell(service, *mine)
        assert outcomes(results) == ["applied", "applied"]
        assert [f"{one.line_id} {one.outcome} {one.code}" for one in results[1].lines] == notes
        order = await store.read_order(database, order_id)
        assert order is not None
        assert [(one.refunded_units, one.refunded_fen) for one in order.lines] == ends
    # As it was told, to the last fen.
    kept = {tuple(row[1:]) for row in (await stored(database))["refund_lines"]}
    assert kept == {("r", one["line_id"], one["units"], one["amount_fen"]) for one in lines}


async def test_freight_in_the_refund_of_a_line_leaves_nothing_of_it(database: Database, service: ShopService) -> None:
    await tell(service, paid("o1", line(units=1, amount_fen=10_000), paid_fen=10_500))
    (result,) = await tell(service, refunded("o1", "r", of(1, 10_500)))
    assert (outcomes([result]), [one.code for one in result.lines]) == (["applied"], ["shop.refund_clipped"])
    assert await has_bought(database, ["u1"]) == frozenset()


@pytest.mark.parametrize(
    ("lines", "is_refunded"),
    [
        ([of(0, 400)], True),
        ([of(0, 300), of(0, 100, "2")], True),
        ([of(0, 400, "elsewhere")], True),
        ([of(0, 399)], False),
        # With the freight, as much as the lines cost; but not as much as was paid.
        ([of(0, 200), of(0, 150, "freight")], False),
    ],
)
async def test_once_all_that_the_order_cost_is_back_all_its_lines_are_however_it_was_spread(
    database: Database, service: ShopService, recorder: Recorder, lines: list[JSON], *, is_refunded: bool
) -> None:
    await tell(service, paid("o1", line("1"), line("2", amount_fen=150), line("3", amount_fen=0), paid_fen=400))
    await tell(service, refunded("o1", "r", *lines))
    order = recorder.seen[-1]
    assert order.is_refunded is is_refunded
    assert all(one.is_refunded for one in order.lines[:2]) is is_refunded
    assert not order.lines[2].is_refunded
    assert bool(await has_bought(database, ["u1"])) is not is_refunded


# --- what facts mean ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "bought"),
    [
        ([paid()], True),
        ([placed()], False),
        ([paid(paid_fen=0)], False),
        ([paid("o1", line(amount_fen=0), paid_fen=0)], False),
        ([paid("o1", line(amount_fen=0), paid_fen=600)], False),
        ([paid("o1", line(), paid_fen=1)], True),
        ([paid(), refunded("o1", "r", of(0, 200))], False),
        ([paid(), refunded("o1", "r", of(2, 0))], False),
        ([paid(), refunded("o1", "r", of(1, 199))], True),
        ([paid("o1", line("1"), line("2", amount_fen=0)), refunded("o1", "r", of(2, 200))], False),
        ([paid("o1", line("1"), line("2", amount_fen=0)), refunded("o1", "r", of(2, 0, "2"))], True),
    ],
)
async def test_who_has_bought_is_the_same_for_one_order_and_for_all_of_a_shopper(
    database: Database, service: ShopService, recorder: Recorder, told: list[JSON], *, bought: bool
) -> None:
    await tell(service, *told)
    assert recorder.seen[-1].is_bought is bought
    assert await has_bought(database, ["u1", "nobody"]) == (frozenset({"u1"}) if bought else frozenset())
    assert await has_bought(database, ["u1"], "o1") == frozenset()


async def test_lines_are_paid_no_more_than_was_paid_in_all(service: ShopService, recorder: Recorder) -> None:
    lines = line("1", amount_fen=100), line("2", amount_fen=200), line("3", amount_fen=0)
    await tell(service, *(paid(f"o{fen}", *lines, paid_fen=fen) for fen in (0, 1, 150, 299, 300, 900)))
    assert [[one.paid_fen for one in order.lines] for order in recorder.seen] == [
        [0, 0, 0],
        [0, 1, 0],
        [50, 100, 0],
        [100, 199, 0],
        [100, 200, 0],
        [100, 200, 0],
    ]


# --- participants ---------------------------------------------------------------------------------------------------


def says(*said: LineOutcome) -> Recorder:
    async def settle(_tx: Tx, order: Order) -> Sequence[LineOutcome]:
        return said if order.is_paid else ()

    return Recorder(settle)


REFUND = LineOutcome("1", Outcome.REFUND_REQUIRED, "flash_sale.sold_out", "nothing left")
NO = LineOutcome("2", Outcome.REJECTED, "coupon.not_yours")
FINE = LineOutcome("3", Outcome.APPLIED)


@pytest.mark.parametrize(
    ("participants", "expected"),
    [
        ([says(FINE)], "applied"),
        ([says(FINE, NO)], "rejected coupon.not_yours"),
        ([says(NO), says(REFUND)], "refund_required flash_sale.sold_out"),
        ([says(), says()], "applied"),
    ],
)
async def test_the_worst_line_decides_and_a_shop_that_lost_the_answer_learns_it_again(
    database: Database, participants: list[Recorder], expected: str
) -> None:
    service = ShopService(database, participants, [SECRET])
    (first,) = await tell(service, paid())
    assert outcomes([first]) == [expected]
    (again,) = await tell(service, paid())
    assert (again.outcome, again.code, again.lines) == (Outcome.DUPLICATE, first.outcome, first.lines)
    assert first.code in again.detail
    # Under another id it is known; what must be paid back still must.
    (retold,) = await tell(service, paid(id_="retold"))
    assert retold.lines == first.lines
    assert retold.outcome == (Outcome.IGNORED if first.outcome is Outcome.APPLIED else first.outcome)


async def test_what_a_participant_raises_undoes_the_fact(database: Database) -> None:
    async def stumble(_tx: Tx, _order: Order) -> Sequence[LineOutcome]:
        raise LookupError

    service = ShopService(database, [Recorder(stumble)], [SECRET])
    with pytest.raises(RuntimeError):
        await tell(service, paid())
    assert not any((await stored(database)).values())
    assert await database.fetchval("SELECT count(*) FROM shop.events") == 0


# --- shoppers -------------------------------------------------------------------------------------------------------


async def test_of_several_registrations_the_earliest_counts_in_any_order(
    database: Database, service: ShopService
) -> None:
    told = [
        registered("u", 5, source="ad"),
        registered("u", 3, source="scene", device_id="d"),
        registered("u", 3, source="scene", device_id="c", address="2001:db8::1"),
        registered("u", 4),
    ]
    ends = set()
    for arrival in permutations(told):
        await database.fetch("DELETE FROM shop.shoppers")
        await database.fetch("DELETE FROM shop.events")
        results = await tell(service, *arrival)
        assert results[0].outcome is Outcome.APPLIED
        assert {one.outcome for one in results} <= {Outcome.APPLIED, Outcome.IGNORED}
        ends.update((await stored(database))["shoppers"])
    assert len(ends) == 1
    assert await service.registered_at(["u", "nobody"]) == {"u": datetime.fromisoformat(at(3))}
