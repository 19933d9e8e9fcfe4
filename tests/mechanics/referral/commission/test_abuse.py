"""What people do to commissions: each is named after what must not happen, and goes through the doors they have."""

import asyncio
from collections import Counter
from itertools import permutations

import pytest

from growth.mechanics.referral.model import FixedRule, PercentRule
from growth.rewards.withdrawal.model import WithdrawalRules
from growth.vocabulary.money import MAX_FEN
from growth.vocabulary.refusals import Refusal
from tests.mechanics.referral.commission.money import LONG_AGO, Till, an_act, line, paid, received, refunded
from tests.shop.order import telling
from tests.shop.order.telling import of

pytestmark = pytest.mark.anyio


async def test_a_commission_is_not_kept_after_the_refund(till: Till) -> None:
    """Seen in opencart: the commission stayed after the order was paid back."""
    await till.program()
    await till.bind("bob", "ann")
    await till.tells(paid(), received())
    await till.settle()
    await till.tells(refunded("o1", "r1", of(4, 10_000)))
    assert await till.fen() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("steps", [1, 3, 7, 99])
async def test_small_refunds_never_leave_a_fen_behind_nor_take_one_too_many(till: Till, steps: int) -> None:
    """Seen in CRMEB, which cuts at zero what ought to be owed, and in ruoyi, which goes below it."""
    await till.program(level_1=PercentRule(basis_points=777))
    await till.bind("bob", "ann")
    await till.tells(paid("o1", line(amount_fen=9_999, units=1)), received())
    await till.settle()
    left = 9_999
    for step in range(steps):
        fen = left if step == steps - 1 else left // (steps - step)
        await till.tells(refunded("o1", f"r{step}", of(0, fen)))
        left -= fen
        assert (await till.fen())[1] == left * 777 // 10_000
    assert await till.fen() == (0, 0, 0, 0, 0)


async def test_money_paid_out_for_an_order_that_is_paid_back_is_not_forgotten(till: Till) -> None:
    await till.earned(5_000)
    await till.approved(5_000)
    await till.sends()
    await till.tells(refunded("o1", "r1", of(4, 50_000)))
    assert await till.fen() == (0, 0, 0, 5_000, 5_000)
    # Nobody gets rid of what is owed by asking again and again, nor by a second withdrawal at the same time.
    results = await asyncio.gather(*[till.asks(1_000) for _ in range(64)], return_exceptions=True)
    assert {one.kind.code for one in results if isinstance(one, Refusal)} == {"withdrawal.owed"}
    assert len(results) == sum(isinstance(one, Refusal) for one in results)


async def test_buying_receiving_withdrawing_and_returning_in_any_order_wins_nothing(till: Till) -> None:
    await till.program()
    await till.desk.change_rules(an_act(), 1, WithdrawalRules(min_fen=1))
    moves = ("receive", "settle", "withdraw", "return")
    for number, order in enumerate(permutations(moves)):
        cheat, order_id = f"cheat{number}", f"o{number}"
        await till.bind(f"friend{number}", cheat)
        await till.tells(paid(order_id, user_id=f"friend{number}"))
        for move in order:
            if move == "receive":
                await till.tells(received(order_id))
            elif move == "settle":
                await till.settle()
            elif move == "withdraw":
                available = (await till.money(cheat)).available_fen
                if available:
                    await till.approved(available, cheat)
                    await till.sends()
            else:
                await till.tells(refunded(order_id, "r1", of(4, 10_000)))
        await till.settle()
        money = await till.money(cheat)
        assert (money.pending_fen, money.available_fen, money.withdrawing_fen) == (0, 0, 0)
        # What was taken out is owed, to the fen.
        assert money.withdrawn_fen == money.owed_fen


