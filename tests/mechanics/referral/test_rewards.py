"""What a first order earns, and what goes back with it: exact under redelivery, any order of arrival, and refunds."""

import asyncio
import itertools
import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.mechanics.referral import periodic
from growth.mechanics.referral.model import Caps
from growth.mechanics.referral.service import program_at
from growth.rewards.granting.model import Budget, Spent
from growth.rewards.granting.service import spent
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency, Transfer
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.rewards import GrowthReward, MakeUpCardReward, PointsReward
from tests.kit.examples import examples
from tests.kit.turn import turn_at
from tests.mechanics.referral.conftest import (
    PRICE_FEN,
    Room,
    a_draft,
    an_act,
    assemble,
    milestones,
    paid,
    received,
    refunded,
)

pytestmark = pytest.mark.anyio


async def test_nothing_is_earned_by_being_bound_or_by_paying(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    assert await room.totals("ann") == (1, 0, 0)
    await room.pays("bob", "o1")
    assert await room.totals("ann") == (0, 1, 0)
    assert (await room.points("ann"), await room.points("bob")) == (0, 0)
    await room.receives("o1")
    assert await room.totals("ann") == (0, 0, 1)
    assert (await room.points("ann"), await room.points("bob")) == (10, 10)


async def test_a_second_order_earns_nothing(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")
    await room.buys("bob", "o2")
    assert (await room.points("ann"), await room.points("bob")) == (10, 10)
    assert await room.totals("ann") == (0, 0, 1)


async def test_whatever_is_told_again_counts_once(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    for number in range(3):
        told = [paid("bob", "o1"), received("o1")]
        await room.tells(*[event | {"id": f"{event['id']}:{number}"} for event in told])
    assert (await room.points("ann"), await room.totals("ann")) == (10, (0, 0, 1))
    assert len(await room.events("invitee_bought")) == len(await room.events("invitee_valid")) == 1


async def test_any_order_of_arrival_ends_alike(room: Room) -> None:
    await room.program()
    for number, order in enumerate(itertools.permutations(range(3))):
        bob, ann, name = f"bob{number}", f"ann{number}", f"o{number}"
        await room.binds(bob, ann)
        events = [paid(bob, name), received(name), refunded(name, PRICE_FEN // 2, units=0)]
        for place in order:
            await room.tells(events[place])
        # Half was kept, so half is given.
        assert (await room.points(ann), await room.points(bob), await room.totals(ann)) == (5, 5, (0, 0, 1))


async def test_returning_all_but_a_trifle_keeps_no_more_than_a_trifle_of_the_reward(room: Room) -> None:
    await room.program(min_order_fen=5_000)
    for bob, back_fen, points in (("b1", 4_000, 0), ("b2", 4_999, 0), ("b3", 0, 10)):
        await room.binds(bob, f"of-{bob}")
        await room.buys(bob, amount_fen=5_000)
        if back_fen:
            await room.refunds(f"o-{bob}", back_fen, units=0)
        assert (await room.points(bob), await room.points(f"of-{bob}")) == (points, points)
        assert await room.totals(f"of-{bob}") == ((0, 0, 1) if points else (1, 0, 0))


async def test_a_reward_follows_the_share_that_was_kept_refund_by_refund(room: Room) -> None:
    program = await room.program(
        inviter_rewards=[PointsReward(points=10), GrowthReward(growth=1), MakeUpCardReward(cards=1)],
        budget=Budget(max_value=1_000),
    )
    await room.binds("bob", "ann")
    await room.buys("bob", "o1", amount_fen=10_000)
    for number, (back_fen, points) in enumerate([(1, 9), (4_999, 5), (4_000, 1)], start=1):
        await room.refunds("o1", back_fen, units=0, number=number)
        assert (await room.points("ann"), await room.points("bob")) == (points, points)
    # A card cannot be parted; of one growth value nothing is left.
    held = await ledger.balances(room.database, "ann")
    assert {currency.value: one.posted for currency, one in held.items() if one.posted} == {
        "points": 1,
        "make_up_card": 1,
    }
    assert (await spent(room.database, [program.program_id], now()))[program.program_id].value == 3
    await room.refunds("o1", 1_000, units=1, number=4)
    assert (await room.points("ann"), await room.points("bob")) == (0, 0)
    assert (await spent(room.database, [program.program_id], now()))[program.program_id] == Spent(0, 0)


def stories() -> list[tuple[int, int, int, list[tuple[str, int]]]]:
    """Of orders: what was paid, what must be kept, what was, and what is told in which order."""
    found = []

    @examples(25)
    @given(
        st.integers(1, 20_000),
        st.integers(1, 12_000),
        st.lists(st.integers(1, 9_000), max_size=4),
        st.randoms(use_true_random=False),
    )
    def collect(paid_fen: int, least_fen: int, backs: list[int], chance: random.Random) -> None:
        left, told = paid_fen, [("paid", 0), ("received", 0)]
        for back in backs:
            if back <= left:
                left -= back
                told.append(("refunded", back))
        chance.shuffle(told)
        found.append((paid_fen, least_fen, left, told))

    collect()
    return found


async def test_whatever_is_heard_first_a_reward_is_the_share_that_was_kept(room: Room) -> None:
    for number, (paid_fen, least_fen, left, told) in enumerate(stories()):
        program = await room.program(min_order_fen=least_fen, inviter_rewards=[PointsReward(points=77)])
        bob, ann, order = f"bob{number}", f"ann{number}", f"o{number}"
        await room.binds(bob, ann)
        for place, (what, back) in enumerate(told):
            event = {
                "paid": paid(bob, order, amount_fen=paid_fen),
                "received": received(order),
                "refunded": refunded(order, back, units=0, number=place),
            }[what]
            await room.tells(event)
        expected = 77 * left // paid_fen if left >= least_fen else 0
        assert await room.points(ann) == expected, (paid_fen, least_fen, told)
        await room.programs.end(an_act(), program.program_id)


async def test_paid_back_whole_in_any_order_of_arrival_leaves_nothing(room: Room) -> None:
    await room.program(milestones=milestones(at_1=100))
    for number, order in enumerate(itertools.permutations(range(3))):
        bob, ann, name = f"bob{number}", f"ann{number}", f"o{number}"
        await room.binds(bob, ann)
        events = [paid(bob, name), received(name), refunded(name)]
        for place in order:
            await room.tells(events[place])
        assert (await room.points(ann), await room.points(bob)) == (0, 0)
        assert await room.totals(ann) == (1, 0, 0)


async def test_after_a_refund_the_next_order_is_the_first(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")
    await room.refunds("o1")
    assert (await room.points("ann"), await room.points("bob")) == (0, 0)
    assert len(await room.events("invitee_lost")) == 1
    await room.buys("bob", "o2")
    assert (await room.points("ann"), await room.totals("ann")) == (10, (0, 0, 1))


async def test_what_was_spent_is_owed_after_a_refund(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")

    taken = Transfer(
        transfer_id=new_id(now()), debit="ann", credit="house/shop", currency=Currency.POINTS, amount=8, reason="t.t"
    )
    async with room.database.transaction() as tx:
        await ledger.transfer(tx, [taken], now())
    await room.refunds("o1")
    assert await room.points("ann") == -8


async def test_only_lines_in_scope_and_only_enough_money_make_a_first_order(room: Room) -> None:
    await room.program(skus=["tea"], min_order_fen=5_000)
    await room.binds("bob", "ann")
    await room.buys("bob", "o1", sku="cup")
    await room.buys("bob", "o2", amount_fen=4_999)
    await room.buys("bob", "o3", amount_fen=0)
    assert await room.points("ann") == 0
    await room.buys("bob", "o4", amount_fen=5_000)
    assert await room.points("ann") == 10


async def test_an_order_paid_before_the_binding_makes_no_newcomer(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.tells(paid("bob", "early", at=now() - timedelta(hours=1)))
    await room.buys("bob", "o2")
    assert (await room.points("ann"), await room.totals("ann")) == (0, (1, 0, 0))


async def test_a_clock_of_the_shop_that_is_behind_costs_nobody_anything(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    async with room.database.transaction() as tx:
        await tx.execute("UPDATE referral.terms SET from_at = from_at - interval '1 hour'")
    await room.tells(paid("bob", "o1", at=now() - timedelta(seconds=50)), received("o1"))
    assert await room.points("ann") == 10


async def test_a_relation_that_is_over_earns_nothing(room: Room) -> None:
    await room.program(relation_days=30)
    await room.binds("bob", "ann")
    await room.later(31)
    await room.buys("bob", "o1")
    assert await room.points("ann") == 0


async def test_an_order_keeps_the_terms_it_was_paid_under(room: Room) -> None:
    program = await room.program()
    await room.binds("bob", "ann")
    await room.pays("bob", "o1")

    more = a_draft(inviter_rewards=[PointsReward(points=500)])
    await room.programs.change(an_act(), program.program_id, program.version, more, accept_warnings=True)
    await room.receives("o1")
    assert await room.points("ann") == 10
    await room.binds("cat", "ann")
    await room.buys("cat", "o2")
    assert await room.points("ann") == 510
    await room.programs.end(an_act(), program.program_id)
    await room.tells(paid("dan", "o3"), received("o3"))
    await room.refunds("o2")
    assert await room.points("ann") == 10


async def test_milestones_come_and_go_with_valid_invitees(room: Room) -> None:
    await room.program(inviter_rewards=[], invitee_rewards=[], milestones=milestones(at_3=100, at_5=1000))
    for number in range(5):
        await room.binds(f"u{number}", "ann")
        await room.buys(f"u{number}")
        assert await room.points("ann") == {3: 100, 4: 100, 5: 1100}.get(number + 1, 0)
    await room.refunds("o-u0")
    assert await room.points("ann") == 100
    await room.refunds("o-u1")
    await room.refunds("o-u2")
    assert await room.points("ann") == 0
    for number in range(3):
        await room.buys(f"u{number}", f"again-{number}")
    assert await room.points("ann") == 1100
    reached = [event["invitees"] for event in await room.events("milestone_reached")]
    lost = [event["invitees"] for event in await room.events("milestone_lost")]
    assert (reached, lost) == ([3, 5, 3, 5], [5, 3])
    page = await room.standings.page("ann", now())
    assert [(one.invitees, one.is_reached, one.missing) for one in page.milestones] == [(3, True, 0), (5, True, 0)]


async def test_a_milestone_is_reached_once_by_a_crowd(room: Room) -> None:
    await room.program(inviter_rewards=[], invitee_rewards=[], milestones=milestones(at_3=100, at_10=1000))
    people = [f"u{number}" for number in range(24)]
    for user in people:
        await room.binds(user, "ann")
    other = assemble(room.database)
    for user in people:
        await room.pays(user, f"o-{user}")
    await asyncio.gather(*[(room if number % 2 else other).receives(f"o-{user}") for number, user in enumerate(people)])
    assert await room.points("ann") == 1100
    await asyncio.gather(*[(room if number % 2 else other).refunds(f"o-{user}") for number, user in enumerate(people)])
    assert (await room.points("ann"), await room.totals("ann")) == (0, (24, 0, 0))


@pytest.mark.one_day
async def test_caps_hold_for_a_day_and_in_all_and_the_invitee_loses_nothing(room: Room) -> None:
    await room.program(caps=Caps(invitees_per_day=2, invitees=3))
    for number in range(4):
        await room.binds(f"u{number}", "ann")
        await room.buys(f"u{number}")
    assert (await room.points("ann"), await room.totals("ann")) == (20, (0, 0, 4))
    assert [await room.points(f"u{number}") for number in range(4)] == [10] * 4
    # What came back leaves room for the next.
    await room.refunds("o-u0")
    await room.binds("u4", "ann")
    await room.buys("u4")
    assert await room.points("ann") == 20
    await room.binds("u5", "ann")
    await room.pays("u5", "o-u5")
    tomorrow = now() + timedelta(days=1)
    await room.tells(received("o-u5", tomorrow))
    await room.binds("u6", "ann")
    await room.pays("u6", "o-u6")
    await room.tells(received("o-u6", tomorrow))
    assert await room.points("ann") == 30


@pytest.mark.one_day
async def test_a_cap_is_never_passed_by_a_crowd(room: Room) -> None:
    await room.program(caps=Caps(invitees_per_day=5))
    people = [f"u{number}" for number in range(20)]
    for user in people:
        await room.binds(user, "ann")
        await room.pays(user, f"o-{user}")
    other = assemble(room.database)
    await asyncio.gather(*[(room if number % 2 else other).receives(f"o-{user}") for number, user in enumerate(people)])
    assert await room.points("ann") == 50


async def test_a_spent_budget_gives_nothing_more(room: Room) -> None:
    await room.program(budget=Budget(max_value=25))
    for number in range(2):
        await room.binds(f"u{number}", "ann")
        await room.buys(f"u{number}")
    given = await room.points("ann") + sum([await room.points(f"u{number}") for number in range(2)])
    assert given == 20


async def test_two_orders_paid_at_once_give_one_first_order(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    other = assemble(room.database)
    await asyncio.gather(*[(room if number % 2 else other).buys("bob", f"o{number}") for number in range(12)])
    assert (await room.points("ann"), await room.totals("ann")) == (10, (0, 0, 1))


async def test_a_closed_program_ends_and_earns_no_more(room: Room) -> None:

    closes_at = now() + timedelta(days=1)
    program = await room.program(closes_at=closes_at)
    assert await program_at(room.database, closes_at - timedelta(seconds=1)) is not None
    assert await program_at(room.database, closes_at) is None
    turn = turn_at(room.database, closes_at + timedelta(seconds=1))
    assert await periodic.end_closed_programs(turn) == 1
    assert await periodic.end_closed_programs(turn) == 0
    assert (await room.programs.find(program.program_id)).state == "ended"
    assert await program_at(room.database, closes_at - timedelta(seconds=1)) is not None


@pytest.mark.one_day
async def test_days_long_past_are_forgotten_and_refunds_still_count(room: Room) -> None:

    await room.program(caps=Caps(invitees_per_day=5))
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")
    turn = turn_at(room.database, now() + timedelta(days=70))
    assert await periodic.forget_old_days(turn) == 1
    await room.refunds("o1")
    assert await room.points("ann") == 0
