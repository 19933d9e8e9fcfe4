"""Never two payouts for one withdrawal, and never none for one that is told paid, whatever the payout service says."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from growth.rewards.withdrawal.approval.service import Approvals
from growth.rewards.withdrawal.model import FIRST_LOOK, MAX_BETWEEN_LOOKS, Said, next_look, verdict_on
from growth.rewards.withdrawal.payout import calls as sending
from growth.rewards.withdrawal.payout.model import SCRIPTS, PayoutOrder, SandboxScript
from growth.rewards.withdrawal.payout.service import Manual, Sandbox
from growth.rewards.withdrawal.periodic import WithdrawalKeeper
from growth.rewards.withdrawal.store import withdrawals as store
from growth.vocabulary.refusals import Refusal
from tests.mechanics.referral.commission.money import Till, an_act
from tests.shop.order.telling import NOON

pytestmark = pytest.mark.anyio

LATER = NOON + timedelta(hours=2)


async def play_out(till: Till, *, from_: datetime = NOON, rounds: int = 30) -> None:
    """Let the clock strike until nothing is under way, every time two workers at once."""
    moment = from_
    for _ in range(rounds):
        moment += MAX_BETWEEN_LOOKS + timedelta(minutes=1)
        await asyncio.gather(till.sends(moment), till.sends(moment), till.looks(moment), till.looks(moment))


async def judged(till: Till, withdrawal_id: str, *, outcome: str, earned: int = 5_000, fen: int = 1_000) -> None:
    """Hold what the shopper has against what the payout service did."""
    assert await till.state(withdrawal_id) == outcome
    paid = {number: known for number, known in (await till.payouts()).items() if known[1] == "paid"}
    if outcome == "paid":
        assert list(paid) == [withdrawal_id]
        assert await till.fen() == (0, earned - fen, 0, fen, 0)
    else:
        assert not paid
        assert await till.fen() == (0, earned, 0, 0, 0)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=[f"…{cents:02}" for cents in SCRIPTS])
async def test_whatever_the_service_says_the_money_is_where_it_says_in_the_end(
    till: Till, script: SandboxScript
) -> None:
    await till.earned(5_000)
    till.clock.script = script
    withdrawal_id = await till.approved()
    await till.sends()
    await play_out(till)
    await judged(till, withdrawal_id, outcome=script.outcome)


async def test_a_time_out_is_no_failure(till: Till) -> None:
    """Seen in rustchain-bounties: a time-out was taken for a failure, and it was paid twice."""
    await till.earned(5_000)
    till.clock.script = SandboxScript(silent_sends=True)
    withdrawal_id = await till.approved()
    await till.sends()
    assert await till.state(withdrawal_id) == "paying"
    assert await till.fen() == (0, 4_000, 1_000, 0, 0)
    with pytest.raises(Refusal, match=r"withdrawal\.one_open"):
        await till.asks()
    assert await till.looks(NOON + FIRST_LOOK - timedelta(seconds=1)) == 0
    assert await till.looks(LATER) == 1
    await judged(till, withdrawal_id, outcome="paid")


async def test_a_no_to_sending_is_asked_again_before_it_is_believed(till: Till) -> None:
    await till.earned(5_000)
    till.clock.script = SandboxScript(lies_on_send=True)
    withdrawal_id = await till.approved()
    await till.sends()
    found = await till.desk.find(withdrawal_id)
    assert (found.state, found.said) == ("paying", "send: failed GATEWAY_ERROR")
    await till.looks(LATER)
    await judged(till, withdrawal_id, outcome="paid")


async def test_what_never_arrived_is_sent_again_under_the_same_number(till: Till) -> None:
    await till.earned(5_000)
    till.clock.script = SandboxScript(loses_sends=2)
    withdrawal_id = await till.approved()
    await till.sends()
    assert await till.payouts() == {}
    await play_out(till)
    assert await till.payouts() == {withdrawal_id: (1_000, "paid", 1)}
    await judged(till, withdrawal_id, outcome="paid")


async def test_a_service_that_never_answers_is_asked_for_as_long_as_it_takes(till: Till) -> None:
    await till.earned(5_000)
    till.clock.script = SandboxScript(silent_sends=True, silent_queries=40)
    withdrawal_id = await till.approved()
    await till.sends()
    await play_out(till)
    found = await till.desk.find(withdrawal_id)
    assert (found.state, found.said) == ("paying", "query: no answer")
    assert found.looks >= 30
    with pytest.raises(Refusal, match=r"withdrawal\.payout_unknown"):
        await till.desk.mark_failed(an_act(), withdrawal_id, "bounced")
    assert await till.fen() == (0, 4_000, 1_000, 0, 0)
    await play_out(till, from_=NOON + timedelta(days=10))
    await judged(till, withdrawal_id, outcome="paid")


def test_looks_are_further_and_further_apart_and_never_stop() -> None:
    gaps = [next_look(looks, NOON) - NOON for looks in range(1_000)]
    assert gaps[0] == FIRST_LOOK
    assert gaps == sorted(gaps)
    assert gaps[-1] == MAX_BETWEEN_LOOKS


async def test_an_operator_cannot_call_failed_what_the_service_paid(till: Till) -> None:
    await till.earned(5_000)
    till.clock.script = SandboxScript(silent_sends=True)
    withdrawal_id = await till.approved()
    await till.sends()
    with pytest.raises(Refusal, match=r"withdrawal\.payout_unknown"):
        await till.desk.mark_failed(an_act(), withdrawal_id, "bounced")
    await judged(till, withdrawal_id, outcome="paid")


async def test_an_operator_who_says_failed_is_believed_when_the_service_says_so_too(till: Till) -> None:
    await till.earned(5_000)
    till.clock.script = SandboxScript(outcome="failed", silent_sends=True)
    withdrawal_id = await till.approved()
    with pytest.raises(Refusal, match="wrong_state"):
        await till.desk.mark_failed(an_act(), withdrawal_id, "bounced")
    await till.sends()
    assert (await till.desk.mark_failed(an_act(), withdrawal_id, "bounced")).state == "failed"
    await judged(till, withdrawal_id, outcome="failed")


async def test_by_hand_nothing_is_sent_and_the_operator_s_word_ends_it_once(till: Till) -> None:
    await till.earned(5_000)
    by_hand, cashier = Approvals(till.database, Manual()), WithdrawalKeeper(till.database, Manual())
    paid = await till.asks()
    await by_hand.approve(an_act(), paid)
    # Another payout service does not take over what an operator may have paid.
    for one in (cashier, till.cashier):
        assert await one.send_approved(till.turn(LATER)) == 0
        assert await one.look_at_paying(till.turn(LATER)) == 0
    results = await asyncio.gather(
        *[by_hand.mark_paid(an_act(), paid, "wx-1") for _ in range(32)],
        *[by_hand.mark_failed(an_act(), paid, "bounced") for _ in range(32)],
        return_exceptions=True,
    )
    ended = [one for one in results if not isinstance(one, BaseException)]
    assert len(ended) == 1
    assert {one.kind.code for one in results if isinstance(one, Refusal)} == {"withdrawal.wrong_state"}
    # Nobody waited in vain for a connection: none of 64 on a pool of 8 asks for a second one.
    assert sum(isinstance(one, Refusal) for one in results) == 63
    is_paid = ended[0].state == "paid"
    assert await till.fen() == ((0, 4_000, 0, 1_000, 0) if is_paid else (0, 5_000, 0, 0, 0))
    failed = await till.asks()
    await by_hand.approve(an_act(), failed)
    await by_hand.mark_failed(an_act(), failed, "account_closed")
    assert await till.state(failed) == "failed"


class Died(BaseException):
    """The process is gone: nothing catches it."""


class Dying:
    """A payout service whose caller dies at one step."""

    name = "sandbox"
    is_by_hand = False

    def __init__(self, sandbox: Sandbox, step: str) -> None:
        self._sandbox = sandbox
        self._step = step

    async def send(self, order: PayoutOrder) -> Said:
        if self._step == "before sending":
            raise Died
        said = await self._sandbox.send(order)
        if self._step == "after sending":
            raise Died
        return said

    async def query(self, number: str) -> Said:
        if self._step == "before asking":
            raise Died
        said = await self._sandbox.query(number)
        if self._step == "after asking":
            raise Died
        return said


def dies_in(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, after: bool) -> None:
    """Let the process die before or after a function of `module`, the first time."""
    real: Callable[..., Awaitable[Any]] = getattr(module, name)

    async def dying(*args: Any, **named: Any) -> Any:
        if after:
            await real(*args, **named)
        monkeypatch.setattr(module, name, real)
        raise Died

    monkeypatch.setattr(module, name, dying)


@pytest.mark.parametrize("outcome", ["paid", "failed"])
@pytest.mark.parametrize("step", ["before sending", "after sending", "before asking", "after asking"])
async def test_who_dies_around_a_call_leaves_a_question_and_the_next_asks_it(
    till: Till, step: str, outcome: Any
) -> None:
    await till.earned(5_000)
    till.clock.script = SandboxScript(outcome=outcome, silent_sends=step.endswith("asking"))
    withdrawal_id = await till.approved()
    dying = WithdrawalKeeper(till.database, Dying(till.payout, step))  # type: ignore[arg-type]
    if step.endswith("asking"):
        await till.sends()
        with pytest.raises(Died):
            await dying.look_at_paying(till.turn(LATER))
    else:
        with pytest.raises(Died):
            await dying.send_approved(till.turn(NOON))
    assert await till.state(withdrawal_id) == "paying"
    await play_out(till, from_=LATER)
    await judged(till, withdrawal_id, outcome=outcome)


@pytest.mark.parametrize("outcome", ["paid", "failed"])
@pytest.mark.parametrize("step", ["end", "pay_out", "give_back"])
@pytest.mark.parametrize("after", [False, True])
async def test_who_dies_before_the_answer_is_written_down_has_written_nothing(
    till: Till, monkeypatch: pytest.MonkeyPatch, step: str, outcome: Any, *, after: bool
) -> None:
    await till.earned(5_000)
    till.clock.script = SandboxScript(outcome=outcome, silent_sends=True)
    withdrawal_id = await till.approved()
    await till.sends()
    dies_in(monkeypatch, store if step == "end" else sending, step, after=after)
    try:
        await till.looks(LATER)
    except Died:
        assert await till.state(withdrawal_id) == "paying"
        assert await till.fen() == (0, 4_000, 1_000, 0, 0)
    await play_out(till, from_=LATER)
    await judged(till, withdrawal_id, outcome=outcome)


async def test_two_workers_at_once_pay_once(till: Till) -> None:
    await till.earned(50_000)
    withdrawal_id = await till.approved(1_000)
    await asyncio.gather(*[till.sends() for _ in range(16)])
    assert (await till.payouts())[withdrawal_id][2] == 1
    await judged(till, withdrawal_id, outcome="paid", earned=50_000)


async def test_an_answer_told_twice_is_told_in_vain(till: Till) -> None:
    await till.earned(5_000)
    till.clock.script = SandboxScript(silent_sends=True)
    withdrawal_id = await till.approved()
    await till.sends()
    found = await till.desk.find(withdrawal_id)
    said = Said(number=withdrawal_id, state="paid", amount_fen=1_000)
    no = Said(number=withdrawal_id, state="failed")
    verdicts = [verdict_on(found, said, asked="query")] * 8 + [verdict_on(found, no, asked="query")] * 8
    await sending.conclude(till.database, found, verdicts[0], NOON)
    await asyncio.gather(*[sending.conclude(till.database, found, verdict, NOON) for verdict in verdicts])
    await judged(till, withdrawal_id, outcome="paid")


@pytest.mark.parametrize(
    ("said", "then"),
    [
        (None, "look_again"),
        (Said(number="other", state="paid", amount_fen=1_000), "look_again"),
        (Said(number="other", state="failed"), "look_again"),
        (Said(number="mine", state="paid", amount_fen=999), "look_again"),
        (Said(number="mine", state="paid"), "look_again"),
        (Said(number="mine", state="working"), "look_again"),
        (Said(number="mine", state="never_heard"), "send_again"),
        (Said(number="mine", state="failed"), "failed"),
        (Said(number="mine", state="paid", amount_fen=1_000), "paid"),
    ],
)
async def test_only_a_plain_answer_about_this_number_and_amount_ends_it(
    till: Till, said: Said | None, then: str
) -> None:
    await till.earned(5_000)
    found = await till.desk.find(await till.asks())
    mine = said
    if said is not None and said.number == "mine":
        mine = Said(number=found.withdrawal_id, state=said.state, amount_fen=said.amount_fen, reference=said.reference)
    assert verdict_on(found, mine, asked="query").then == then
    if then in {"failed", "send_again"}:
        assert verdict_on(found, mine, asked="send").then == "look_again"


async def test_a_service_that_hangs_is_waited_for_a_bounded_time(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    await till.earned(5_000)
    withdrawal_id = await till.approved()
    monkeypatch.setattr(sending, "ANSWER_SECONDS", 0.05)

    class Hanging(Dying):
        async def send(self, order: PayoutOrder) -> Said:
            await asyncio.Event().wait()
            raise AssertionError(order)

    await WithdrawalKeeper(till.database, Hanging(till.payout, "")).send_approved(till.turn(NOON))  # type: ignore[arg-type]
    found = await till.desk.find(withdrawal_id)
    assert (found.state, found.said) == ("paying", "send: no answer")
    await play_out(till)
    await judged(till, withdrawal_id, outcome="paid")
