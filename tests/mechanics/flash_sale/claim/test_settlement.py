"""What the shop's orders make of claims, in whatever order, however often and at whatever moment they are told."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.keeping.store import holdings_of
from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.claim.settlement import store as settlement_store
from growth.mechanics.flash_sale.claim.settlement.service import ClaimSettlement
from growth.mechanics.flash_sale.model import Protection, SaleDraft
from growth.plumbing.postgres.database import Tx
from growth.plumbing.watch.audit import Act
from growth.shop.order.service import ShopService
from growth.shop.order.store import orders
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.conftest import Room, assemble
from tests.mechanics.flash_sale.story import (
    claim_now,
    events_of,
    line,
    paid,
    placed,
    tell,
    told,
    units_in_both,
)
from tests.shop.order import telling
from tests.shop.order.telling import CLAIM_ID, JSON

OWED = "refund_required"
SOLD_OUT = f"{OWED} flash_sale.sold_out"
AT_ONCE = 8
"""Orders whose hooks travel at once."""

FIRST, REST = telling.of(1, 100), telling.of(1, 100)


def story(claim: Claim, order_id: str) -> list[JSON]:
    """All that can happen to an order of two units."""
    return [
        placed(claim, order_id),
        paid(claim, order_id),
        telling.refunded(order_id, "partial", FIRST),
        telling.refunded(order_id, "rest", REST),
        telling.closed(order_id),
        telling.received(order_id),
    ]


async def in_turns(works: Sequence[Awaitable[Any]]) -> list[Any]:
    """Do all, a few at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(work: Awaitable[Any]) -> Any:
        async with places:
            return await work

    return await asyncio.gather(*[one(work) for work in works])


async def end_of(room: Room, claim: Claim) -> tuple[object, ...]:
    """What is left of a claim's story, without when things were heard."""
    end = await claim_now(room, claim.claim_id)
    events = Counter(await events_of(room.database, claim.claim_id))
    owed = await room.database.fetchval(
        "SELECT count(*) FROM flash_sale.refunds_required WHERE claim_id = $1", claim.claim_id
    )
    held = (await holdings_of(room.database, claim.sale_id, [claim.user_id])).get(claim.user_id, 0)
    return (
        (end.state, end.release_reason, end.paid_at is not None, end.ended_at is not None),
        (end.refunded_units, end.returned_units, end.occupied_units, held),
        (events["claim_held"], events["claim_paid"], events["claim_refunded"], events["refund_required"], owed),
    )


# --- any order of arrival ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("returns", [False, True])
async def test_whatever_the_order_of_hooks_a_claim_ends_the_same(room: Room, *, returns: bool) -> None:
    orders = list(itertools.permutations(range(6)))
    sale = await world.put_sale(
        room.database, units_total=2 * len(orders), max_per_shopper=2, refund_returns_units=returns
    )
    claims = [
        got.claim for got in await asyncio.gather(*[room.claim(sale.sale_id, f"u{n}", 2) for n, _ in enumerate(orders)])
    ]

    async def play(number: int) -> tuple[object, ...]:
        events = story(claims[number], f"order-{number}")
        for index in orders[number]:
            (answer,) = await tell(room, events[index])
            assert answer == "applied", (orders[number], index)
        again = await tell(room, *[events[index] for index in orders[number]])
        assert {answer.partition(" ")[0] for answer in again} == {"duplicate"}
        return await end_of(room, claims[number])

    ends = Counter(await in_turns([play(number) for number in range(len(orders))]))
    left = 0 if returns else 2
    assert dict(ends) == {
        (("refunded", None, True, True), (2, 2 - left, left, left), (1, 1, 1, 0, 0)): len(orders),
    }
    assert await units_in_both(room, sale.sale_id) == (left * len(orders), left * len(orders))


async def test_whatever_the_order_of_hooks_a_claim_whose_hold_lapsed_ends_the_same(room: Room) -> None:
    orders = list(itertools.permutations(range(4)))
    sale = await world.put_sale(room.database, units_total=2 * len(orders), max_per_shopper=2)
    claims = [(await room.claim(sale.sale_id, f"u{n}", 2)).claim for n, _ in enumerate(orders)]
    await lapse(room, *claims)

    async def play(number: int) -> tuple[object, ...]:
        events = story(claims[number], f"order-{number}")
        for index in orders[number]:
            await tell(room, events[index])
        return await end_of(room, claims[number])

    ends = Counter(await in_turns([play(number) for number in range(len(orders))]))
    assert dict(ends) == {(("refunded", None, True, True), (2, 0, 2, 2), (1, 1, 1, 0, 0)): len(orders)}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
