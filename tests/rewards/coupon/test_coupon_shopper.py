"""What the room knows of one shopper: told, erased, merged."""

import pytest

from growth.rewards.coupon import person as shopper
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from tests.rewards.coupon.conftest import Room, line, paid, placed

pytestmark = pytest.mark.anyio


async def test_all_that_is_known_is_told(room: Room) -> None:
    template = await room.template(claimable=True)
    taken = await room.takes_one(template)
    granted = await room.grants(template)
    await room.grants(template, "bob")
    told = await shopper.export(room.database, "ann")
    assert [one.coupon_id for one in told.coupons] == [granted.coupon_id, taken.coupon.coupon_id]
    assert [(one.template_id, one.taken) for one in told.takings] == [(template.template_id, 1)]


async def test_who_is_erased_leaves_counts_and_no_name(room: Room) -> None:
    template = await room.template(claimable=True)
    await room.takes_one(template)
    used = await room.grants(template)
    await room.tells(paid("o1", line(used)))
    for _ in range(2):
        async with room.database.transaction() as tx:
            await shopper.erase(tx, "ann", "erased:0123")
    told = await shopper.export(room.database, "ann")
    assert (told.coupons, told.takings) == ([], [])
    assert len((await shopper.export(room.database, "erased:0123")).coupons) == 2
    assert (await room.again(template)).issued == 2


@pytest.mark.one_day
async def test_merged_ids_have_what_both_had_and_no_limit_twice(room: Room) -> None:
    template = await room.template(claimable=True, max_per_shopper=3, max_per_shopper_per_day=2)
    mine = (await room.takes_one(template, "ann")).coupon
    hers = (await room.takes_one(template, "old-ann")).coupon
    locked = await room.grants(template, "old-ann")
    await room.tells(placed("o1", line(locked), user_id="old-ann"))
    for _ in range(2):
        async with room.database.transaction() as tx:
            await shopper.merge(tx, "old-ann", "ann", now())
    assert {one.coupon_id for one in (await shopper.export(room.database, "ann")).coupons} == {
        mine.coupon_id,
        hers.coupon_id,
        locked.coupon_id,
    }
    with pytest.raises(Refusal, match=r"coupon\.limit_reached_today"):
        await room.takes_one(template, "ann")
    await room.database.fetchval("UPDATE coupon.takings SET day = day - 1")
    await room.takes_one(template, "ann")
    with pytest.raises(Refusal, match=r"coupon\.limit_reached"):
        await room.takes_one(template, "ann")
    # The order was placed by the old id, and is paid by it.
    assert await room.told(paid("o1", line(locked), user_id="old-ann")) == "applied"
    assert await room.states(locked) == ["used"]
