"""What an order earns its inviter, told step by step."""

from datetime import timedelta

import pytest

from growth.mechanics.referral.model import Caps, FixedRule, PercentRule
from tests.mechanics.referral.commission.money import AVAILABLE, LONG_AGO, Till, an_act, line, paid, received, refunded
from tests.shop.order.telling import NOON, of

pytestmark = pytest.mark.anyio


async def test_ten_percent_is_pending_at_payment_and_available_a_week_after_receipt(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    await till.tells(paid())
    assert await till.fen() == (1000, 0, 0, 0, 0)
    assert await till.settle(NOON + timedelta(days=300)) == 0
    await till.tells(received())
    assert await till.settle(AVAILABLE - timedelta(seconds=1)) == 0
    assert await till.settle() == 1
    assert await till.fen() == (0, 1000, 0, 0, 0)
    assert await till.settle() == 0
    assert await till.events() == [("commission.pending", 1000), ("commission.available", 1000)]
    assert await till.entries() == [("posted", 1000)]
    assert await till.month() == 1000


async def test_a_refund_takes_back_exactly_its_share_before_and_after_it_is_available(till: Till) -> None:
    await till.program(level_1=PercentRule(basis_points=333))
    await till.bind("bob", "ann")
    await till.tells(paid("o1", line(amount_fen=9_999)))
    assert await till.fen() == (332, 0, 0, 0, 0)
    await till.tells(refunded("o1", "r1", of(1, 2_500)))
    assert await till.fen() == (249, 0, 0, 0, 0)
    await till.tells(received())
    await till.settle()
    await till.tells(refunded("o1", "r2", of(1, 2_500)))
    assert await till.fen() == (0, 166, 0, 0, 0)
    await till.tells(refunded("o1", "r3", of(2, 4_999)))
    assert await till.fen() == (0, 0, 0, 0, 0)
    assert (await till.only()).shown_state == "refunded"
    assert await till.month() == 0
    assert await till.entries() == [("voided", 332), ("posted", 249), ("posted", -83), ("posted", -166)]


async def test_units_that_all_came_back_earn_nothing_even_if_money_was_kept(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    await till.tells(paid(), refunded("o1", "r1", of(4, 9_000)))
    assert await till.fen() == (0, 0, 0, 0, 0)


async def test_an_order_paid_back_before_its_payment_is_heard_of_earns_nothing(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    await till.tells(refunded("o1", "r1", of(4, 10_000)), received(), paid())
    assert await till.fen() == (0, 0, 0, 0, 0)
    assert await till.events() == []
    assert await till.entries() == []


async def test_each_line_is_rounded_down_by_itself(till: Till) -> None:
    await till.program(level_1=PercentRule(basis_points=100))
    await till.bind("bob", "ann")
    await till.tells(paid("o1", line("1", 199), line("2", 199)))
    assert await till.fen() == (2, 0, 0, 0, 0)


async def test_lines_that_the_program_does_not_cover_earn_nothing(till: Till) -> None:
    await till.program(skus=["tea"])
    await till.bind("bob", "ann")
    await till.tells(paid("o1", line("1", 1_000), line("2", 5_000, sku="pot")), paid("o2", line("1", 500, sku="pot")))
    assert await till.fen() == (100, 0, 0, 0, 0)
    assert await till.of_order("o2") == []
    await till.tells(refunded("o1", "r1", of(4, 5_000, "2")))
    assert await till.fen() == (100, 0, 0, 0, 0)


async def test_nobody_earns_without_a_relation_or_a_program(till: Till) -> None:
    await till.tells(paid())
    await till.bind("bob", "ann")
    await till.tells(paid("o2"))
    assert await till.fen() == (0, 0, 0, 0, 0)


async def test_terms_are_those_of_the_payment_however_late_it_is_told(till: Till) -> None:
    await till.program(from_at=NOON + timedelta(hours=1))
    await till.bind("bob", "ann")
    await till.tells(paid(), paid("o2", minutes=121))
    assert await till.of_order("o1") == []
    assert await till.fen() == (1000, 0, 0, 0, 0)


async def test_the_second_level_earns_by_its_own_rule(till: Till) -> None:
    await till.program(level_1=PercentRule(basis_points=1000), level_2=PercentRule(basis_points=200))
    await till.bind("ann", "eve")
    await till.bind("bob", "ann")
    await till.tells(paid())
    assert (await till.fen("ann"), await till.fen("eve")) == ((1000, 0, 0, 0, 0), (200, 0, 0, 0, 0))
    await till.tells(refunded("o1", "r1", of(1, 5_000)))
    assert (await till.fen("ann"), await till.fen("eve")) == ((500, 0, 0, 0, 0), (100, 0, 0, 0, 0))


async def test_a_third_level_is_nobodys(till: Till) -> None:
    await till.program(level_1=PercentRule(basis_points=1000), level_2=PercentRule(basis_points=200))
    for invitee, inviter in (("fay", "gil"), ("eve", "fay"), ("ann", "eve"), ("bob", "ann")):
        await till.bind(invitee, inviter)
    await till.tells(paid())
    assert [one.inviter_id for one in await till.of_order()] == ["ann", "eve"]


async def test_ten_yuan_for_the_first_order_that_was_kept(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000))
    await till.bind("bob", "ann")
    await till.tells(paid("o1", minutes=2), paid("o2", minutes=3), paid("o3", minutes=4))
    assert await till.fen() == (1000, 0, 0, 0, 0)
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2", "o3")] == [1000, 0, 0]
    await till.tells(refunded("o1", "r1", of(4, 10_000)))
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2", "o3")] == [0, 1000, 0]
    await till.tells(refunded("o2", "r1", of(1, 2_501)))
    assert await till.fen() == (749, 0, 0, 0, 0)
    # Of next to nothing kept, next to nothing is earned; but it is the first that was kept.
    await till.tells(refunded("o2", "r2", of(1, 7_498)))
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2", "o3")] == [0, 0, 0]


@pytest.mark.parametrize("back_fen", [5_001, 9_999, 10_000])
async def test_an_order_of_which_less_is_kept_than_the_program_asks_earns_nothing(till: Till, back_fen: int) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000), min_order_fen=5_000)
    await till.bind("bob", "ann")
    await till.tells(paid("o1"), received("o1"), paid("o2", line(amount_fen=5_000), minutes=3))
    await till.settle()
    assert await till.fen() == (0, 1000, 0, 0, 0)
    await till.tells(refunded("o1", "r1", of(1, back_fen)))
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2")] == [0, 1000]
    explained = await till.commissions.explain((await till.only("o1")).commission_id)
    assert any("less than the program asks" in one for one in explained.because)