async def test_whatever_the_order_of_hooks_money_that_buys_nothing_is_owed_until_it_is_back(
    room: Room, order: tuple[int, ...]
) -> None:
    claim = await lost(room, 2)
    events = [story(claim, "o1")[index] for index in (1, 2, 3, 5)]
    heard = set[int]()
    for index in order:
        (answer,) = await tell(room, events[index])
        heard.add(index)
        # Paid, and not yet paid back whole: then every hook of the order is answered so.
        owed = 0 in heard and not {1, 2} <= heard
        assert answer.partition(" ")[0] == (OWED if owed else "applied"), (order, index)
    end = await claim_now(room, claim.claim_id)
    assert (end.state, end.release_reason, end.paid_at) == ("released", "lapsed", None)
    told_first = 0 if {1, 2} <= set(order[: order.index(0)]) else 1
    assert (await events_of(room.database, claim.claim_id)).count("refund_required") == told_first
    assert await units_in_both(room, claim.sale_id) == (2, 2)


async def test_closed_before_paid_sells_as_paid_before_closed_does(room: Room) -> None:
    for policy in ("retake", "refund"):
        sale = await world.put_sale(room.database, sku=policy, late_payment=policy)
        claim = (await room.claim(sale.sale_id, "alice")).claim
        order = f"order-{policy}"
        assert await tell(room, placed(claim, order), telling.closed(order)) == ["applied"] * 2
        assert await units_in_both(room, sale.sale_id) == (0, 0)
        assert await tell(room, paid(claim, order), telling.received(order)) == ["applied"] * 2
        assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_closed_and_paid_after_the_hold_is_late_as_the_sales_policy_says(room: Room) -> None:
    for policy, answer, taken in (("retake", "applied", 1), ("refund", f"{OWED} flash_sale.paid_late", 0)):
        sale = await world.put_sale(room.database, sku=policy, late_payment=policy)
        claim = (await room.claim(sale.sale_id, "alice")).claim
        order = f"order-{policy}"
        await tell(room, placed(claim, order), telling.closed(order))
        # As if the hold had ended a second ago.
        ended_at = await room.database.fetchval(
            "UPDATE flash_sale.claims SET held_until = now() - interval '1 second' WHERE claim_id = $1"
            " RETURNING held_until",
            claim.claim_id,
        )
        late = paid(claim, order)
        late["data"]["paid_at"] = ended_at.isoformat()
        assert await tell(room, late, telling.received(order)) == [answer] * 2
        assert await units_in_both(room, sale.sale_id) == (taken, taken)


@pytest.mark.parametrize("policy", ["retake", "refund"])
async def test_an_order_that_is_split_at_payment_pays_whether_it_is_closed_before_or_after(
    room: Room, policy: str
) -> None:
    for number, arrival in enumerate(itertools.permutations(range(3))):
        sale = await world.put_sale(room.database, sku=f"tea-{number}", late_payment=policy)
        claim = (await room.claim(sale.sale_id, "alice")).claim
        parent, child = f"o{number}", f"o{number}-1"
        facts = [placed(claim, parent), paid(claim, child), telling.closed(parent)]
        await tell(room, *[facts[index] for index in arrival])
        assert await tell(room, telling.received(child)) == ["applied"]
        end = await claim_now(room, claim.claim_id)
        assert (end.state, end.order_id) == ("paid", child), arrival
        assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_lines_of_one_piece_each_pay_for_one_claim_together(room: Room) -> None:
    sale = await world.put_sale(room.database, max_per_shopper=3, refund_returns_units=True)
    claim = (await room.claim(sale.sale_id, "alice", 3)).claim
    pieces = [line(claim, name, units=1, amount_fen=claim.price_fen) for name in "abc"]
    assert await tell(room, telling.paid("o1", *pieces, user_id="alice", paid_fen=3 * claim.price_fen)) == ["applied"]
    assert (await claim_now(room, claim.claim_id)).state == "paid"
    back = telling.of(1, claim.price_fen, "b")
    assert await tell(room, telling.refunded("o1", "r1", back)) == ["applied"]
    end = await claim_now(room, claim.claim_id)
    assert (end.state, end.refunded_units, end.returned_units) == ("paid", 1, 1)
    rest = [telling.of(0, claim.price_fen, name) for name in "ac"]
    assert await tell(room, telling.refunded("o1", "r2", *rest)) == ["applied"]
    assert (await claim_now(room, claim.claim_id)).state == "refunded"
    assert await units_in_both(room, sale.sale_id) == (0, 0)


@pytest.mark.parametrize(
    ("units", "codes"),
    [
        ((1, 1), ["", ""]),
        ((1, 1, 1), ["", "", "flash_sale.claim_of_other_line"]),
        ((1, 2), ["flash_sale.claim_of_other_line", ""]),
        ((3, 1, 1), ["flash_sale.claim_of_other_line", "", ""]),
        ((1,), ["flash_sale.other_units"]),
        ((3,), ["flash_sale.other_units"]),
        ((3, 1), ["flash_sale.other_units", "flash_sale.other_units"]),
    ],
)
async def test_lines_pay_for_a_claim_up_to_its_units_and_what_is_beyond_is_owed(
    room: Room, units: tuple[int, ...], codes: list[str]
) -> None:
    sale = await world.put_sale(room.database, max_per_shopper=2)
    claim = (await room.claim(sale.sale_id, "alice", 2)).claim
    lines = [line(claim, str(number), units=many) for number, many in enumerate(units)]
    for event in (telling.paid("o1", *lines, user_id="alice"), telling.received("o1")):
        (result,) = await told(room, event)
        assert [one.code for one in result.lines] == codes
        assert [str(one.outcome) for one in result.lines] == [OWED if code else "applied" for code in codes]


