"""The clock: coupons that end soon are told of once, those that ended expire, stale templates end."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from growth.rewards.coupon import periodic
from growth.rewards.coupon import person as shopper
from growth.rewards.coupon.periodic import GRACE, end_stale_templates, expire_coupons, tell_expiring
from growth.rewards.coupon.template.model import ValidForDays, ValidOnDates
from growth.vocabulary.clock import now
from tests.queueing import queued
from tests.rewards.coupon.conftest import Room, an_issue, closed, line, paid, placed
from tests.shop.order import telling

pytestmark = pytest.mark.anyio


async def test_an_unused_coupon_expires_after_its_end(room: Room) -> None:
    template = await room.template()
    coupon, voided = await room.grants(template), await room.grants(template)
    await room.voids(voided)
    end = coupon.valid_until
    assert await expire_coupons(room.turn(end)) == 0
    assert await expire_coupons(room.turn(end + GRACE * 2)) == 1
    assert await expire_coupons(room.turn(end + GRACE * 2)) == 0
    found = await room.coupon(coupon)
    assert (found.state, found.ended_at) == ("expired", end)
    assert await room.states(voided) == ["voided"]
    assert [told["coupon_id"] for told in await room.events("expired")] == [coupon.coupon_id]


async def test_a_shopper_sees_the_end_at_once(room: Room) -> None:
    coupon = await room.grants(await room.template())
    before, end = coupon.valid_until - timedelta(seconds=1), coupon.valid_until
    for moment, state in ((before, "issued"), (end, "expired")):
        (page,) = await room.coupons.mine("ann", None, None, 10, moment)
        assert page.state == state
        (page,) = await room.coupons.mine("ann", state, None, 10, moment)
        assert page.coupon_id == coupon.coupon_id
    assert await room.coupons.mine("ann", "issued", None, 10, end) == []


async def test_what_an_order_has_expires_when_it_is_given_back(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.tells(placed("o1", line(coupon)))
    await room.over(coupon)
    assert await expire_coupons(room.turn()) == 0
    await room.tells(closed("o1"))
    assert await room.states(coupon) == ["expired"]
    assert await room.events("expired") == []


async def test_many_coupons_expire_in_bounded_batches(room: Room, monkeypatch: Any) -> None:
    monkeypatch.setattr(periodic, "EXPIRE_BATCH", 7)
    template = await room.template(units_total=100)
    await room.issues(*[an_issue(template, f"u{number}") for number in range(20)])
    later = now() + timedelta(days=31)
    assert [await expire_coupons(room.turn(later)) for _ in range(4)] == [7, 7, 6, 0]
    assert len({told["coupon_id"] for told in await room.events("expired")}) == 20


async def test_two_workers_at_once_expire_and_tell_each_coupon_once(room: Room) -> None:
    template = await room.template(units_total=100)
    await room.issues(*[an_issue(template, f"u{number}") for number in range(50)])
    soon, later = now() + timedelta(days=28), now() + timedelta(days=31)
    await asyncio.gather(*[tell_expiring(room.turn(soon)) for _ in range(8)])
    await asyncio.gather(*[expire_coupons(room.turn(later)) for _ in range(8)])
    for what in ("expiring", "expired"):
        told = [one["coupon_id"] for one in await room.events(what)]
        assert len(told) == len(set(told)) == 50


async def test_a_coupon_is_told_of_once_some_days_before_its_end(room: Room) -> None:
    coupon = await room.grants(await room.template(expiring_days=3))
    due = coupon.valid_until - timedelta(days=3)
    assert await tell_expiring(room.turn(due - timedelta(seconds=1))) == 0
    assert await tell_expiring(room.turn(due)) == 1
    assert await tell_expiring(room.turn(due)) == 0
    (told,) = await room.events("expiring")
    assert (told["coupon_id"], told["user_id"]) == (coupon.coupon_id, "ann")


@pytest.mark.parametrize("changes", [{"expiring_days": 0}, {"expiring_days": 3, "validity": ValidForDays(days=2)}])
async def test_what_is_not_to_be_told_is_not(room: Room, changes: Any) -> None:
    coupon = await room.grants(await room.template(**changes))
    assert await tell_expiring(room.turn(coupon.valid_until - timedelta(seconds=1))) == 0


async def test_a_worker_that_comes_too_late_tells_nothing_of_what_has_ended(room: Room) -> None:
    coupon = await room.grants(await room.template())
    assert await tell_expiring(room.turn(coupon.valid_until)) == 1
    assert await room.events("expiring") == []


async def test_what_an_order_has_is_told_of_when_it_comes_back(room: Room) -> None:
    coupon = await room.grants(await room.template())
    due = coupon.valid_until - timedelta(days=1)
    await room.tells(placed("o1", line(coupon)))
    assert await tell_expiring(room.turn(due)) == 0
    await room.tells(closed("o1"))
    assert await tell_expiring(room.turn(due)) == 1
    assert len(await room.events("expiring")) == 1


async def test_a_worker_that_dies_within_a_batch_has_done_nothing_of_it(room: Room, monkeypatch: Any) -> None:
    template = await room.template(units_total=100)
    await room.issues(*[an_issue(template, f"u{number}") for number in range(10)])

    async def dies(*_: object) -> None:
        raise RuntimeError

    soon, later = now() + timedelta(days=28), now() + timedelta(days=31)
    with monkeypatch.context() as patch:
        patch.setattr(periodic, "emit", dies)
        for task, moment in ((tell_expiring, soon), (expire_coupons, later)):
            with pytest.raises(RuntimeError):
                await task(room.turn(moment))
    assert await tell_expiring(room.turn(soon)) == 10
    assert await expire_coupons(room.turn(later)) == 10
    assert len(await room.events("expiring")) == len(await room.events("expired")) == 10


async def test_a_template_whose_dates_are_over_ends(room: Room) -> None:
    end = now() + timedelta(days=1)
    stale = await room.template(validity=ValidOnDates(valid_from=now(), valid_until=end))
    rolling = await room.template()
    assert await end_stale_templates(room.turn()) == 0
    assert await end_stale_templates(room.turn(end)) == 1
    assert await end_stale_templates(room.turn(end)) == 0
    assert [(await room.again(one)).state for one in (stale, rolling)] == ["ended", "published"]
    (told,) = await room.events("template_ended")
    assert told["template_id"] == stale.template_id


# --- orders of which nothing more is heard ----------------------------------------------------------------------------

LOCK_DAYS = 7
LATER = timedelta(days=LOCK_DAYS, minutes=1)


async def lapses(room: Room, days: int = LOCK_DAYS) -> int:
    """What the clock does a moment after so many days."""
    return await periodic.lapse_locks(room.turn(now() + timedelta(days=days, minutes=1)), days=LOCK_DAYS)


async def test_a_coupon_of_an_order_that_is_never_closed_is_not_locked_for_ever(room: Room) -> None:
    template = await room.template()
    coupon, voided = await room.grants(template), await room.grants(template)
    short = await room.grants(await room.template(validity=ValidForDays(days=3)))
    await room.tells(placed("o1", line(coupon), line(voided, "2"), line(short, "3")))
    await room.voids(voided)
    assert await lapses(room, LOCK_DAYS - 1) == 0
    assert await lapses(room) == 3
    assert await lapses(room) == 0
    assert await room.states(coupon, voided, short) == ["issued", "voided", "expired"]
    returned = {told["coupon_id"]: (told["order_id"], told["state"]) for told in await room.events("returned")}
    assert returned == {
        coupon.coupon_id: ("o1", "issued"),
        voided.coupon_id: ("o1", "voided"),
        short.coupon_id: ("o1", "expired"),
    }
    # Free for another order of the shopper's.
    assert await room.told(placed("o2", line(coupon))) == "applied"
    assert await room.states(coupon) == ["locked"]


async def test_without_the_clock_a_coupon_of_such_an_order_stays_locked(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.tells(placed("o1", line(coupon)))
    await expire_coupons(room.turn(coupon.valid_until + LATER))
    assert await room.states(coupon) == ["locked"]


async def test_money_that_comes_after_the_lock_lapsed_takes_the_coupon_again(room: Room) -> None:
    template = await room.template()
    coupon, short = await room.grants(template), await room.grants(await room.template(validity=ValidForDays(days=3)))
    await room.tells(placed("o1", line(coupon), line(short, "2")))
    await lapses(room)
    assert await room.told(paid("o1", line(coupon), line(short, "2"))) == "applied"
    assert await room.states(coupon, short) == ["used", "used"]
    assert await room.owed() == {}


async def test_money_that_comes_when_another_order_has_the_coupon_is_owed_back_once(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.tells(placed("o1", line(coupon)))
    await lapses(room)
    await room.tells(paid("o2", line(coupon)))
    assert await room.told(paid("o1", line(coupon))) == "refund_required coupon.of_other_order"
    await room.tells(paid("o1", line(coupon)), telling.received("o1"))
    assert len(await room.events("refund_required")) == 1
    assert await room.owed() == {("o1", "1"): ("coupon.of_other_order", 4000)}


async def test_an_order_that_lost_its_coupon_by_waiting_does_not_lock_it_once_more(room: Room) -> None:
    coupon = await room.grants(await room.template())
    event = placed("o1", line(coupon))
    await room.tells(event)
    await lapses(room)
    assert await room.told(event | {"id": "told-again"}) == "rejected coupon.lock_lapsed"
    assert await room.states(coupon) == ["issued"]
    assert await room.told(closed("o1")) == "applied"
    assert await room.coupon(coupon) == coupon


async def test_a_payment_and_the_clock_at_one_instant_leave_the_coupon_used_or_owed_never_lost(room: Room) -> None:
    template = await room.template(units_total=40)
    coupons = [await room.grants(template) for _ in range(40)]
    for number, coupon in enumerate(coupons):
        await room.tells(placed(f"o{number}", line(coupon)))
    answers = await asyncio.gather(
        *[room.told(paid(f"o{number}", line(coupon))) for number, coupon in enumerate(coupons)],
        *[lapses(room) for _ in range(4)],
    )
    assert answers[:40] == ["applied"] * 40
    assert set(await room.states(*coupons)) == {"used"}


async def test_the_coupon_of_an_erased_shoppers_order_lapses_as_well(room: Room) -> None:
    coupon = await room.grants(await room.template())
    await room.tells(placed("o1", line(coupon)))
    async with room.database.transaction() as tx:
        await shopper.erase(tx, "ann", "erased:1")
    assert await lapses(room) == 1
    assert ((await room.coupon(coupon)).state, (await room.coupon(coupon)).user_id) == ("issued", "erased:1")


ROW = "SELECT FROM coupon.coupons WHERE coupon_id = $1 FOR NO KEY UPDATE"


async def test_a_coupon_that_an_order_takes_while_it_is_voided_is_voided_when_it_comes_back(room: Room) -> None:
    coupon = await room.grants(await room.template())
    order = room.tells(placed("o1", line(coupon)))
    _, (voided,) = await queued(room.database, ROW, [coupon.coupon_id], order, room.voids(coupon))
    assert voided.outcome == "locked"
    assert await room.told(closed("o1")) == "applied"
    assert await room.states(coupon) == ["voided"]


async def test_a_coupon_that_an_order_gives_back_while_it_is_voided_is_voided(room: Room) -> None:
    coupon = await room.grants(await room.template())
    assert await room.told(placed("o1", line(coupon))) == "applied"
    closing = room.tells(closed("o1"))
    _, (voided,) = await queued(room.database, ROW, [coupon.coupon_id], closing, room.voids(coupon))
    assert voided.outcome == "voided"
    assert await room.states(coupon) == ["voided"]
