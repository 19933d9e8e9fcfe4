"""What a refund takes back, whenever it is heard of; what is given again, and what is not."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from growth.kit.campaign import store as campaigns
from growth.mechanics.task.model import Task
from growth.mechanics.task.periodic import KEPT, forget_old
from growth.plumbing.outbox.outbox import Envelope
from growth.rewards.coupon.payment.settlement import CouponSettlement
from growth.rewards.coupon.store import coupons as coupons_store
from growth.rewards.coupon.template.model import TEMPLATES, CouponDraft, FixedOff, ValidForDays
from growth.rewards.granting.model import Budget
from growth.rewards.ledger.model import Currency, Transfer
from growth.rewards.ledger.service import transfer
from growth.shop.order.service import ShopService
from growth.vocabulary.clock import now
from growth.vocabulary.events.flash_sale import FlashSaleClaimPaid, FlashSaleClaimRefunded
from growth.vocabulary.ids import HOUSE, new_id
from growth.vocabulary.rewards import CouponReward, PointsReward
from tests.mechanics.task.conftest import POINTS, Room, an_act, assemble, paid, refunded, viewed
from tests.shop.order import telling

pytestmark = pytest.mark.anyio


async def orders(room: Room, **changes: Any) -> Task:
    return await room.task(**{"event_type": "shop.order_paid", "undo_on_refund": "whole"} | changes)


async def test_a_refund_takes_back_what_its_order_had_earned(room: Room) -> None:
    task = await orders(room)
    await room.happens(paid("ann", "o1"))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((1, "rewarded"), POINTS)
    await room.happens(refunded("ann", "o1"))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((0, "open"), 0)
    (undone,) = await room.told("undone")
    assert (undone["user_id"], undone["task_id"]) == ("ann", task.task_id)


async def test_what_was_spent_meanwhile_is_owed(room: Room) -> None:
    await orders(room)
    await room.happens(paid("ann", "o1"))
    spent = Transfer(
        transfer_id=new_id(now()),
        debit="ann",
        credit=f"{HOUSE}shop",
        currency=Currency.POINTS,
        amount=POINTS,
        reason="test.spent",
    )
    async with room.database.transaction() as tx:
        await transfer(tx, [spent], now())
    await room.happens(refunded("ann", "o1"))
    assert await room.points("ann") == -POINTS


async def test_a_task_that_says_no_keeps_what_it_gave(room: Room) -> None:
    task = await orders(room, undo_on_refund="no")
    await room.happens(paid("ann", "o1"), refunded("ann", "o1"))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((1, "rewarded"), POINTS)


async def test_a_refund_in_part_takes_back_only_where_any_does(room: Room) -> None:
    whole, any_ = await orders(room), await orders(room, undo_on_refund="any")
    await room.happens(paid("ann", "o1"), refunded("ann", "o1", whole=False))
    assert await room.progress(whole, "ann") == (1, "rewarded")
    assert await room.progress(any_, "ann") == (0, "open")
    await room.happens(refunded("ann", "o1", refund_id="r2"))
    assert await room.progress(whole, "ann") == (0, "open")
    assert await room.points("ann") == 0


async def test_a_refund_heard_of_before_its_order_takes_it_back_all_the_same(room: Room) -> None:
    task = await orders(room)
    await room.happens(refunded("ann", "o1"), paid("ann", "o1"), paid("ann", "o2"))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((1, "rewarded"), POINTS)
    assert await room.told("undone") == []


async def test_reached_again_by_another_order_it_is_given_again(room: Room) -> None:
    task = await orders(room, count=2)
    await room.happens(paid("ann", "o1"), paid("ann", "o2"), refunded("ann", "o1"))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((1, "open"), 0)
    await room.happens(paid("ann", "o3"))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((2, "rewarded"), POINTS)
    await room.happens(refunded("ann", "o2"), refunded("ann", "o3"))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((0, "open"), 0)


async def test_another_order_that_counts_keeps_the_reward(room: Room) -> None:
    task = await orders(room)
    await room.happens(paid("ann", "o1"), paid("ann", "o2"), refunded("ann", "o1"))
    assert await room.progress(task, "ann") == (1, "rewarded")
    assert await room.told("undone") == []


async def test_a_distinct_value_counts_as_long_as_one_of_its_orders_does(room: Room) -> None:
    task = await orders(room, distinct_by="lines.sku", count=2)
    await room.happens(paid("ann", "o1", "tea", "cup"), paid("ann", "o2", "tea"))
    await room.happens(refunded("ann", "o2"))
    assert await room.progress(task, "ann") == (2, "rewarded")
    await room.happens(refunded("ann", "o1"))
    assert await room.progress(task, "ann") == (0, "open")


async def test_an_order_and_its_refund_told_again_after_all_change_nothing(room: Room) -> None:
    task = await orders(room)
    story = [Envelope(str(number), event) for number, event in enumerate((paid("ann", "o1"), refunded("ann", "o1")))]
    for _ in range(3):
        await room.told_again(story)
        await room.told_again(story[:1])
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((0, "open"), 0)


@pytest.mark.parametrize("state", ["paused", "ended"])
async def test_a_task_that_no_longer_counts_is_still_undone(room: Room, state: str) -> None:
    task = await orders(room)
    await room.happens(paid("ann", "o1"))
    await (room.tasks.pause if state == "paused" else room.tasks.end)(an_act(), task.task_id)
    await room.happens(refunded("ann", "o1"))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((0, "open"), 0)


async def test_a_claim_that_is_refunded_takes_back_what_it_counted(room: Room) -> None:
    task = await room.task(event_type="flash_sale.claim_paid", undo_on_refund="whole")
    known = {"at": now(), "sale_id": new_id(now()), "claim_id": new_id(now()), "user_id": "ann", "units": 1}
    await room.happens(FlashSaleClaimPaid(**known, order_id="o1", late=False))  # type: ignore[arg-type]
    assert await room.progress(task, "ann") == (1, "rewarded")
    await room.happens(FlashSaleClaimRefunded(**known, order_id="o1"))  # type: ignore[arg-type]
    assert await room.progress(task, "ann") == (0, "open")


async def test_a_spent_budget_is_undone_without_taking_anything(room: Room) -> None:
    task = await orders(room, budget=Budget(max_grants=1))
    await room.happens(paid("ann", "o1"), paid("bob", "o2"))
    await room.happens(refunded("ann", "o1"), refunded("bob", "o2"))
    assert [await room.progress(task, user_id) for user_id in ("ann", "bob")] == [(0, "open")] * 2
    assert [await room.points(user_id) for user_id in ("ann", "bob")] == [0, 0]


async def coupon_template(room: Room) -> str:
    draft = CouponDraft(
        title="Ten off", discount=FixedOff(off_fen=1000), validity=ValidForDays(days=30), units_total=10
    )
    async with room.database.transaction() as tx:
        made = await campaigns.add(tx, TEMPLATES, new_id(now()), draft, now())
        await campaigns.move(tx, TEMPLATES, made.template_id, ["draft"], "published", now())
    return made.template_id


async def coupons_of(room: Room, user_id: str) -> list[tuple[str, str]]:
    rows = await room.database.fetch(
        "SELECT coupon_id, state FROM coupon.coupons WHERE user_id = $1 ORDER BY coupon_id", user_id
    )
    return [(row["coupon_id"], row["state"]) for row in rows]


async def test_an_unused_coupon_is_taken_back_and_given_again(room: Room) -> None:
    reward = [CouponReward(template_id=await coupon_template(room)), PointsReward(points=POINTS)]
    await orders(room, reward=reward)
    await room.happens(paid("ann", "o1"), refunded("ann", "o1"), paid("ann", "o2"))
    # In one batch nothing was ever given for the first.
    assert [state for _, state in await coupons_of(room, "ann")] == ["issued"]
    await room.happens(refunded("ann", "o2"))
    await room.happens(paid("ann", "o3"))
    assert [state for _, state in await coupons_of(room, "ann")] == ["voided", "issued"]
    assert await room.points("ann") == POINTS


async def test_buying_and_returning_in_turns_earns_one_coupon_not_many(room: Room) -> None:
    reward = [CouponReward(template_id=await coupon_template(room)), PointsReward(points=POINTS)]
    task = await orders(room, reward=reward)
    await room.happens(paid("ann", "o1"))
    ((coupon_id, _),) = await coupons_of(room, "ann")
    shop = ShopService(room.database, [CouponSettlement()], [telling.SECRET])
    line = telling.line(coupon_id=coupon_id, amount_fen=5000)
    await telling.tell(shop, telling.paid("use", line, user_id="ann", paid_fen=5000), now=now())
    assert (await coupons_store.find_coupons(room.database, [coupon_id]))[coupon_id].state == "used"
    for number in range(3):
        await room.happens(refunded("ann", f"o{number + 1}"))
        await room.happens(paid("ann", f"o{number + 2}"))
    assert await room.progress(task, "ann") == (1, "rewarded")
    assert await coupons_of(room, "ann") == [(coupon_id, "used")]
    assert await room.points("ann") == POINTS


async def test_64_processes_that_hear_an_order_and_its_refund_at_once_agree(room: Room) -> None:
    task = await orders(room, count=2)
    kept, gone = [Envelope(f"k{n}", paid("ann", f"k{n}")) for n in (1, 2)], Envelope("g", paid("ann", "g"))
    back = Envelope("b", refunded("ann", "g"))
    others = [assemble(room.database) for _ in range(64)]
    stories = [[gone, back], [kept[0]], [kept[1], gone], [back], [gone, kept[0], kept[1]]]
    await asyncio.gather(*[other.told_again(stories[place % len(stories)]) for place, other in enumerate(others)])
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((2, "rewarded"), POINTS)


async def test_clients_and_rooms_count_at_once_for_one_shopper(room: Room) -> None:
    views, buys = await room.task(count=8), await orders(room, count=8)
    await asyncio.gather(
        *[assemble(room.database).does(viewed("ann", str(number))) for number in range(8)],
        *[
            assemble(room.database).told_again([Envelope(str(number), paid("ann", f"o{number}"))])
            for number in range(8)
        ],
    )
    assert [await room.progress(task, "ann") for task in (views, buys)] == [(8, "rewarded")] * 2
    assert await room.points("ann") == 2 * POINTS


async def test_what_was_refunded_too_long_ago_to_matter_is_forgotten_and_the_rest_is_not(room: Room) -> None:
    await orders(room)
    await room.happens(refunded("ann", "o1"))
    assert await forget_old(room.turn()) == 0
    assert await forget_old(room.turn(now() + KEPT + timedelta(minutes=1))) == 2  # "any" and "whole"