async def test_all_the_money_back_without_units_is_the_refund_of_the_claim(room: Room) -> None:
    sale = await world.put_sale(room.database, max_per_shopper=2, refund_returns_units=True)
    claim = (await room.claim(sale.sale_id, "alice", 2)).claim
    cost = 2 * claim.price_fen
    order = telling.paid("o1", line(claim), user_id="alice", paid_fen=cost)
    for refund in (telling.of(0, cost - 1), telling.of(0, 1)):
        assert (await claim_now(room, claim.claim_id)).state != "refunded"
        await tell(room, order, telling.refunded("o1", f"r{refund['amount_fen']}", refund))
    end = await claim_now(room, claim.claim_id)
    assert (end.state, end.refunded_units, end.occupied_units) == ("refunded", 2, 0)
    assert await units_in_both(room, sale.sale_id) == (0, 0)


async def test_a_claim_of_price_0_is_paid_by_an_order_for_which_nothing_was_paid(room: Room) -> None:
    sale = await world.put_sale(room.database, price_fen=0)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    assert await tell(room, telling.paid("o1", line(claim), user_id="alice", paid_fen=0)) == ["applied"]
    assert (await claim_now(room, claim.claim_id)).state == "paid"
    assert await tell(room, telling.refunded("o1", "r1", telling.of(1, 0))) == ["applied"]
    assert (await claim_now(room, claim.claim_id)).state == "refunded"


async def test_an_order_closed_after_it_was_paid_changes_nothing(room: Room) -> None:
    sale = await world.put_sale(room.database)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    await tell(room, paid(claim))
    before = await end_of(room, claim)
    assert await tell(room, telling.closed("o1")) == ["applied"]
    assert await end_of(room, claim) == before
    assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_a_claim_whose_order_was_closed_is_free_at_once_for_the_next_shopper(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=1)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    assert await tell(room, placed(claim), telling.closed("o1"), telling.closed("o1", id_="again")) == [
        "applied",
        "applied",
        "ignored shop.already_known",
    ]
    assert (await claim_now(room, claim.claim_id)).release_reason == "order_closed"
    assert (await room.claim(sale.sale_id, "bob")).claim.state == "held"
    assert await events_of(room.database, claim.claim_id) == ["claim_held", "claim_released"]


# --- late money -------------------------------------------------------------------------------------------------------


async def lapse(room: Room, *claims: Claim) -> None:
    """Let time go past these holds."""
    late = max(claim.held_until for claim in claims) + timedelta(seconds=6)
    assert await room.keeper.end_lapsed_holds(await leading_at(room.database, late)) == len(claims)


async def lost(room: Room, units: int = 1, **changes: Any) -> Claim:
    """A claim of alice whose hold lapsed; bob has her units by now."""
    plain = {"units_total": units, "max_per_shopper": units}
    sale = await world.put_sale(room.database, **plain | changes)
    claim = (await room.claim(sale.sale_id, "alice", units)).claim
    await lapse(room, claim)
    await room.claim(sale.sale_id, "bob", units)
    return claim


async def test_late_money_takes_the_units_again_while_there_are_any(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=1)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    await lapse(room, claim)
    assert await units_in_both(room, sale.sale_id) == (0, 0)
    assert await tell(room, paid(claim)) == ["applied"]
    assert await units_in_both(room, sale.sale_id) == (1, 1)
    assert await events_of(room.database, claim.claim_id) == ["claim_held", "claim_released", "claim_paid"]
    with pytest.raises(Refusal, match="sold_out"):
        await room.claim(sale.sale_id, "bob")


async def test_late_money_for_units_that_are_gone_is_owed_back_once(room: Room) -> None:
    claim = await lost(room)
    assert await tell(room, paid(claim)) == [SOLD_OUT]
    # For as long as it is owed every hook of the order says so; the event goes out once.
    assert await tell(room, telling.received("o1"), telling.closed("o1")) == [SOLD_OUT] * 2
    assert await tell(room, paid(claim)) == [f"duplicate {OWED}"]
    assert (await events_of(room.database, claim.claim_id)).count("refund_required") == 1
    assert await tell(room, telling.refunded("o1", "r1", telling.of(1, 100))) == ["applied"]
    assert (await events_of(room.database, claim.claim_id)).count("refund_required") == 1


