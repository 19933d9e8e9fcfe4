"""The clock: coupons that end soon are told of once, those that ended expire, stale templates end."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from growth.rewards.coupon import periodic
from growth.rewards.coupon.periodic import GRACE, end_stale_templates, expire_coupons, tell_expiring
from growth.rewards.coupon.template.model import ValidForDays, ValidOnDates
from growth.vocabulary.clock import now
from tests.rewards.coupon.conftest import Room, an_issue, closed, line, placed

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