async def test_a_fixed_sum_follows_the_share_that_was_kept(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000), min_order_fen=5_000)
    await till.bind("bob", "ann")
    await till.tells(paid("o1"))
    for number, (back_fen, worth_fen) in enumerate([(1, 999), (1_999, 800), (3_000, 500)]):
        await till.tells(refunded("o1", f"r{number}", of(0, back_fen)))
        assert (await till.only("o1")).amount_fen == worth_fen
    (_, one), *_ = [
        (step.why, step)
        for step in (await till.commissions.explain((await till.only("o1")).commission_id)).movements[1:]
    ]
    assert one.why == "refunded"


async def test_an_earlier_order_told_later_is_the_first_after_all(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000))
    await till.bind("bob", "ann")
    await till.tells(paid("o2", minutes=3), received("o2"))
    await till.settle()
    assert await till.fen() == (0, 1000, 0, 0, 0)
    await till.tells(paid("o1", minutes=2))
    assert await till.fen() == (1000, 0, 0, 0, 0)
    await till.tells(refunded("o1", "r1", of(4, 10_000)))
    assert await till.fen() == (0, 1000, 0, 0, 0)


async def test_who_had_bought_before_has_no_first_order(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000))
    await till.bind("bob", "ann", is_new=False)
    await till.tells(paid())
    assert [one.amount_fen for one in await till.of_order()] == [0]