async def test_money_owed_back_stays_owed_though_units_come_free_again(room: Room) -> None:
    claim = await lost(room)
    assert await tell(room, paid(claim)) == [SOLD_OUT]
    (bobs,) = await room.claims.mine(claim.sale_id, "bob")
    await room.claims.give_back(bobs.claim_id, "bob", now())
    assert await tell(room, telling.received("o1")) == [SOLD_OUT]
    assert await units_in_both(room, claim.sale_id) == (0, 0)


async def test_money_that_went_back_before_it_was_told_of_takes_no_unit_that_comes_free_later(room: Room) -> None:
    claim = await lost(room)
    await tell(room, placed(claim), telling.refunded("o1", "r1", telling.of(1, 100)))
    assert await tell(room, paid(claim)) == ["applied"]
    (bobs,) = await room.claims.mine(claim.sale_id, "bob")
    await room.claims.give_back(bobs.claim_id, "bob", now())
    assert await tell(room, telling.received("o1")) == ["applied"]
    assert (await claim_now(room, claim.claim_id)).state == "released"
    assert await units_in_both(room, claim.sale_id) == (0, 0)


async def test_late_money_is_always_owed_back_where_the_sale_says_so(room: Room) -> None:
    sale = await world.put_sale(room.database, late_payment="refund")
    claim = (await room.claim(sale.sale_id, "alice")).claim
    await lapse(room, claim)
    assert await tell(room, paid(claim), telling.received("o1")) == [f"{OWED} flash_sale.paid_late"] * 2
    assert (await events_of(room.database, claim.claim_id)).count("refund_required") == 1
    assert await units_in_both(room, sale.sale_id) == (0, 0)


async def test_late_money_never_gets_a_shopper_past_the_limit_and_the_reason_says_so(room: Room) -> None:
    sale = await world.put_sale(room.database)
    first = (await room.claim(sale.sale_id, "alice")).claim
    await lapse(room, first)
    second = (await room.claim(sale.sale_id, "alice")).claim
    assert await tell(room, paid(second, "o2"), paid(first, "o1")) == ["applied", f"{OWED} flash_sale.limit_reached"]
    assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_late_money_after_the_sale_ended_or_while_it_is_paused_takes_units_again(room: Room) -> None:
    act = Act(Operator("test", Role.EDITOR), now())
    for step in (room.sales.pause, room.sales.end):
        sale = await world.put_sale(room.database, sku=step.__name__)
        claim = (await room.claim(sale.sale_id, "alice")).claim
        await lapse(room, claim)
        await step(act, sale.sale_id)
        assert await tell(room, paid(claim, step.__name__)) == ["applied"]
        assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_late_money_for_what_a_shopper_gave_back_or_an_operator_took_is_alike(room: Room) -> None:
    sale = await world.put_sale(room.database)
    for user_id in ("alice", "bob"):
        claim = (await room.claim(sale.sale_id, user_id)).claim
        if user_id == "alice":
            await room.claims.give_back(claim.claim_id, user_id, now())
        else:
            await room.claims.release(Act(Operator("test", Role.EDITOR), now(), reason="a test"), claim.claim_id)
        assert await tell(room, paid(claim, f"of-{user_id}")) == ["applied"]
    assert await units_in_both(room, sale.sale_id) == (2, 2)


async def test_paying_clears_the_wait_of_a_shopper_who_let_holds_lapse(room: Room) -> None:
    protection = Protection(cool_down_seconds=3600)
    sale = await world.put_sale(room.database, max_per_shopper=2, protection=protection)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    await lapse(room, claim)
    with pytest.raises(Refusal, match="cooling_down"):
        await room.claim(sale.sale_id, "alice")
    assert await tell(room, paid(claim)) == ["applied"]
    assert (await room.sales.dry_run(sale.sale_id, "alice", 1, now())).would == "win"
    assert (await room.claim(sale.sale_id, "alice")).claim.state == "held"


async def test_a_wait_of_one_shopper_is_not_cut_short_by_that_of_another(room: Room) -> None:
    protection = Protection(cool_down_seconds=1)
    sale = await world.put_sale(room.database, protection=protection)
    await room.claim(sale.sale_id, "somebody")
    await room.stock.cool_down(sale.sale_id, {"alice": now() + timedelta(hours=1)}, sale.closes_at)
    await room.stock.cool_down(sale.sale_id, {"bob": now() - timedelta(seconds=1)}, sale.closes_at)
    with pytest.raises(Refusal, match="cooling_down"):
        await room.claim(sale.sale_id, "alice")