async def test_replayed_and_reordered_hooks_earn_once(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    told = [paid(), received(), refunded("o1", "r1", of(1, 2_500))]
    await asyncio.gather(*[till.tells(event) for event in told * 21])
    assert await till.fen() == (750, 0, 0, 0, 0)
    # The same refund under another event id, and the same order by another event: known already.
    for event in told:
        (result,) = await till.tells(event | {"id": "new-" + event["id"]})
        assert result.outcome == "ignored"
    assert await till.fen() == (750, 0, 0, 0, 0)


async def test_an_order_that_changes_its_payer_or_its_lines_earns_nobody_anything_more(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    await till.bind("cat", "eve")
    await till.tells(paid())
    for other in (paid(user_id="cat"), paid("o1", line(amount_fen=999_999))):
        (result,) = await telling.tell(till.shop, other)
        assert result.outcome == "rejected"
    assert (await till.fen("ann"), await till.fen("eve")) == ((1000, 0, 0, 0, 0), (0, 0, 0, 0, 0))


async def test_a_refund_of_more_than_was_paid_takes_no_more_than_was_earned(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    await till.tells(paid())
    (result,) = await telling.tell(till.shop, refunded("o1", "r1", of(4, 10_001)))
    assert (result.outcome, result.lines[0].code) == ("applied", "shop.refund_clipped")
    assert await till.fen() == (0, 0, 0, 0, 0)
    # Told before the payment it counts as far as the order goes, and no otherwise.
    await telling.tell(till.shop, refunded("o2", "r1", of(9, 99_999)))
    await telling.tell(till.shop, paid("o2"))
    assert await till.fen() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("is_refunded_first", [False, True])
async def test_freight_in_a_refund_keeps_no_commission_in_either_order(till: Till, *, is_refunded_first: bool) -> None:
    await till.program()
    await till.bind("bob", "ann")
    order = paid("o1", line("1", 10_000, 1))
    order["data"]["paid_fen"] = 10_500
    hooks = [order, refunded("o1", "r1", of(1, 10_500))]
    await till.tells(*(hooks[::-1] if is_refunded_first else hooks), received("o1"))
    assert await till.fen() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(("paid_fen", "earned"), [(0, 0), (1, 0), (6_000, 600), (10_000, 1_000), (12_000, 1_000)])
async def test_what_a_balance_paid_earns_nothing(till: Till, paid_fen: int, earned: int) -> None:
    await till.program()
    await till.bind("bob", "ann")
    order = paid("o1", line("1", 4_000, 1), line("2", 6_000, 1))
    order["data"]["paid_fen"] = paid_fen
    await till.tells(order)
    assert (await till.fen())[0] == earned
    await till.tells(refunded("o1", "r1", of(1, 4_000, "1")), refunded("o1", "r2", of(0, 6_000, "2")))
    assert await till.fen() == (0, 0, 0, 0, 0)


async def test_an_order_of_nothing_earns_no_sum_for_a_first_order_and_takes_it_from_none(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000))
    await till.bind("bob", "ann")
    nothing = paid("o1", line("1", 10_000, 1))
    nothing["data"]["paid_fen"] = 0
    await till.tells(nothing, received("o1"))
    assert await till.fen() == (0, 0, 0, 0, 0)
    await till.tells(paid("o2"))
    assert (await till.fen())[0] == 1000


async def test_nobody_earns_by_an_order_of_their_own(till: Till) -> None:
    await till.program(level_1=PercentRule(basis_points=1000), level_2=PercentRule(basis_points=1000))
    await till.bind("bob", "ann")
    # A ring, which binding refuses; should one ever be there, nobody in it earns by themselves.
    await till.bind("ann", "bob")
    await till.tells(paid("o1", user_id="ann"), paid("o2", user_id="bob"))
    assert [(one.inviter_id, one.invitee_id) for one in await till.of_order("o1")] == [("bob", "ann")]
    assert [(one.inviter_id, one.invitee_id) for one in await till.of_order("o2")] == [("ann", "bob")]
    await till.database.fetchval("DELETE FROM referral.relations WHERE invitee_id = 'ann'")
    await till.database.fetchval("DELETE FROM referral.inviters WHERE user_id = 'bob'")


async def test_many_accounts_of_one_device_are_looked_at_before_they_earn(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000))
    for number in range(10):
        await till.bind(f"sock{number}", "ann", at=LONG_AGO)
        await till.tells(
            telling.registered(f"sock{number}", device_id="one phone"), paid(f"o{number}", user_id=f"sock{number}")
        )
        await till.tells(received(f"o{number}"))
    await till.judge()
    await till.settle()
    assert await till.fen() == (10_000, 0, 0, 0, 0)
    assert {(await till.only(f"o{number}")).state for number in range(10)} == {"review"}


async def test_splitting_one_order_into_many_wins_no_fen(till: Till) -> None:
    await till.program(level_1=PercentRule(basis_points=999))
    await till.bind("bob", "ann")
    await till.bind("cat", "eve")
    await till.tells(paid("whole", line(amount_fen=10_000)))
    pieces = [paid(f"piece{number}", line(amount_fen=1_000), user_id="cat") for number in range(10)]
    await till.tells(*pieces)
    assert (await till.fen("eve"))[0] <= (await till.fen("ann"))[0]


async def test_the_largest_order_there_can_be_is_counted_exactly(till: Till) -> None:
    await till.program(level_1=PercentRule(basis_points=5_000))
    await till.bind("bob", "ann")
    lines = [line(str(number), MAX_FEN) for number in range(100)]
    data = paid("o1", *lines)
    data["data"]["paid_fen"] = MAX_FEN
    await till.tells(data)
    # Of what was paid in all, which the lines cannot exceed.
    assert (await till.fen())[0] == MAX_FEN // 2


async def test_asking_for_money_again_and_again_takes_it_once(till: Till) -> None:
    """Seen in fuint and lilishop: what was checked first and taken later was taken many times."""
    await till.earned(10_000)
    for _ in range(3):
        results = await asyncio.gather(*[till.asks(1_000) for _ in range(64)], return_exceptions=True)
        codes = Counter(one.kind.code if isinstance(one, Refusal) else "won" for one in results)
        assert codes["won"] == 1
        open_id = next(one for one in results if isinstance(one, str))
        cancels = [till.withdrawals.cancel(open_id, "ann", telling.NOON) for _ in range(64)]
        await asyncio.gather(*cancels)
    assert await till.fen() == (0, 10_000, 0, 0, 0)
