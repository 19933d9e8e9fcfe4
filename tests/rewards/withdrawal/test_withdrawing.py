"""From the wish to the money: one withdrawal at a time, within limits, and never more than there is."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from growth.mechanics.referral.model import WithdrawalTerms
from growth.plumbing.watch.audit import Act
from growth.rewards.withdrawal.model import Payee, WithdrawalRules, show
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.refusals import Refusal
from tests.mechanics.referral.commission.money import Till, an_act, refunded
from tests.shop.order.telling import NOON, of

pytestmark = pytest.mark.anyio

CROWD = 64


async def refused(till: Till, fen: int = 1000, user_id: str = "ann") -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await till.asks(fen, user_id)
    return refusal.value


async def test_what_is_asked_for_is_set_aside_and_leaves_when_it_is_paid(till: Till) -> None:
    await till.earned(5_000)
    withdrawal_id = await till.asks(2_000)
    assert await till.fen() == (0, 3_000, 2_000, 0, 0)
    await till.desk.approve(an_act(), withdrawal_id)
    assert await till.fen() == (0, 3_000, 2_000, 0, 0)
    assert await till.sends() == 1
    assert await till.state(withdrawal_id) == "paid"
    assert await till.fen() == (0, 3_000, 0, 2_000, 0)
    assert await till.payouts() == {withdrawal_id: (2_000, "paid", 1)}
    assert await till.events("withdrawal.") == [
        ("withdrawal.requested", 2_000),
        ("withdrawal.approved", 2_000),
        ("withdrawal.paid", 2_000),
    ]


async def test_8_times_100_from_100_is_one_withdrawal(till: Till) -> None:
    """Seen in lilishop: 8 × 100 withdrawn from 100. Here 64 at once."""  # noqa: RUF002
    await till.desk.change_rules(an_act(), 1, WithdrawalRules(min_fen=100))
    await till.earned(100)
    results = await asyncio.gather(*[till.asks(100) for _ in range(CROWD)], return_exceptions=True)
    codes = Counter(one.kind.code if isinstance(one, Refusal) else "won" for one in results)
    assert codes["won"] == 1
    assert set(codes) <= {"won", "withdrawal.one_open", "withdrawal.insufficient"}
    assert await till.fen() == (0, 0, 100, 0, 0)
    assert await till.database.fetchval("SELECT count(*) FROM withdrawal.withdrawals") == 1


async def test_without_the_rule_of_one_open_the_ledger_still_gives_no_more_than_there_is(till: Till) -> None:
    await till.desk.change_rules(an_act(), 1, WithdrawalRules(min_fen=100, max_per_day=1_000))
    await till.earned(300)
    slots = "UPDATE withdrawal.withdrawals SET slot = withdrawal_id::text"
    for _ in range(3):
        await till.asks(100)
        await till.database.fetchval(slots)
    results = await asyncio.gather(*[till.asks(100) for _ in range(CROWD)], return_exceptions=True)
    assert {one.kind.code for one in results if isinstance(one, Refusal)} == {"withdrawal.insufficient"}
    assert len(results) == sum(isinstance(one, Refusal) for one in results)
    assert await till.fen() == (0, 0, 300, 0, 0)
    await till.database.fetchval("UPDATE withdrawal.withdrawals SET slot = user_id || withdrawal_id::text")


async def test_the_same_key_is_the_same_withdrawal(till: Till) -> None:
    await till.earned(5_000)
    first = await till.withdrawals.request("ann", 2_000, "key", NOON)
    again = await till.withdrawals.request("ann", 2_000, "key", NOON)
    assert (again.answer, again.replayed) == (first.answer, True)
    with pytest.raises(Refusal, match=r"idempotency\.other_content"):
        await till.withdrawals.request("ann", 2_001, "key", NOON)
    assert await till.fen() == (0, 3_000, 2_000, 0, 0)


async def test_each_no_has_its_own_word_and_takes_nothing(till: Till) -> None:
    await till.earned(5_000)
    below = await refused(till, 999)
    assert (below.kind.code, below.members) == ("withdrawal.below_minimum", {"min_fen": 1_000})
    too_much = await refused(till, 5_001)
    assert (too_much.kind.code, too_much.members) == ("withdrawal.insufficient", {"available_fen": 5_000})
    nobody = await refused(till, 1_000, "nobody")
    assert nobody.kind.code == "withdrawal.insufficient"
    withdrawal_id = await till.asks(1_000)
    is_open = await refused(till)
    assert (is_open.kind.code, is_open.members) == ("withdrawal.one_open", {"withdrawal_id": withdrawal_id})
    await till.withdrawals.cancel(withdrawal_id, "ann", NOON)
    assert await till.fen() == (0, 5_000, 0, 0, 0)


async def test_a_day_has_limits_in_number_and_in_money(till: Till) -> None:
    await till.earned(50_000)
    await till.desk.change_rules(an_act(), 1, WithdrawalRules(max_per_day=3, max_fen_per_day=10_000))
    assert (await refused(till, 10_001)).kind.code == "withdrawal.day_limit"
    for fen in (6_000, 4_000, 1_000):
        withdrawal_id = await till.asks(fen)
        await till.withdrawals.cancel(withdrawal_id, "ann", NOON)
    assert (await refused(till, 1_000)).kind.code == "withdrawal.day_limit"
    # Eight hours past noon in UTC it is the next day in Shanghai.
    await till.asks(1_000, now=NOON + timedelta(hours=4))


async def test_limits_count_what_was_not_given_back(till: Till) -> None:
    await till.earned(50_000)
    await till.desk.change_rules(an_act(), 1, WithdrawalRules(max_per_day=9, max_fen_per_day=10_000))
    paid = await till.approved(6_000)
    await till.sends()
    assert await till.state(paid) == "paid"
    assert (await refused(till, 4_001)).kind.code == "withdrawal.day_limit"
    await till.asks(4_000)


async def test_rules_are_changed_under_their_version(till: Till) -> None:
    assert await till.desk.rules() == (1, WithdrawalRules())
    assert await till.desk.change_rules(an_act(), 1, WithdrawalRules(max_per_day=1)) == 2
    with pytest.raises(Refusal, match="version_mismatch"):
        await till.desk.change_rules(an_act(), 1, WithdrawalRules())
    assert (await till.desk.rules())[1].max_per_day == 1


async def test_a_fee_that_leaves_nothing_is_refused_by_name(till: Till) -> None:
    with pytest.raises(Refusal) as refusal:
        await till.desk.change_rules(an_act(), 1, WithdrawalRules(min_fen=100, fee_fen=100))
    assert refusal.value.detail == "fee_fen: Must be less than min_fen"


async def test_what_a_program_says_of_withdrawals_no_longer_counts(till: Till) -> None:
    await till.program(withdrawal=WithdrawalTerms(min_fen=4_000, fee_fen=500))
    await till.earned(5_000)
    withdrawal_id = await till.approved(1_000)
    await till.sends()
    assert await till.payouts() == {withdrawal_id: (1_000, "paid", 1)}


async def test_the_fee_is_the_house_s_and_the_shopper_gets_the_rest(till: Till) -> None:
    await till.desk.change_rules(an_act(), 1, WithdrawalRules(fee_fen=60))
    await till.earned(5_000)
    withdrawal_id = await till.approved(2_000)
    await till.sends()
    assert await till.payouts() == {withdrawal_id: (1_940, "paid", 1)}
    assert await till.fen() == (0, 3_000, 0, 2_000, 0)
    rows = await till.database.fetch(
        "SELECT owner, sum(posted)::bigint AS fen FROM ledger.house_moves GROUP BY owner ORDER BY owner"
    )
    assert {row["owner"]: row["fen"] for row in rows} == {
        "house/payout": 1_940,
        "house/referral": -5_000,
        "house/withdrawal_fee": 60,
    }


async def test_who_cancels_or_is_rejected_has_the_money_again_once(till: Till) -> None:
    await till.earned(5_000)
    cancelled = await till.asks(2_000)
    for _ in range(2):
        assert (await till.withdrawals.cancel(cancelled, "ann", NOON)).state == "cancelled"
    rejected = await till.approved(2_000)
    with pytest.raises(Refusal, match="wrong_state"):
        await till.withdrawals.cancel(rejected, "ann", NOON)
    await till.desk.reject(an_act(), rejected, "suspicious")
    for act in (till.desk.reject(an_act(), rejected, "suspicious"), till.desk.approve(an_act(), rejected)):
        with pytest.raises(Refusal, match="wrong_state"):
            await act
    assert await till.fen() == (0, 5_000, 0, 0, 0)
    assert await till.sends() == 0
    assert await till.payouts() == {}


async def test_a_withdrawal_is_its_shopper_s_alone(till: Till) -> None:
    await till.earned(5_000)
    withdrawal_id = await till.asks()
    for act in (till.withdrawals.find(withdrawal_id, "eve"), till.withdrawals.cancel(withdrawal_id, "eve", NOON)):
        with pytest.raises(Refusal, match=r"withdrawal\.not_found"):
            await act
    assert await till.state(withdrawal_id) == "requested"


async def test_what_is_taken_back_after_the_payout_is_owed_and_paid_off_by_what_comes(till: Till) -> None:
    await till.earned(5_000)
    await till.approved(5_000)
    await till.sends()
    await till.tells(refunded("o1", "r1", of(1, 20_000)))
    assert await till.fen() == (0, 0, 0, 5_000, 2_000)
    owed = await refused(till)
    assert (owed.kind.code, owed.members) == ("withdrawal.owed", {"owed_fen": 2_000})
    await till.earned(1_500, order_id="o2")
    assert await till.fen() == (0, 0, 0, 5_000, 500)
    await till.earned(1_500, order_id="o3")
    assert await till.fen() == (0, 1_000, 0, 5_000, 0)
    await till.asks(1_000)


async def test_what_is_taken_back_while_it_is_set_aside_stops_the_payout(till: Till) -> None:
    await till.earned(5_000)
    withdrawal_id = await till.asks(5_000)
    await till.tells(refunded("o1", "r1", of(1, 20_000)))
    assert await till.fen() == (0, 0, 5_000, 0, 2_000)
    with pytest.raises(Refusal, match=r"withdrawal\.owed"):
        await till.desk.approve(an_act(), withdrawal_id)
    await till.desk.reject(an_act(), withdrawal_id, "owed")
    assert await till.fen() == (0, 3_000, 0, 0, 0)
    late = await till.approved(3_000)
    await till.tells(refunded("o1", "r2", of(1, 10_000)))
    await till.sends()
    assert await till.state(late) == "rejected"
    assert (await till.desk.find(late)).reason == "owed"
    assert await till.payouts() == {}
    assert await till.fen() == (0, 2_000, 0, 0, 0)


async def test_the_account_is_the_one_named_when_it_was_asked_for(till: Till) -> None:
    await till.earned(5_000)
    first = Payee(kind="bank", account="6222000011112222", name="张三")
    await till.withdrawals.change_payee("ann", first, NOON)
    withdrawal_id = await till.asks()
    await till.withdrawals.change_payee("ann", Payee(kind="alipay", account="a@b.c", name="李四"), NOON)
    found = await till.desk.find(withdrawal_id)
    assert found.payee == first
    assert show(found, NOON).payee == "****2222"
    assert (await till.withdrawals.payee("ann")).account == "a@b.c"


async def test_every_act_of_an_operator_is_in_the_audit(till: Till) -> None:
    await till.earned(5_000)
    act = Act(Operator("olga", Role.ADMIN), NOON, "r-1")
    withdrawal_id = await till.asks()
    await till.desk.approve(act, withdrawal_id)
    await till.desk.reject(act, withdrawal_id, "payee_wrong")
    rows = await till.database.fetch("SELECT action, reason FROM plumbing.audit ORDER BY entry")
    assert [(row["action"], row["reason"]) for row in rows] == [
        ("withdrawal.approve", ""),
        ("withdrawal.reject", "payee_wrong"),
    ]
