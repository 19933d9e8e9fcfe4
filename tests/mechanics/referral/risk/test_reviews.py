"""Commissions that a person looks at: found in time, held until decided, decided once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.referral.commission.periodic import JUDGE_BATCH
from growth.mechanics.referral.review import service
from growth.mechanics.referral.review.model import Pair, ReviewRules
from growth.mechanics.referral.review.service import Reviews
from growth.rewards.withdrawal.model import Payee
from growth.vocabulary.refusals import Refusal
from tests.mechanics.referral.commission.money import LONG_AGO, Till, an_act, line, paid, received, refunded
from tests.shop.order import telling
from tests.shop.order.telling import NOON, of

pytestmark = pytest.mark.anyio


async def self_dealing(till: Till, order_id: str = "o1", user_id: str = "bob") -> None:
    """Ann's second account buys from her own device; the order is received."""
    await till.bind(user_id, "ann")
    await till.tells(
        telling.registered("ann", device_id="phone", address="1.1.1.1"),
        telling.registered(user_id, device_id="phone", address="2.2.2.2"),
    )
    await till.tells(paid(order_id, user_id=user_id), received(order_id))


async def test_an_own_order_by_a_second_account_waits_for_a_person(till: Till) -> None:
    await till.program()
    await self_dealing(till)
    assert await till.judge() == 1
    one = await till.only()
    assert (one.state, one.review_reasons) == ("review", ["same_device"])
    assert await till.settle() == 0
    assert await till.fen() == (1000, 0, 0, 0, 0)
    assert await till.month() == 0
    assert await till.commissions.in_review() != []
    assert await till.judge() == 0


async def test_what_becomes_known_later_is_found_before_the_money_is_available(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    await till.tells(paid(), received())
    await till.judge()
    assert (await till.only()).state == "pending"
    for user_id in ("ann", "bob"):
        await till.withdrawals.change_payee(user_id, Payee(kind="bank", account="6222", name="张三"), NOON)
    assert await till.settle() == 1
    one = await till.only()
    assert (one.state, one.review_reasons) == ("review", ["same_payee"])
    assert await till.fen() == (1000, 0, 0, 0, 0)


async def test_many_invitees_within_an_hour_are_looked_at_the_first_of_them_too(till: Till) -> None:
    await till.program()
    for number in range(25):
        await till.bind(f"u{number}", "ann", at=LONG_AGO + timedelta(minutes=number))
        await till.tells(paid(f"o{number}", user_id=f"u{number}"))
    await till.bind("late", "ann", at=LONG_AGO + timedelta(days=3))
    await till.tells(paid("late", user_id="late"))
    await till.judge()
    states = [(await till.only(f"o{number}")).state for number in range(25)]
    assert states == ["review"] * 25
    assert (await till.only("late")).state == "pending"


async def test_released_it_goes_on_and_is_not_looked_at_again(till: Till) -> None:
    await till.program()
    await self_dealing(till)
    await till.judge()
    one = await till.only()
    released = await till.commissions.release(an_act(), one.commission_id, "household")
    assert (released.state, released.decision, released.is_cleared) == ("pending", "household", True)
    assert await till.month() == 1000
    assert await till.judge() == 0
    assert await till.settle() == 1
    assert await till.fen() == (0, 1000, 0, 0, 0)


@pytest.mark.parametrize("state", ["pending", "review", "available", "paid out"])
async def test_voided_it_is_worth_nothing_for_good(till: Till, state: str) -> None:
    await till.program()
    await self_dealing(till)
    if state == "review":
        await till.judge()
    elif state != "pending":
        await Reviews(till.database).change(an_act(), 1, ReviewRules(same_device=False))
        await till.settle()
        if state == "paid out":
            await till.approved(1_000)
            await till.sends()
    one = await till.only()
    voided = await till.commissions.void(an_act(), one.commission_id, "self_dealing")
    assert (voided.state, voided.amount_fen, voided.decision) == ("void", 0, "self_dealing")
    assert await till.fen() == ((0, 0, 0, 1000, 1000) if state == "paid out" else (0, 0, 0, 0, 0))
    assert await till.month() == 0
    await till.tells(refunded("o1", "r1", of(1, 2_500)))
    assert (await till.only()).amount_fen == 0
    assert await till.settle() == 0
    with pytest.raises(Refusal, match=r"commission\.wrong_state"):
        await till.commissions.void(an_act(), one.commission_id, "self_dealing")


async def test_64_who_decide_at_once_decide_once(till: Till) -> None:
    await till.program()
    await self_dealing(till)
    await till.judge()
    one = await till.only()
    acts: list[Any] = [till.commissions.void(an_act(), one.commission_id, "fake_orders") for _ in range(32)]
    acts += [till.commissions.release(an_act(), one.commission_id, "checked") for _ in range(32)]
    results = await asyncio.gather(*acts, return_exceptions=True)
    voided = [result for result in results if not isinstance(result, Refusal) and result.state == "void"]  # type: ignore[union-attr]
    released = [result for result in results if not isinstance(result, Refusal) and result.state == "pending"]  # type: ignore[union-attr]
    assert len(voided) == 1
    assert len(released) <= 1
    assert await till.fen() == (0, 0, 0, 0, 0)
    rows = await till.database.fetch("SELECT action FROM plumbing.audit")
    assert len(rows) == len(voided) + len(released)


async def test_a_refund_in_review_takes_its_share(till: Till) -> None:
    await till.program()
    await self_dealing(till)
    await till.judge()
    await till.tells(refunded("o1", "r1", of(1, 2_500)))
    one = await till.only()
    assert (one.state, one.amount_fen) == ("review", 750)
    assert await till.fen() == (750, 0, 0, 0, 0)
    await till.commissions.release(an_act(), one.commission_id, "checked")
    assert await till.month() == 750


async def test_many_are_judged_in_bounded_batches(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    await till.program()
    await till.bind("bob", "ann")
    await till.tells(*[paid(f"o{number}", line(amount_fen=100)) for number in range(7)])
    monkeypatch.setattr("growth.mechanics.referral.commission.periodic.JUDGE_BATCH", 3)
    assert [await till.judge() for _ in range(4)] == [3, 3, 1, 0]
    assert JUDGE_BATCH > 3


async def test_judging_takes_as_many_statements_for_many_as_for_one(till: Till) -> None:
    await till.program()
    for number in range(5):
        await till.bind(f"u{number}", f"a{number}")
        await till.tells(paid(f"o{number}", user_id=f"u{number}"))
    pairs = [
        Pair(one.commission_id, one.inviter_id, one.invitee_id, one.relation_id)
        for number in range(5)
        for one in await till.of_order(f"o{number}")
    ]
    counted = []
    for some in (pairs[:1], pairs):
        async with till.database.transaction() as tx:
            fetches = 0
            real = tx.fetch

            async def counting(*args: Any, real: Any = real) -> Any:
                nonlocal fetches
                fetches += 1
                return await real(*args)

            tx.fetch = counting  # type: ignore[assignment]
            assert await service.judge(tx, some) == {}
            counted.append(fetches)
    assert counted[0] == counted[1]


async def test_rules_are_changed_under_their_version_and_in_the_audit(till: Till) -> None:
    reviews = Reviews(till.database)
    assert await reviews.rules() == (1, ReviewRules())
    assert await reviews.change(an_act(), 1, ReviewRules(same_address=False)) == 2
    with pytest.raises(Refusal, match="version_mismatch"):
        await reviews.change(an_act(), 1, ReviewRules())
    assert not (await reviews.rules())[1].same_address