# --- refunds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("returns", [False, True])
async def test_refunded_units_come_back_on_sale_only_if_the_sale_says_so(room: Room, *, returns: bool) -> None:
    sale = await world.put_sale(room.database, units_total=3, max_per_shopper=3, refund_returns_units=returns)
    claim = (await room.claim(sale.sale_id, "alice", 3)).claim
    await tell(room, paid(claim))
    for number in range(1, 4):
        assert await tell(room, telling.refunded("o1", f"r{number}", telling.of(1, 100))) == ["applied"]
        taken = 3 - number if returns else 3
        assert await units_in_both(room, sale.sale_id) == (taken, taken)
        end = await claim_now(room, claim.claim_id)
        assert (end.state, end.refunded_units) == ("refunded" if number == 3 else "paid", number)
    assert await events_of(room.database, claim.claim_id) == ["claim_held", "claim_paid", "claim_refunded"]
    # What the line does not have is kept, and counts for nothing.
    before = await end_of(room, claim)
    assert await tell(room, telling.refunded("o1", "r4", telling.of(1, 100))) == ["applied"]
    assert await end_of(room, claim) == before


async def test_units_that_came_back_by_a_refund_are_sold_again_and_the_refund_told_again_takes_nothing(
    room: Room,
) -> None:
    sale = await world.put_sale(room.database, units_total=1, refund_returns_units=True)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    back = telling.refunded("o1", "r1", telling.of(1, 100))
    await tell(room, paid(claim), back)
    assert (await room.claim(sale.sale_id, "bob")).claim.state == "held"
    assert await tell(room, back, telling.received("o1")) == ["duplicate applied", "applied"]
    assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_money_given_back_without_units_leaves_the_claim_sold(room: Room) -> None:
    sale = await world.put_sale(room.database, refund_returns_units=True)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    assert await tell(room, paid(claim), telling.refunded("o1", "r1", telling.of(0, 50))) == ["applied"] * 2
    assert (await claim_now(room, claim.claim_id)).state == "paid"
    assert await units_in_both(room, sale.sale_id) == (1, 1)


# --- whose claim, and for what ----------------------------------------------------------------------------------------


async def test_two_orders_that_pay_one_claim_get_it_once_and_the_other_is_owed_its_money(room: Room) -> None:
    sale = await world.put_sale(room.database)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    other = f"{OWED} flash_sale.claim_of_other_order"
    assert await tell(room, paid(claim, "o1"), paid(claim, "o2")) == ["applied", other]
    assert await tell(room, telling.refunded("o2", "r1", telling.of(1, 100))) == ["applied"]
    assert (await claim_now(room, claim.claim_id)).order_id == "o1"
    assert (await claim_now(room, claim.claim_id)).refunded_units == 0
    assert (await events_of(room.database, claim.claim_id)).count("refund_required") == 1


async def test_an_order_that_was_only_placed_keeps_no_other_from_paying(room: Room) -> None:
    sale = await world.put_sale(room.database)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    assert await tell(room, placed(claim, "o1"), placed(claim, "o2")) == [
        "applied",
        "rejected flash_sale.claim_of_other_order",
    ]
    assert await tell(room, paid(claim, "o2"), telling.closed("o1")) == ["applied", "applied"]
    assert (await claim_now(room, claim.claim_id)).state == "paid"


async def test_two_lines_of_one_order_with_one_claim_sell_it_once_and_owe_the_other_line(room: Room) -> None:
    sale = await world.put_sale(room.database)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    order = telling.paid("o1", line(claim, "a"), line(claim, "b"), user_id="alice")
    for event in (order, telling.received("o1")):
        (result,) = await told(room, event)
        assert [(one.line_id, str(one.outcome), one.code) for one in result.lines] == [
            ("a", "applied", ""),
            ("b", OWED, "flash_sale.claim_of_other_line"),
        ]
    assert (await events_of(room.database, claim.claim_id)).count("refund_required") == 1
    # Each line's refund is its own.
    assert await tell(room, telling.refunded("o1", "r1", telling.of(1, 100, "b"))) == ["applied"]
    assert (await claim_now(room, claim.claim_id)).state == "paid"
    await tell(room, telling.refunded("o1", "r2", telling.of(1, 100, "a")))
    assert (await claim_now(room, claim.claim_id)).state == "refunded"


@pytest.mark.parametrize(
    ("changes", "user_id", "code"),
    [
        ({}, "mallory", "flash_sale.claim_of_other_shopper"),
        ({"sku": "coffee"}, "alice", "flash_sale.other_sku"),
        ({"units": 1}, "alice", "flash_sale.other_units"),
        ({"units": 3}, "alice", "flash_sale.other_units"),
    ],
)
async def test_a_line_that_does_not_fit_its_claim_is_refused_when_placed_and_owed_when_paid(
    room: Room, changes: JSON, user_id: str, code: str
) -> None:
    sale = await world.put_sale(room.database, max_per_shopper=2)
    claim = (await room.claim(sale.sale_id, "alice", 2)).claim
    wrong = line(claim, **changes)
    assert await tell(room, telling.placed("o1", wrong, user_id=user_id)) == [f"rejected {code}"]
    assert await tell(room, telling.paid("o1", wrong, user_id=user_id)) == [f"{OWED} {code}"]
    assert await tell(room, telling.closed("o1")) == [f"{OWED} {code}"]
    end = await claim_now(room, claim.claim_id)
    assert (end.state, end.order_id) == ("held", None)
    assert (await events_of(room.database, claim.claim_id)).count("refund_required") == 1
    assert await tell(room, paid(claim, "o2")) == ["applied"]


