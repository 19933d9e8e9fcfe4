"""What orders make of coupons: one order has one, whatever arrives, in whatever order."""

import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest

from growth.rewards.coupon.payment import settlement
from growth.rewards.coupon.payment import store as payment
from growth.rewards.coupon.store import expiry as ending
from growth.rewards.coupon.template.model import ValidForDays
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Grant, Revoked
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.rewards import CouponReward
from tests.rewards.coupon.conftest import Room, closed, line, outcomes, paid, placed, refunded
from tests.shop.order import telling

pytestmark = pytest.mark.anyio


async def test_a_placed_order_locks_a_paid_one_uses_a_refunded_one_returns(room: Room) -> None:
    coupon = await room.grants(await room.template())
    assert await room.told(placed("o1", line(coupon))) == "applied"
    locked = await room.coupon(coupon)
    assert (locked.state, locked.order_id) == ("locked", "o1")
    assert await room.told(paid("o1", line(coupon))) == "applied"
    used = await room.coupon(coupon)
    assert (used.state, used.order_id, used.paid_fen) == ("used", "o1", 4000)
    assert await room.told(refunded("o1")) == "applied"
    assert await room.coupon(coupon) == coupon
    (told_used,), (told_returned,) = await room.events("used"), await room.events("returned")
    assert (told_used["order_id"], told_used["paid_fen"]) == ("o1", 4000)
    assert (told_returned["order_id"], told_returned["state"]) == ("o1", "issued")
    # And can be used again.
    assert await room.told(paid("o2", line(coupon))) == "applied"
    assert (await room.coupon(coupon)).order_id == "o2"


async def test_a_coupon_is_not_lost_where_the_payment_fails(room: Room) -> None:
    coupon = await room.grants(await room.template())
    for number in range(3):
        assert await room.told(placed(f"o{number}", line(coupon))) == "applied"
        assert await room.told(closed(f"o{number}")) == "applied"
        assert await room.coupon(coupon) == coupon


