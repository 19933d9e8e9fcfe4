"""Commissions become available in batches that may die anywhere, while orders are paid back."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from growth.mechanics.referral.commission import periodic
from growth.mechanics.referral.commission.store import commissions as store
from growth.mechanics.referral.model import Caps, FixedRule
from growth.rewards.ledger import service as ledger
from tests.kit.invariants import violations
from tests.kit.mortal import Killed
from tests.mechanics.referral.commission.money import AVAILABLE, Till, assemble, line, paid, received, refunded
from tests.shop.order import telling
from tests.shop.order.telling import NOON, of

pytestmark = pytest.mark.anyio


class Died(BaseException):
    """The process is gone: nothing catches it."""


async def many(till: Till, count: int) -> None:
    await till.program()
    await till.bind("bob", "ann")
    for number in range(count):
        await till.tells(paid(f"o{number}", line(amount_fen=1_000)), received(f"o{number}"))


async def test_what_is_due_is_settled_batch_by_batch_longest_due_first(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(till, 7)
    monkeypatch.setattr(periodic, "DUE_BATCH", 3)
    done = []
    while batch := await till.keeper.settle_due(till.turn(AVAILABLE)):
        done.append((batch, (await till.fen())[1]))
    assert done == [(3, 300), (3, 600), (1, 700)]


@pytest.mark.parametrize("step", ["make_available", "post", "emit"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_run_that_dies_anywhere_leaves_whole_batches_and_goes_on(
    till: Till, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool
) -> None:
    await many(till, 5)
    monkeypatch.setattr(periodic, "DUE_BATCH", 2)
    assert await till.keeper.settle_due(till.turn(AVAILABLE)) == 2
    owner: Any = {"make_available": store, "post": ledger, "emit": periodic}[step]
    real: Callable[..., Awaitable[Any]] = getattr(owner, step)

    async def dying(*args: Any, **named: Any) -> Any:
        if after:
            await real(*args, **named)
        raise Died

    monkeypatch.setattr(owner, step, dying)
    with pytest.raises(Died):
        await till.keeper.settle_due(till.turn(AVAILABLE))
    assert await till.fen() == (300, 200, 0, 0, 0)
    assert not await violations(till.database)
    monkeypatch.setattr(owner, step, real)
    await till.settle()
    assert await till.fen() == (0, 500, 0, 0, 0)


async def test_two_runs_at_once_settle_each_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    await many(till, 20)
    monkeypatch.setattr(periodic, "DUE_BATCH", 5)
    done = await asyncio.gather(*[till.keeper.settle_due(till.turn(AVAILABLE)) for _ in range(8)])
    assert sum(done) <= 20
    await till.settle()
    assert await till.fen() == (0, 2_000, 0, 0, 0)
    assert len([one for one in await till.events() if one[0] == "commission.available"]) == 20


@pytest.mark.parametrize("count", [1, 6])
async def test_refunds_at_the_moment_of_settlement_end_right(till: Till, count: int) -> None:
    await many(till, count)
    refunds = [refunded(f"o{number}", f"r{step}", of(1, 250)) for number in range(count) for step in range(3)]
    told = [till.tells(event) for event in refunds]
    runs = [till.keeper.settle_due(till.turn(AVAILABLE)) for _ in range(4)]
    await asyncio.gather(*told[::2], *runs, *told[1::2])
    await till.settle()
    assert await till.fen() == (0, 25 * count, 0, 0, 0)
    assert await till.month() == 25 * count


async def test_64_hooks_of_one_order_at_once_earn_once(till: Till) -> None:
    await till.program()
    await till.bind("bob", "ann")
    told = [paid() | {"id": f"p{number}"} for number in range(32)]
    told += [refunded("o1", "r1", of(1, 2_500)) | {"id": f"r{number}"} for number in range(32)]
    await asyncio.gather(*[till.tells(event) for event in told])
    assert await till.fen() == (750, 0, 0, 0, 0)
    assert len(await till.of_order()) == 1


async def test_first_orders_of_one_payer_at_once_earn_once(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000))
    await till.bind("bob", "ann")
    await asyncio.gather(*[till.tells(paid(f"o{number:02}", minutes=number)) for number in range(24)])
    assert await till.fen() == (1000, 0, 0, 0, 0)
    assert (await till.only("o00")).amount_fen == 1000
    back = [till.tells(refunded(f"o{number:02}", "r1", of(4, 10_000))) for number in range(23)]
    await asyncio.gather(*back)
    assert await till.fen() == (1000, 0, 0, 0, 0)
    assert (await till.only("o23")).amount_fen == 1000


async def test_a_cap_holds_among_orders_paid_at_once(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=2_500))
    for number in range(16):
        await till.bind(f"u{number}", "ann")
    await asyncio.gather(*[till.tells(paid(f"o{number}", user_id=f"u{number}")) for number in range(16)])
    assert await till.fen() == (2_500, 0, 0, 0, 0)


async def test_two_processes_that_tell_of_payers_of_the_same_inviters_never_wait_in_a_ring(
    till: Till, capsys: pytest.CaptureFixture[str]
) -> None:
    await till.program(caps=Caps(commission_fen_per_day=100_000))
    crowds = [[f"{crowd}{number:02}" for number in range(40)] for crowd in "uv"]
    for crowd in crowds:
        for number, payer in enumerate(crowd):
            await till.bind(payer, f"inviter-{number % 20:02}")
    others, random = assemble(till.database), Random(1)
    for order in range(3):
        hooks = [[paid(f"{payer}-{order}", user_id=payer, minutes=order) for payer in crowd] for crowd in crowds]
        for told in hooks:
            random.shuffle(told)
        await asyncio.gather(till.tells(*hooks[0]), others.tells(*hooks[1]))
    assert [await till.fen(f"inviter-{number:02}") for number in range(20)] == [(12_000, 0, 0, 0, 0)] * 20
    assert "one_by_one" not in capsys.readouterr().out


@pytest.mark.parametrize("step", ["add", "change", "count_money"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_hook_that_dies_anywhere_is_told_again(
    till: Till, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool
) -> None:
    await till.program()
    await till.bind("bob", "ann")
    if step != "add":
        await till.tells(paid())
    before = await till.fen()
    event = refunded("o1", "r1", of(1, 2_500)) if step != "add" else paid()
    real: Callable[..., Awaitable[Any]] = getattr(store, step)

    async def dying(*args: Any, **named: Any) -> Any:
        if after:
            await real(*args, **named)
        raise Killed(step)

    monkeypatch.setattr(store, step, dying)
    with pytest.raises(Killed):
        await telling.tell(till.shop, event)
    assert await till.fen() == before
    monkeypatch.setattr(store, step, real)
    await till.tells(event)
    assert await till.fen() == ((750, 0, 0, 0, 0) if step != "add" else (1000, 0, 0, 0, 0))


async def test_old_days_are_forgotten(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=2_500))
    await till.bind("bob", "ann")
    await till.tells(paid())
    assert await till.keeper.forget_days(till.turn(NOON + timedelta(days=59))) == 0
    assert await till.keeper.forget_days(till.turn(NOON + timedelta(days=62))) == 1