async def test_small_orders_are_no_first_orders(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000), min_order_fen=5_000)
    await till.bind("bob", "ann")
    await till.tells(paid("o1", line(amount_fen=4_999)), paid("o2", line(amount_fen=5_000), minutes=3))
    assert await till.of_order("o1") == []
    assert (await till.only("o2")).amount_fen == 1000


async def test_a_cap_leaves_to_each_order_what_was_not_granted_before(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=1500))
    for user_id in ("bob", "cat", "dan"):
        await till.bind(user_id, "ann")
    await till.tells(paid("o1"), paid("o2", user_id="cat"), paid("o3", user_id="dan"))
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2", "o3")] == [1000, 500, 0]
    await till.tells(refunded("o2", "r1", of(1, 6_000)))
    assert (await till.only("o2")).amount_fen == 400
    await till.tells(paid("o4", minutes=60 * 24))
    assert await till.fen() == (2400, 0, 0, 0, 0)


# --- caps count what stands -------------------------------------------------------------------------------------------


async def counted(till: Till) -> int:
    """What the day of the cap says was earned."""
    fen: int = await till.database.fetchval("SELECT coalesce(sum(fen), 0)::bigint FROM referral.commission_days")
    return fen


async def test_what_was_paid_back_leaves_room_under_the_cap_of_the_day(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=1000))
    for user_id in ("bob", "cat"):
        await till.bind(user_id, "ann")
    await till.tells(paid("o1"), refunded("o1", "r1", of(4, 10_000)), paid("o2", user_id="cat"))
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2")] == [0, 1000]
    assert await counted(till) == 1000


async def test_room_that_several_refunds_of_one_payer_make_is_there_for_who_is_told_behind_them(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=1500))
    for user_id in ("bob", "cat"):
        await till.bind(user_id, "ann")
    await till.tells(paid("o1"), paid("o2", line(amount_fen=5_000)))
    back = [refunded("o1", "r1", of(4, 10_000)), refunded("o2", "r2", of(4, 5_000))]
    await till.tells(*back, paid("o3", line(amount_fen=15_000), user_id="cat"))
    assert (await till.only("o3")).amount_fen == 1500


async def test_what_a_full_day_left_too_little_for_takes_the_room_when_more_is_heard_of_its_order(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=1000))
    for user_id in ("bob", "cat"):
        await till.bind(user_id, "ann")
    await till.tells(paid("o1"), paid("o2", user_id="cat"), refunded("o1", "r1", of(2, 5_000)))
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2")] == [500, 0]
    await till.tells(received("o2"))
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2")] == [500, 500]
    assert await counted(till) == 1000


async def test_what_an_operator_voids_leaves_room_under_the_cap_of_the_day(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=1000))
    for user_id in ("bob", "cat"):
        await till.bind(user_id, "ann")
    await till.tells(paid("o1"))
    await till.commissions.void(an_act(), (await till.only("o1")).commission_id, "fake_orders")
    assert await counted(till) == 0
    await till.tells(paid("o2", user_id="cat"), received("o1"))
    assert (await till.only("o2")).amount_fen == 1000
    assert await counted(till) == 1000


async def test_a_day_that_was_pruned_gives_nobody_more(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=1000))
    for user_id in ("bob", "cat"):
        await till.bind(user_id, "ann")
    await till.tells(paid("o1"), paid("o2", user_id="cat"))
    await till.keeper.forget_days(till.turn(NOON + timedelta(days=62)))
    await till.tells(received("o2"))
    assert [(await till.only(order)).amount_fen for order in ("o1", "o2")] == [1000, 0]


async def test_a_payment_told_twice_earns_once(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    for number in range(3):
        (result,) = await till.tells(paid() | {"id": f"again-{number}"})
        assert result.lines == ()
    assert await till.fen() == (1000, 0, 0, 0, 0)


async def test_what_is_far_past_the_relation_is_not_looked_for(till: Till) -> None:
    await till.program(from_at=LONG_AGO)
    await till.bind("bob", "ann", at=NOON + timedelta(hours=2))
    await till.tells(paid())
    assert await till.of_order() == []
