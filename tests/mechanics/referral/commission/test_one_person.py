"""Two ids of one person, and shoppers who are erased: nothing lost, nothing doubled, nothing earned by oneself."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.referral import person as referral
from growth.mechanics.referral.commission import person as shopper
from growth.mechanics.referral.commission.settlement import CommissionSettlement
from growth.mechanics.referral.model import FixedRule, PercentRule
from growth.plumbing.postgres.database import Tx
from growth.rewards.ledger import person as ledger
from growth.rewards.withdrawal import person as withdrawals
from growth.rewards.withdrawal.model import Payee
from growth.rewards.withdrawal.payout.model import SandboxScript
from growth.vocabulary.refusals import Refusal
from tests.mechanics.referral.commission.money import ZONE, Till, paid, received, refunded
from tests.shop.order.telling import NOON, of

pytestmark = pytest.mark.anyio

ROOMS: list[Any] = [referral, shopper, withdrawals, ledger]


async def merge(till: Till, old: str, new: str) -> None:
    async with till.database.transaction() as tx:
        await merge_in(tx, old, new)


async def merge_in(tx: Tx, old: str, new: str) -> None:
    for room in ROOMS:
        await room.merge(tx, old, new, NOON)
    await CommissionSettlement(ZONE).settle_united(tx, new, NOON)


async def erase(till: Till, user_id: str) -> None:
    async with till.database.transaction() as tx:
        for room in ROOMS:
            await room.erase(tx, user_id, "erased:1")


async def test_what_both_earned_is_one_persons(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    await till.bind("cat", "ann2")
    await till.tells(paid("o1"), received("o1"), paid("o2", user_id="cat"))
    await till.settle()
    for _ in range(2):
        await merge(till, "ann2", "ann")
        assert await till.fen("ann2") == (0, 0, 0, 0, 0)
        assert await till.fen() == (1000, 1000, 0, 0, 0)
        assert await till.month() == 2000
    await till.tells(received("o2"), refunded("o2", "r1", of(1, 5_000)))
    await till.settle()
    assert await till.fen() == (0, 1500, 0, 0, 0)


@pytest.mark.parametrize("is_reviewed", [False, True])
async def test_who_turns_out_to_have_invited_himself_keeps_nothing_of_it(till: Till, *, is_reviewed: bool) -> None:
    await till.program()
    await till.bind("ann2", "ann")
    await till.tells(paid("o1", user_id="ann2"), received("o1"))
    if is_reviewed:
        async with till.database.transaction() as tx:
            await tx.execute("UPDATE referral.commissions SET state = 'review'")
            await tx.execute("UPDATE referral.inviter_months SET money_fen = 0")
    for _ in range(2):
        await merge(till, "ann2", "ann")
        one = await till.only()
        assert (one.state, one.decision, one.inviter_id, one.invitee_id) == ("void", "self_dealing", "ann", "ann")
        assert await till.settle() == 0
        assert await till.fen() == (0, 0, 0, 0, 0)
        assert await till.month() == 0
    told = [name for name, _ in await till.events()]
    assert told.count("commission.voided") == 1
    assert "commission.under_review" not in told


async def test_what_was_available_before_a_merge_found_it_stays_for_an_operator(till: Till) -> None:
    await till.program()
    await till.bind("ann2", "ann")
    await till.tells(paid("o1", user_id="ann2"), received("o1"))
    await till.settle()
    await merge(till, "ann2", "ann")
    assert (await till.only()).state == "available"
    assert await till.fen() == (0, 1000, 0, 0, 0)


async def test_one_person_on_both_levels_of_an_order_is_looked_at(till: Till) -> None:
    await till.program(level_1=PercentRule(basis_points=1000), level_2=PercentRule(basis_points=200))
    await till.bind("ann2", "ann")
    await till.bind("bob", "ann2")
    await till.tells(paid())
    await merge(till, "ann2", "ann")
    first, second = await till.of_order()
    assert (first.state, second.state, second.review_reasons) == ("pending", "review", ["same_person"])


@pytest.mark.parametrize(("old", "new"), [("bob", "bob2"), ("bob2", "bob")])
async def test_two_first_orders_of_one_person_are_one(till: Till, old: str, new: str) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000))
    await till.bind("bob", "ann")
    await till.bind("bob2", "ann")
    await till.tells(paid("o1", user_id="bob"), paid("o2", user_id="bob2", minutes=3), received("o2"))
    await till.settle()
    assert await till.fen() == (1000, 1000, 0, 0, 0)
    await merge(till, old, new)
    assert await till.fen() == (1000, 0, 0, 0, 0)
    assert (await till.only("o1")).amount_fen == 1000
    assert (await till.only("o2")).amount_fen == 0


async def test_of_two_withdrawals_of_one_person_one_stays_open(till: Till) -> None:
    await till.earned(5_000, "ann", "o1")
    await till.earned(3_000, "ann2", "o2")
    first = await till.asks(2_000, "ann")
    second = await till.asks(1_000, "ann2", NOON + timedelta(seconds=1))
    await merge(till, "ann2", "ann")
    assert (await till.state(first), await till.state(second)) == ("requested", "rejected")
    assert await till.fen() == (0, 6_000, 2_000, 0, 0)
    with pytest.raises(Refusal, match=r"withdrawal\.one_open"):
        await till.asks(1_000, "ann")


async def test_what_may_be_paid_already_goes_on_and_the_other_gives_way(till: Till) -> None:
    await till.earned(5_000, "ann", "o1")
    await till.earned(3_000, "ann2", "o2")
    till.clock.script = SandboxScript(silent_sends=True)
    first, second = await till.asks(2_000, "ann"), await till.approved(1_000, "ann2")
    await till.sends()
    await merge(till, "ann2", "ann")
    assert (await till.state(first), await till.state(second)) == ("rejected", "paying")
    await till.looks(NOON.replace(year=2027))
    assert await till.fen() == (0, 7_000, 0, 1_000, 0)


async def test_two_that_may_both_be_paid_already_both_go_on(till: Till) -> None:
    await till.earned(5_000, "ann", "o1")
    await till.earned(3_000, "ann2", "o2")
    till.clock.script = SandboxScript(silent_sends=True)
    await till.approved(2_000, "ann")
    await till.approved(1_000, "ann2")
    await till.sends()
    await merge(till, "ann2", "ann")
    assert await till.fen() == (0, 5_000, 3_000, 0, 0)
    await till.looks(NOON.replace(year=2027))
    assert await till.fen() == (0, 5_000, 0, 3_000, 0)
    await till.asks(1_000, "ann")


async def test_what_one_id_owes_the_other_pays(till: Till) -> None:
    await till.earned(5_000, "ann", "o1")
    await till.approved(5_000, "ann")
    await till.sends()
    await till.tells(refunded("o1", "r1", of(4, 50_000)))
    await till.earned(3_000, "ann2", "o2")
    await merge(till, "ann", "ann2")
    assert await till.fen("ann2") == (0, 0, 0, 5_000, 2_000)


async def test_merging_at_the_same_time_as_an_order_is_told_loses_nothing(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann2")
    await till.bind("cat", "ann")
    told = [till.tells(paid(f"o{number}", user_id="bob" if number % 2 else "cat")) for number in range(12)]
    await asyncio.gather(*told[:6], merge(till, "ann2", "ann"), *told[6:], return_exceptions=True)
    await merge(till, "ann2", "ann")
    earned = await till.database.fetchval("SELECT coalesce(sum(amount_fen), 0)::bigint FROM referral.commissions")
    assert await till.fen() == (earned, 0, 0, 0, 0)


async def test_an_erased_inviter_leaves_books_and_no_name(till: Till) -> None:
    await till.earned(5_000)
    await till.withdrawals.change_payee("ann", Payee(kind="bank", account="6222", name="张三"), NOON)
    withdrawal_id = await till.approved(2_000)
    with pytest.raises(Refusal, match=r"withdrawal\.shopper_busy"):
        await erase(till, "ann")
    await till.sends()
    for _ in range(2):
        await erase(till, "ann")
    assert (await till.desk.find(withdrawal_id)).payee is None
    for table in ("commissions", "withdrawals", "withdrawal_days", "payees", "commission_days", "commission_steps"):
        rows = await till.database.fetch(f"SELECT row_to_json(one)::text AS text FROM referral.{table} AS one")
        assert not [row["text"] for row in rows if '"ann"' in row["text"] or "6222" in row["text"]]
    assert await till.fen("erased:1") == (0, 3_000, 0, 2_000, 0)
    await till.tells(refunded("o1", "r1", of(4, 50_000)))
    assert await till.fen("erased:1") == (0, 0, 0, 2_000, 2_000)


async def test_all_that_is_known_is_told(till: Till) -> None:
    await till.earned(5_000)
    await till.asks()
    async with till.database.transaction() as tx:
        assert [one.inviter_id for one in (await shopper.export(tx, "ann")).commissions] == ["ann"]
        assert [one.order_id for one in (await shopper.export(tx, "invitee-o1")).commissions] == ["o1"]
        known = await withdrawals.export(tx, "ann")
    assert (known.payee, [one.state for one in known.withdrawals]) == (None, ["requested"])