async def test_closed_after_paid_changes_nothing(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.tells(placed("o1", line(coupon)), paid("o1", line(coupon)), closed("o1"))
    assert await room.states(coupon) == ["used"]


async def test_one_coupon_in_five_orders_at_once_is_locked_to_one_of_them(room: Room) -> None:
    for number in range(5):
        coupon = await room.grants(await room.template())
        answers = await asyncio.gather(*[room.told(placed(f"o{number}-{order}", line(coupon))) for order in range(5)])
        assert sorted(answers) == ["applied"] + ["rejected coupon.of_other_order"] * 4


async def test_one_coupon_in_five_paid_orders_is_used_by_one_and_owed_back_once_to_each_other(room: Room) -> None:
    coupon = await room.grants(await room.template())
    orders = [f"o{number}" for number in range(5)]
    answers = await asyncio.gather(*[room.told(paid(order, line(coupon))) for order in orders])
    assert sorted(answers) == ["applied"] + ["refund_required coupon.of_other_order"] * 4
    has = (await room.coupon(coupon)).order_id
    losers = {(order, "1"): ("coupon.of_other_order", 4000) for order in orders if order != has}
    assert await room.owed() == losers
    # Whatever else is told of them: owed until paid back, told once.
    for order, _ in losers:
        assert await room.told(telling.received(order)) == "refund_required coupon.of_other_order"
    assert len(await room.events("refund_required")) == 4
    for order, _ in losers:
        assert await room.told(refunded(order)) == "applied"
    assert await room.owed() == losers
    assert (await room.coupon(coupon)).order_id == has


async def test_who_is_owed_the_line_does_not_get_the_coupon_when_it_comes_back(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.tells(paid("o1", line(coupon)))
    assert await room.told(paid("o2", line(coupon))) == "refund_required coupon.of_other_order"
    await room.tells(refunded("o1"))
    assert await room.told(telling.received("o2")) == "refund_required coupon.of_other_order"
    assert await room.states(coupon) == ["issued"]


async def test_an_order_that_is_split_at_payment_has_its_coupon_whether_it_is_closed_before_or_after(
    room: Room,
) -> None:
    template = await room.template(units_total=100)
    for number, arrival in enumerate(itertools.permutations(range(4))):
        coupon = await room.grants(template)
        parent, child = f"o{number}", f"o{number}-2"
        facts = [
            placed(parent, line(None, "1"), line(coupon, "2")),
            paid(f"o{number}-1", line(None, "1")),
            paid(child, line(coupon, "2")),
            closed(parent),
        ]
        results = await room.tells(*[facts[index] for index in arrival])
        assert "refund_required" not in {one.outcome for one in results}
        assert await room.told(telling.received(child)) == "applied"
        found = await room.coupon(coupon)
        assert (found.state, found.order_id) == ("used", child), arrival
    assert await room.owed() == {}


async def test_a_lock_is_no_lock_against_who_pays_but_against_who_only_places_and_others(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.tells(placed("o1", line(coupon)))
    assert await room.told(placed("o2", line(coupon))) == "rejected coupon.of_other_order"
    eves = paid("o3", line(coupon), user_id="eve")
    assert await room.told(eves) == "refund_required coupon.of_other_shopper"
    assert await room.told(paid("o2", line(coupon))) == "applied"
    # The order that had the lock is paid as well: of two payments the first has the coupon.
    assert await room.told(paid("o1", line(coupon))) == "refund_required coupon.of_other_order"
    assert (await room.coupon(coupon)).order_id == "o2"


async def test_all_the_money_back_without_units_gives_the_coupon_back(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.tells(paid("o1", line(coupon)), telling.refunded("o1", "r", telling.of(0, 4000)))
    assert await room.states(coupon) == ["issued"]


async def test_one_coupon_on_several_lines_comes_back_when_all_are_paid_back(room: Room) -> None:
    coupon = await room.grants(await room.template())
    lines = [line(coupon, "1"), line(None, "2"), line(coupon, "3")]
    assert await room.told(paid("o1", *lines)) == "applied"
    assert (await room.coupon(coupon)).paid_fen == 8000
    await room.tells(refunded("o1", "1"))
    assert await room.states(coupon) == ["used"]
    await room.tells(refunded("o1", "3"))
    assert await room.states(coupon) == ["issued"]
    assert len(await room.events("returned")) == 1


async def test_what_was_placed_with_a_coupon_and_paid_without_gives_it_back(room: Room) -> None:
    first, second = await room.grants(await room.template()), await room.grants(await room.template())
    await room.tells(placed("o1", line(first)))
    assert await room.told(paid("o1", line(None))) == "applied"
    assert await room.states(first) == ["issued"]
    await room.tells(placed("o2", line(first)))
    assert await room.told(paid("o2", line(second))) == "applied"
    assert await room.states(first, second) == ["issued", "used"]
    # The other way round, what was placed counts for nothing.
    await room.tells(paid("o3", line(None)), placed("o3", line(first)))
    assert await room.states(first) == ["issued"]


async def test_a_coupon_that_stays_used_after_a_refund_does(room: Room) -> None:
    coupon = await room.grants(await room.template(after_refund="stay_used"))
    await room.tells(paid("o1", line(coupon)), refunded("o1"))
    assert await room.states(coupon) == ["used"]


async def test_a_coupon_given_back_after_its_end_has_expired(room: Room) -> None:
    template = await room.template()
    closed_late, refunded_late = await room.grants(template), await room.grants(template)
    await room.tells(placed("o1", line(closed_late)), paid("o2", line(refunded_late)))
    await room.over(closed_late, refunded_late)
    await room.tells(closed("o1"), refunded("o2"))
    assert await room.states(closed_late, refunded_late) == ["expired", "expired"]
    assert [told["state"] for told in await room.events("returned")] == ["expired", "expired"]


async def test_an_end_that_passed_refuses_an_order_placed_and_not_one_paid(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.over(coupon)
    assert await room.told(placed("o1", line(coupon))) == "rejected coupon.expired"
    assert await room.told(paid("o1", line(coupon))) == "applied"
    assert await room.states(coupon) == ["used"]


async def test_an_order_placed_before_the_end_is_heard_of_late(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.over(coupon)
    async with room.database.transaction() as tx:
        assert len(await ending.expire(tx, now(), 10)) == 1
    before = now() - timedelta(hours=1)
    assert await room.told(placed("o1", line(coupon), placed_at=before)) == "applied"
    assert await room.states(coupon) == ["locked"]
    assert await room.told(closed("o1")) == "applied"
    assert await room.states(coupon) == ["expired"]


async def test_a_coupon_that_is_not_valid_yet_locks_no_order(room: Room) -> None:
    coupon = await room.grants(await room.template(validity=ValidForDays(days=1, starts_in_days=1)))
    assert await room.told(placed("o1", line(coupon))) == "rejected coupon.not_yet_valid"


async def test_nobody_pays_with_anothers_coupon_nor_with_none(room: Room) -> None:
    coupon = await room.grants(await room.template(), "ann")
    assert await room.told(placed("o1", line(coupon), user_id="eve")) == "rejected coupon.of_other_shopper"
    assert await room.told(paid("o1", line(coupon), user_id="eve")) == "refund_required coupon.of_other_shopper"
    assert await room.told(placed("o2", line(new_id(now())))) == "rejected coupon.not_found"
    assert await room.told(paid("o2", line(new_id(now())))) == "rejected coupon.not_found"
    assert await room.states(coupon) == ["issued"]
    (told,) = await room.events("refund_required")
    assert (told["user_id"], told["buyer_id"], told["amount_fen"]) == ("ann", "eve", 4000)


async def test_what_was_paid_back_in_part_is_owed_for_the_rest(room: Room) -> None:
    coupon = await room.grants(await room.template(), "ann")
    await room.tells(telling.refunded("o1", "r1", telling.of(0, 1500)))
    await room.tells(paid("o1", line(coupon), user_id="eve"))
    assert await room.owed() == {("o1", "1"): ("coupon.of_other_shopper", 2500)}


async def test_a_voided_coupon_pays_for_nothing(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.voids(coupon)
    assert await room.told(placed("o1", line(coupon))) == "rejected coupon.voided"
    assert await room.told(paid("o2", line(coupon))) == "refund_required coupon.voided"


async def test_what_is_taken_back_while_an_order_has_it_is_void_when_the_order_returns_it(room: Room) -> None:
    template = await room.template()
    one, other, third = [await room.grants(template) for _ in range(3)]
    await room.tells(placed("o1", line(one)), paid("o2", line(other)), placed("o3", line(third)))
    assert outcomes(await room.voids(one, other, third)) == ["locked", "used", "locked"]
    assert outcomes(await room.voids(one, other, third)) == ["locked", "used", "locked"]
    await room.tells(closed("o1"), refunded("o2"), paid("o3", line(third)))
    assert await room.states(one, other, third) == ["voided", "voided", "used"]


async def test_who_takes_grants_back_hears_which_coupons_an_order_has_however_often_asked(room: Room) -> None:
    reward = CouponReward(template_id=(await room.template()).template_id)
    grants = [Grant(user_id="ann", reward=reward, reason="task.reward", key=key) for key in ("used", "free")]
    async with room.database.transaction() as tx:
        given = await granting.grant(tx, grants, now())
    await room.tells(paid("o1", line(await room.coupon(str(given[0].coupon_id)))))
    for outcome in ("revoked", "already"):
        async with room.database.transaction() as tx:
            told = await granting.revoke(tx, ["used", "free", "never"], "task.undone", now())
        assert told == [Revoked("used", outcome, in_use=True), Revoked("free", outcome), Revoked("never", "already")]


async def test_orders_that_share_coupons_do_not_wait_for_each_other(room: Room) -> None:
    template = await room.template(units_total=100)
    coupons = [await room.grants(template) for _ in range(8)]

    async def order(number: int) -> str:
        mine = coupons if number % 2 else coupons[::-1]
        return await room.told(paid(f"o{number}", *[line(one, str(index)) for index, one in enumerate(mine)]))

    answers = await asyncio.gather(*[order(number) for number in range(16)])
    assert sorted(set(answers)) == ["applied", "refund_required coupon.of_other_order"]
    states = [await room.coupon(one) for one in coupons]
    assert {one.state for one in states} == {"used"}
    assert len({one.order_id for one in states}) == answers.count("applied") == 1


async def test_voiding_and_placing_at_once_end_in_one_or_the_other(room: Room) -> None:
    template = await room.template(units_total=100)
    for number in range(8):
        coupon = await room.grants(template)
        (voided,), answer = await asyncio.gather(room.voids(coupon), room.told(placed(f"o{number}", line(coupon))))
        state = (await room.coupon(coupon)).state
        assert (voided.outcome, answer, state) in {
            ("voided", "rejected coupon.voided", "voided"),
            ("locked", "applied", "locked"),
        }


@pytest.mark.parametrize("step", ["use", "give_back", "require_refund"])
async def test_a_process_that_dies_within_an_order_leaves_nothing_half_done(
    room: Room, monkeypatch: Any, step: str
) -> None:
    coupon = await room.grants(await room.template())
    hers = await room.grants(await room.template(), "bob")
    await room.tells(placed("o1", line(coupon)))
    event = closed("o1") if step == "give_back" else paid("o1", line(coupon, "1"), line(hers, "2"))

    async def dies(*_: object) -> None:
        raise RuntimeError

    before = await room.coupon(coupon)
    with monkeypatch.context() as patch:
        patch.setattr(settlement, "emit", dies)
        if step == "require_refund":
            patch.setattr(payment, "require_refund", dies)
            patch.setattr(settlement, "emit", _nothing)
        with pytest.raises(RuntimeError):
            await room.tells(event)
    assert await room.coupon(coupon) == before
    assert await room.owed() == {}
    # The shop delivers again.
    (answer,) = telling.outcomes(await room.tells(event))
    assert answer == ("applied" if step == "give_back" else "refund_required coupon.of_other_shopper")
    assert await room.states(coupon) == ["issued" if step == "give_back" else "used"]


async def _nothing(*_: object) -> None: ...


async def test_every_order_of_arrival_ends_alike(room: Room) -> None:
    template = await room.template(units_total=1000)
    ends = set()
    for number, arrival in enumerate(itertools.permutations(range(4))):
        coupon, other = await room.grants(template), await room.grants(template)
        order = f"o{number}"
        facts = [
            placed(order, line(other, "1"), line(coupon, "2")),
            paid(order, line(coupon, "1"), line(None, "2")),
            closed(order),
            refunded(order, "2"),
        ]
        await room.tells(*[facts[index] for index in arrival])
        found = await room.coupon(coupon)
        ends.add((found.state, found.order_id == order, found.paid_fen, (await room.coupon(other)).state))
    assert ends == {("used", True, 4000, "issued")}
    assert await room.owed() == {}
