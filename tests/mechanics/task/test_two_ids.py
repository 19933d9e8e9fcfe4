"""Two ids that both had a task's reward become one: each refund still takes back what its order had earned."""

import pytest

from growth.mechanics.task import person as shopper
from growth.rewards.coupon.payment.settlement import CouponSettlement
from growth.rewards.granting.model import Budget
from growth.shop.order.service import ShopService
from growth.vocabulary.clock import now
from growth.vocabulary.rewards import CouponReward, PointsReward
from tests.mechanics.task.conftest import POINTS, Room, paid, refunded
from tests.mechanics.task.test_undoing import coupon_template, coupons_of, orders
from tests.shop.order import telling

pytestmark = pytest.mark.anyio


async def unite(room: Room, old: str, new: str) -> None:
    async with room.database.transaction(people=[old, new], alone=True) as tx:
        await shopper.merge(tx, old, new, now())


async def gains(room: Room) -> int:
    """Points of both ids: grants stay where they were made, and the ledger's merge is not the room's."""
    return await room.points("ann") + await room.points("bob")


async def test_who_gave_everything_back_keeps_nothing(room: Room) -> None:
    task = await orders(room)
    await room.happens(paid("ann", "o1"), paid("bob", "o2"))
    await unite(room, "ann", "bob")
    # A person is not made to owe because two ids were.
    assert (await room.progress(task, "bob"), await gains(room)) == ((2, "rewarded"), 2 * POINTS)
    await room.happens(refunded("bob", "o1"), refunded("bob", "o2"))
    assert (await room.progress(task, "bob"), await gains(room)) == ((0, "open"), 0)
    # Reached again, it is given again, once.
    await room.happens(paid("bob", "o3"))
    assert await gains(room) == POINTS


@pytest.mark.parametrize("order", ["o1", "o2"])
async def test_a_refund_ends_alike_before_and_after_the_two_are_one(room: Room, order: str) -> None:
    task = await orders(room)
    await room.happens(paid("ann", "o1"), paid("bob", "o2"))
    await unite(room, "ann", "bob")
    await room.happens(refunded("bob", order))
    assert (await room.progress(task, "bob"), await gains(room)) == ((1, "rewarded"), POINTS)


async def test_as_many_rewards_stay_as_what_counts_bears(room: Room) -> None:
    await orders(room, count=2)
    await room.happens(*[paid("ann", f"a{n}") for n in (1, 2)], *[paid("bob", f"b{n}") for n in (1, 2)])
    await unite(room, "ann", "bob")
    ends = []
    for order in ("a1", "b1", "b2", "a2"):
        await room.happens(refunded("bob", order))
        ends.append(await gains(room))
    assert ends == [POINTS, POINTS, 0, 0]


async def test_three_ids_one_after_the_other(room: Room) -> None:
    await orders(room)
    await room.happens(paid("ann", "o1"), paid("bob", "o2"), paid("cat", "o3"))
    await unite(room, "cat", "ann")
    await unite(room, "ann", "bob")
    for order in ("o1", "o2", "o3"):
        await room.happens(refunded("bob", order))
    assert [await room.points(who) for who in ("ann", "bob", "cat")] == [0, 0, 0]


async def test_the_row_with_the_reward_stays_where_the_others_budget_was_spent(room: Room) -> None:
    task = await orders(room, budget=Budget(max_grants=1))
    await room.happens(paid("ann", "o1"), paid("bob", "o2"))
    assert await room.progress(task, "bob") == (1, "done")
    await unite(room, "ann", "bob")
    assert await room.progress(task, "bob") == (2, "rewarded")
    await room.happens(refunded("bob", "o2"))
    assert await gains(room) == POINTS
    await room.happens(refunded("bob", "o1"))
    assert await gains(room) == 0


async def test_a_coupon_that_an_order_has_is_given_no_second_time(room: Room) -> None:
    reward = [CouponReward(template_id=await coupon_template(room)), PointsReward(points=POINTS)]
    await orders(room, reward=reward)
    await room.happens(paid("ann", "o1"), paid("bob", "o2"))
    ((used, _),) = await coupons_of(room, "ann")
    shop = ShopService(room.database, [CouponSettlement()], [telling.SECRET])
    line = telling.line(coupon_id=used, amount_fen=5000)
    await telling.tell(shop, telling.paid("use", line, user_id="ann", paid_fen=5000), now=now())
    await unite(room, "ann", "bob")
    await room.happens(refunded("bob", "o1"), refunded("bob", "o2"))
    await room.happens(paid("bob", "o3"))
    assert [state for _, state in await coupons_of(room, "ann") + await coupons_of(room, "bob")] == ["used", "voided"]
    assert await gains(room) == POINTS