async def test_an_unknown_claim_is_refused_and_a_malformed_one_is_not_even_read(room: Room) -> None:
    unknown = telling.line(units=1, claim_id=new_id(now()))
    assert (
        await tell(room, telling.placed("o1", unknown), telling.paid("o1", unknown))
        == ["rejected flash_sale.claim_not_found"] * 2
    )
    capital = CLAIM_ID.upper()
    malformed: list[object] = ["", "x", capital, f"{CLAIM_ID}\n", "' OR 1=1 --", 7, {}]
    for bad in malformed:
        (answer,) = await tell(room, telling.paid("o2", telling.line(claim_id=bad)))
        assert answer == "rejected request.invalid", bad
    assert await room.database.fetchval("SELECT count(*) FROM shop.orders WHERE order_id = 'o2'") == 0


async def test_one_bad_line_keeps_no_other_line_from_being_sold(room: Room) -> None:
    sale = await world.put_sale(room.database)
    mine = (await room.claim(sale.sale_id, "alice")).claim
    theirs = (await room.claim(sale.sale_id, "bob")).claim
    order = telling.paid("o1", line(theirs, "a"), line(mine, "b"), telling.line("c"), user_id="alice")
    (result,) = await told(room, order)
    assert [(one.line_id, str(one.outcome)) for one in result.lines] == [("a", OWED), ("b", "applied")]
    assert (await claim_now(room, mine.claim_id)).state == "paid"
    assert (await claim_now(room, theirs.claim_id)).state == "held"


# --- at the same instant ----------------------------------------------------------------------------------------------

CROWD = 64


def processes(room: Room, number: int) -> list[Room]:
    """This process and others on the same stores."""
    return [room, *[assemble(room.database, room.redis) for _ in range(number - 1)]]


async def answers_of(rooms: Sequence[Room], events: Sequence[JSON]) -> list[str]:
    """Tell all events at once, over all processes; the answers in the order of the events."""
    got = await asyncio.gather(*[tell(rooms[number % len(rooms)], event) for number, event in enumerate(events)])
    return [answer for (answer,) in got]


async def owed_to(room: Room, sale_id: str) -> Counter[str]:
    """How often a refund was asked for, by order."""
    rows = await room.database.fetch(
        """
        SELECT data ->> 'order_id' AS order_id
        FROM plumbing.outbox
        WHERE type = 'flash_sale.refund_required'
          AND subject = $1
        """,
        sale_id,
    )
    return Counter(row["order_id"] for row in rows)


async def test_of_64_orders_that_pay_one_claim_at_once_one_has_it_and_63_are_owed_once_each(room: Room) -> None:
    sale = await world.put_sale(room.database)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    orders = [f"o{number}" for number in range(CROWD)]
    answers = await answers_of(processes(room, 4), [paid(claim, order) for order in orders])
    assert Counter(answers) == {"applied": 1, f"{OWED} flash_sale.claim_of_other_order": CROWD - 1}
    winner = orders[answers.index("applied")]
    assert (await claim_now(room, claim.claim_id)).order_id == winner
    assert await owed_to(room, sale.sale_id) == dict.fromkeys(set(orders) - {winner}, 1)
    assert (await events_of(room.database, claim.claim_id)).count("claim_paid") == 1


async def test_64_late_payers_get_the_units_there_are_and_the_rest_their_money(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=CROWD)
    claims = [(await room.claim(sale.sale_id, f"u{number}")).claim for number in range(CROWD)]
    await lapse(room, *claims)
    for number in range(CROWD - 10):
        await room.claim(sale.sale_id, f"next-{number}")
    answers = await answers_of(processes(room, 4), [paid(claim, f"o-{claim.user_id}") for claim in claims])
    assert Counter(answers) == {"applied": 10, SOLD_OUT: CROWD - 10}
    owed = {f"o-{claim.user_id}" for claim, answer in zip(claims, answers, strict=True) if answer == SOLD_OUT}
    assert await owed_to(room, sale.sale_id) == dict.fromkeys(owed, 1)
    assert await units_in_both(room, sale.sale_id) == (CROWD, CROWD)


