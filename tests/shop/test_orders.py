"""Orders are sets of facts: whatever the order of arrival, the same facts, once, and everybody concerned agrees."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import permutations
from random import Random

import pytest

from growth.plumbing.postgres import Database, Tx
from growth.shop import store
from growth.shop.service import ShopService
from growth.vocabulary.orders import LineOutcome, Order, Outcome
from tests.shop.telling import (
    JSON,
    SECRET,
    Recorder,
    as_one_order,
    at,
    broken,
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
    assert outcomes(results) == ["applied", known, known, "applied", known, "applied", known]
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
    ("lines", "code"),
    [
        ([of(3, 0)], "shop.refund_exceeds_line"),
        ([of(0, 201)], "shop.refund_exceeds_line"),
        ([of(1, 1), of(3, 1, "2")], "shop.refund_exceeds_line"),
        ([of(1, 1), of(1, 1, "9")], "shop.no_such_line"),
    ],
)
async def test_a_refund_of_more_than_there_is_changes_nothing(
    database: Database, service: ShopService, lines: list[JSON], code: str
) -> None:
    await tell(service, paid("o1", line("1"), line("2")))
    before = await stored(database)
    (result,) = await tell(service, refunded("o1", "r", *lines))
    assert (result.outcome, result.code) == (Outcome.REJECTED, code)
    assert lines[-1]["line_id"] in result.detail
    assert await stored(database) == before


async def test_what_is_left_of_a_line_can_be_refunded_to_the_last_fen(service: ShopService) -> None:
    results = await tell(
        service,
        paid(),
        refunded("o1", "a", of(1, 199)),
        refunded("o1", "b", of(2, 1)),
        refunded("o1", "c", of(1, 2)),
        refunded("o1", "d", of(1, 1)),
        refunded("o1", "e", of(0, 1)),
    )
    beyond = "rejected shop.refund_exceeds_line"
    assert outcomes(results) == ["applied", "applied", beyond, beyond, "applied", beyond]


async def test_early_refunds_beyond_the_line_count_as_far_as_it_goes_and_the_payment_says_so(
    database: Database, service: ShopService, recorder: Recorder
) -> None:
    early = [refunded("o1", "a", of(2, 150)), refunded("o1", "b", of(1, 10), of(1, 1, "9"))]
    assert outcomes(await tell(service, placed(), *early)) == ["applied"] * 3
    (result,) = await tell(service, paid())
    assert result.outcome is Outcome.APPLIED
    assert [(one.line_id, one.outcome, one.code) for one in result.lines] == [
        ("1", Outcome.APPLIED, "shop.refund_clipped"),
        ("9", Outcome.IGNORED, "shop.no_such_line"),
    ]
    (only,) = recorder.seen[-1].lines
    assert (only.refunded_units, only.refunded_fen) == (2, 160)
    assert outcomes(await tell(service, refunded("o1", "c", of(1, 1)))) == ["rejected shop.refund_exceeds_line"]
    assert not await broken(database)


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