async def test_the_same_payment_delivered_64_times_at_once_sells_once(room: Room) -> None:
    sale = await world.put_sale(room.database)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    again = [paid(claim, id_=f"event-{number}") for number in range(CROWD // 2)]
    answers = await answers_of(processes(room, 4), [*[paid(claim)] * (CROWD // 2), *again])
    assert answers.count("applied") == 1
    known = {"duplicate applied", "ignored shop.already_known", "duplicate ignored shop.already_known"}
    assert set(answers) <= {"applied"} | known
    assert (await events_of(room.database, claim.claim_id)) == ["claim_held", "claim_paid"]


@pytest.mark.parametrize("policy", ["retake", "refund"])
@pytest.mark.parametrize("_round", range(4))
async def test_paying_as_the_hold_lapses_sells_or_owes_and_never_both(room: Room, policy: str, _round: int) -> None:
    # Everybody's hold ends now; each pays at this instant, and others want what falls free.
    sale = await world.put_sale(room.database, units_total=32, late_payment=policy)
    claims = [(await room.claim(sale.sale_id, f"u{number}")).claim for number in range(32)]
    turn = await leading_at(room.database, max(claim.held_until for claim in claims) + timedelta(seconds=6))
    rooms = processes(room, 3)
    answers, *_ = await asyncio.gather(
        answers_of(rooms, [paid(claim, f"o-{claim.user_id}") for claim in claims]),
        rooms[1].keeper.end_lapsed_holds(turn),
        rooms[2].keeper.end_lapsed_holds(turn),
        *[rooms[number % 3].claim(sale.sale_id, f"next-{number}") for number in range(16)],
        return_exceptions=True,
    )
    assert isinstance(answers, list), answers
    await room.keeper.end_lapsed_holds(turn)
    await expect_sold_or_owed(room, claims, answers)


async def expect_sold_or_owed(room: Room, claims: Sequence[Claim], answers: Sequence[str]) -> None:
    """Each payer has the units or is owed the money, once; and there are never more units than there are."""
    sale = await room.sales.find(claims[0].sale_id)
    assert sale.taken <= sale.units_total
    owed = await owed_to(room, sale.sale_id)
    for claim, answer in zip(claims, answers, strict=True):
        end = await claim_now(room, claim.claim_id)
        if answer == "applied":
            assert (end.state, end.order_id) == ("paid", f"o-{claim.user_id}")
            assert owed[f"o-{claim.user_id}"] == 0
        else:
            assert answer.startswith(OWED), answer
            assert end.state == "released"
            assert owed[f"o-{claim.user_id}"] == 1
    await room.loader.reconcile(sale.sale_id, now() + timedelta(minutes=1))
    taken = (await room.sales.find(sale.sale_id)).taken
    assert await units_in_both(room, sale.sale_id) == (taken, taken)


@pytest.mark.parametrize("policy", ["retake", "refund"])
async def test_paying_as_an_operator_takes_the_claim_back_sells_or_owes_and_never_both(room: Room, policy: str) -> None:
    sale = await world.put_sale(room.database, units_total=32, late_payment=policy)
    claims = [(await room.claim(sale.sale_id, f"u{number}")).claim for number in range(32)]
    act = Act(Operator("test", Role.EDITOR), now(), reason="a test")
    rooms = processes(room, 3)
    taken_back = [rooms[number % 3].claims.release(act, claim.claim_id) for number, claim in enumerate(claims)]
    answers, *released = await asyncio.gather(
        answers_of(rooms, [paid(claim, f"o-{claim.user_id}") for claim in claims]), *taken_back, return_exceptions=True
    )
    assert isinstance(answers, list), answers
    for one in released:
        assert isinstance(one, Claim) or (isinstance(one, Refusal) and one.kind.code == "flash_sale.claim_not_held")
    await expect_sold_or_owed(room, claims, answers)


async def test_orders_that_share_sales_in_any_order_never_wait_in_a_ring(room: Room) -> None:
    one, other = [await world.put_sale(room.database, sku=sku, units_total=CROWD) for sku in ("tea", "coffee")]
    claims = [
        ((await room.claim(one.sale_id, f"u{number}")).claim, (await room.claim(other.sale_id, f"u{number}")).claim)
        for number in range(24)
    ]
    lapsed, held = claims[:12], claims[12:]
    late = [claim for pair in lapsed for claim in pair]
    await lapse_only(room, late)
    orders = [
        telling.paid(f"o{number}", line(pair[number % 2], "a"), line(pair[1 - number % 2], "b"), user_id=f"u{number}")
        for number, pair in enumerate(lapsed)
    ]
    turn = await leading_at(room.database, held[-1][1].held_until + timedelta(seconds=6))
    rooms = processes(room, 3)
    answers, gone = await asyncio.gather(answers_of(rooms, orders), room.keeper.end_lapsed_holds(turn))
    assert Counter(answers) == {"applied": 12}
    assert gone == 24
    assert await units_in_both(room, one.sale_id) == await units_in_both(room, other.sale_id) == (12, 12)


async def lapse_only(room: Room, claims: Sequence[Claim]) -> None:
    """Let time go past these holds alone."""
    moment = claims[-1].held_until + timedelta(seconds=6)
    async with room.database.transaction() as tx:
        await tx.execute(
            "UPDATE flash_sale.claims SET held_until = held_until - INTERVAL '1 hour' WHERE claim_id = ANY($1::uuid[])",
            [claim.claim_id for claim in claims],
        )
    turn = await leading_at(room.database, moment - timedelta(hours=1))
    assert await room.keeper.end_lapsed_holds(turn) == len(claims)


# --- negative controls: each guard matters ----------------------------------------------------------------------------


async def test_without_the_lock_on_the_claim_two_payments_meet_and_the_assertion_is_all_that_is_left(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, other = processes(room, 2)
    sale = await world.put_sale(room.database)
    claim = (await room.claim(sale.sale_id, "alice")).claim
    both_have_read = asyncio.Barrier(2)

    async def unlocked(tx: Tx, claim_ids: Sequence[str]) -> dict[str, Claim]:
        found = await store.find_claims(tx, claim_ids)
        await both_have_read.wait()
        return found

    async def waits_for_nobody(*_: object) -> None: ...

    monkeypatch.setattr(store, "lock_claims", unlocked)
    # Two orders of one shopper wait for each other there already.
    monkeypatch.setattr(orders, "take_shoppers_turns", waits_for_nobody)
    got = await asyncio.gather(tell(room, paid(claim, "o1")), tell(other, paid(claim, "o2")), return_exceptions=True)
    assert Counter(type(answer) for answer in got) == {list: 1, RuntimeError: 1}


async def test_without_the_guard_on_stock_late_money_would_oversell(room: Room) -> None:
    claim = await lost(room)

    class Unguarded:
        def __init__(self, tx: Any) -> None:
            self._tx = tx
            self.savepoint = tx.savepoint
            self.people = tx.people

        async def fetchval(self, query: str, *args: object) -> object:
            return await self._tx.fetchval(query.replace("AND taken + $2 <= units_total", ""), *args)

    with pytest.raises(Exception, match="violates check constraint"):
        async with room.database.transaction() as tx:
            await settlement_store.retake(Unguarded(tx), claim, "o1", now())  # type: ignore[arg-type]


# --- sold out ---------------------------------------------------------------------------------------------------------


async def sold_out(room: Room, sale_id: str) -> tuple[bool, int]:
    """Whether the sale knows when it was sold out, and how often that was told."""
    told_of = await room.database.fetchval(
        "SELECT count(*) FROM plumbing.outbox WHERE type = 'flash_sale.sold_out' AND subject = $1", sale_id
    )
    known = await room.database.fetchval("SELECT sold_out_at FROM flash_sale.sales WHERE sale_id = $1", sale_id)
    return known is not None, told_of


async def test_late_money_that_takes_the_last_unit_sells_the_sale_out_and_says_so_once(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=2)
    late = (await room.claim(sale.sale_id, "ann")).claim
    await room.claims.give_back(late.claim_id, "ann", now())
    await room.claim(sale.sale_id, "bob")
    assert await sold_out(room, sale.sale_id) == (False, 0)
    assert await tell(room, paid(late)) == ["applied"]
    assert await sold_out(room, sale.sale_id) == (True, 1)
    # Units that come back and are taken again sell it out no second time.
    await tell(room, telling.received())
    assert await sold_out(room, sale.sale_id) == (True, 1)


async def test_late_money_that_leaves_units_says_nothing_of_sold_out(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=2)
    late = (await room.claim(sale.sale_id, "ann")).claim
    await room.claims.give_back(late.claim_id, "ann", now())
    assert await tell(room, paid(late)) == ["applied"]
    assert await sold_out(room, sale.sale_id) == (False, 0)


async def test_an_edit_that_leaves_no_unit_over_sells_the_sale_out(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=5)
    await room.claim(sale.sale_id, "ann")
    draft = SaleDraft(**{name: getattr(sale, name) for name in SaleDraft.__struct_fields__} | {"units_total": 1})
    after = await room.sales.change(Act(Operator("olga", Role.ADMIN), now()), sale.sale_id, sale.version, draft)
    assert after.sold_out_at is not None
    assert await sold_out(room, sale.sale_id) == (True, 1)


async def test_orders_that_are_settled_together_meet_what_the_ones_before_made_of_a_claim(room: Room) -> None:
    sale = await world.put_sale(room.database)
    claim = (await room.claim(sale.sale_id, "ann", 1)).claim
    deaf = ShopService(room.database, [], [telling.SECRET])
    await telling.tell(deaf, paid(claim, "o1"), paid(claim, "o2"), now=now())
    both = [order for one in ("o1", "o2") if (order := await orders.read_order(room.database, one))]
    async with room.database.transaction() as tx:
        said = await ClaimSettlement(room.stock).settle(tx, both, now())
    assert [(said[one][0].outcome, said[one][0].code) for one in ("o1", "o2")] == [
        ("applied", ""),
        (OWED, "flash_sale.claim_of_other_order"),
    ]
    assert (await claim_now(room, claim.claim_id)).order_id == "o1"
