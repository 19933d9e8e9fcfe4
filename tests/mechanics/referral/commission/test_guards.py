"""Negative controls: each guard is taken away once, and something breaks that held with it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from growth.mechanics.referral.commission import model, service
from growth.mechanics.referral.commission.store import caps
from growth.mechanics.referral.commission.store import commissions as store
from growth.mechanics.referral.model import Caps, FixedRule
from growth.plumbing.postgres.database import Tx
from growth.rewards.ledger import service as ledger
from growth.rewards.withdrawal.model import WithdrawalRules
from growth.rewards.withdrawal.service import pay_out
from growth.rewards.withdrawal.store import withdrawals
from growth.vocabulary.ids import new_id
from tests.kit.invariants import violations
from tests.mechanics.referral.commission.money import Till, an_act, paid, received
from tests.shop.order.telling import NOON

pytestmark = pytest.mark.anyio


class Undone(Exception):
    """What the test wrote is not kept."""


@asynccontextmanager
async def undone(till: Till) -> AsyncIterator[Tx]:
    """A transaction of which nothing is kept."""
    try:
        async with till.database.transaction() as tx:
            yield tx
            raise Undone  # noqa: TRY301 - this is how it is undone
    except Undone:
        pass


class Without:
    """A transaction whose statements have lost one guard."""

    def __init__(self, tx: Tx, guard: str, instead: str = "") -> None:
        self._tx = tx
        self._guard = guard
        self._instead = instead

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._tx, name)

        def run(query: str, *args: object) -> Awaitable[Any]:
            assert self._guard in query, "the guard is no longer written like this"
            return call(query.replace(self._guard, self._instead), *args)  # type: ignore[no-any-return]

        return run


async def broken(tx: Tx) -> list[str]:
    return [violation.name for violation in await violations(tx)]


async def one_commission(till: Till) -> model.Commission:
    await till.program()
    await till.bind("bob", "ann")
    await till.tells(paid(), received())
    return await till.only()


async def test_without_the_unique_order_and_level_an_order_earns_twice(till: Till) -> None:
    one = await one_commission(till)
    again = replace(one, commission_id=new_id(NOON))
    nothing = replace(again, amount_fen=0, revision=0)
    with pytest.raises(asyncpg.UniqueViolationError):
        async with undone(till) as tx:
            await service.book(tx, [(nothing, again)], [], NOON)
    async with undone(till) as tx:
        await tx.execute("ALTER TABLE referral.commissions DROP CONSTRAINT commissions_order_id_level_key")
        await service.book(tx, [(nothing, again)], [], NOON)
        assert (await till.commissions.money("ann", NOON)).pending_fen == 1000
        assert await tx.fetchval("SELECT sum(amount_fen)::int FROM referral.commissions") == 2000


async def test_without_the_state_in_its_where_a_voided_commission_comes_back(till: Till) -> None:
    one = await one_commission(till)
    await till.commissions.void(an_act(), one.commission_id, "fake_orders")
    late = replace(one, revision=2)
    with pytest.raises(AssertionError, match="locked"):
        async with undone(till) as tx:
            await store.change(tx, [late], [])
    async with undone(till) as tx:
        without = Without(tx, "AND (commission.state <> 'void' OR one.state = 'void')")
        await store.change(without, [late], [])  # type: ignore[arg-type]
        assert "What a commission is worth is what its steps made it" in await broken(tx)


async def test_without_the_due_time_in_its_where_money_is_available_early(till: Till) -> None:
    one = await one_commission(till)
    async with undone(till) as tx:
        assert await store.make_available(tx, [one.commission_id], NOON) == 0
    async with undone(till) as tx:
        without = Without(tx, "AND commission.due_at <= $2")
        assert await store.make_available(without, [one.commission_id], NOON) == 1  # type: ignore[arg-type]
        assert "Nothing is available before its order was received and the days after that were over" in await broken(
            tx
        )


async def test_without_ids_made_of_the_revision_a_change_told_twice_moves_twice(till: Till) -> None:
    one = await one_commission(till)
    nothing = replace(one, amount_fen=0, revision=0)
    async with undone(till) as tx:
        assert await ledger.transfer(tx, model.moves_of([(nothing, one)]).credits, NOON) == frozenset()
    async with undone(till) as tx:
        other_id = replace(one, revision=9)
        assert len(await ledger.transfer(tx, model.moves_of([(nothing, other_id)]).credits, NOON)) == 1


async def test_without_the_turn_of_the_payer_two_orders_are_both_the_first(till: Till) -> None:
    await till.program(level_1=FixedRule(amount_fen=1000))
    await till.bind("bob", "ann")
    await till.tells(paid("o1"))
    one = await till.only("o1")
    # What an order sees that did not wait for the other's commit: no rival.
    blind = replace(one, commission_id=new_id(NOON), order_id="o2", paid_at=one.paid_at.replace(second=9))
    assert model.priced([replace(blind, amount_fen=0, revision=0)])[0].amount_fen == 1000
    async with undone(till) as tx:
        await service.book(tx, [(replace(blind, amount_fen=0, revision=0), blind)], [], NOON)
        assert "One order of an invitee earns the sum for the first" in await broken(tx)


async def test_without_the_room_left_in_its_statement_a_cap_holds_nobody(till: Till) -> None:
    await till.program(caps=Caps(commission_fen_per_day=1500))
    await till.bind("bob", "ann")
    await till.tells(paid("o1"))
    day = NOON.date()
    asked = partial(caps.take_room, counted_fen=None, stands_fen=0)
    async with undone(till) as tx:
        assert await asked(tx, "ann", day, 1000, 1500) == 500
        assert await asked(tx, "ann", day, 1000, 1500) == 0
    async with undone(till) as tx:
        without = Without(tx, "least($3, $4 - greatest(0, known.fen - coalesce($5, 0)))", "$3")
        assert await asked(without, "ann", day, 1000, 1500) == 1000  # type: ignore[arg-type]


async def test_without_the_unique_slot_a_shopper_has_two_withdrawals_open(till: Till) -> None:
    await till.earned(5_000)
    found = await till.desk.find(await till.asks(1_000))
    again = replace(found, withdrawal_id=new_id(NOON))
    async with undone(till) as tx:
        assert not await withdrawals.add(tx, again, NOON.date())
    async with undone(till) as tx:
        await tx.execute("DROP INDEX withdrawal.withdrawals_one_open")
        without = Without(tx, "ON CONFLICT (slot) WHERE state IN ('requested', 'approved', 'paying') DO NOTHING")
        assert await withdrawals.add(without, again, NOON.date())  # type: ignore[arg-type]
        assert "Nobody has two withdrawals open" in await broken(tx)


async def test_without_the_limits_in_its_statement_a_day_is_never_full(till: Till) -> None:
    rules = WithdrawalRules(max_per_day=1, max_fen_per_day=1_000)
    async with undone(till) as tx:
        assert await withdrawals.take_day(tx, "ann", NOON.date(), 600, rules)
        assert not await withdrawals.take_day(tx, "ann", NOON.date(), 100, rules)
        without = Without(tx, "known.asked < $4", "known.asked < $4 + 9")
        assert await withdrawals.take_day(without, "ann", NOON.date(), 100, rules)  # type: ignore[arg-type]
        assert not await withdrawals.take_day(tx, "ann", NOON.date(), 301, WithdrawalRules(max_fen_per_day=1_000))


async def test_without_the_state_in_its_where_a_paid_withdrawal_is_given_back(till: Till) -> None:
    await till.earned(5_000)
    withdrawal_id = await till.approved(1_000)
    await till.sends()
    async with undone(till) as tx:
        assert await withdrawals.end(tx, withdrawal_id, ["paying"], "failed", NOON, reason="payout_failed") is None
    async with undone(till) as tx:
        without = Without(tx, "AND state = ANY ($2::text[])", "AND cardinality($2::text[]) > 0")
        failed = await withdrawals.end(
            without,  # type: ignore[arg-type]
            withdrawal_id,
            ["paying"],
            "failed",
            NOON,
            reason="payout_failed",
        )
        assert failed is not None
        assert "The sandbox paid what was withdrawn, and no number that nobody sent" in await broken(tx)


async def test_the_ledger_lets_money_leave_once_even_if_it_is_told_twice(till: Till) -> None:
    await till.earned(5_000)
    found = await till.desk.find(await till.approved(1_000))
    await till.sends()
    async with till.database.transaction() as tx:
        await pay_out(tx, found, NOON)
    assert await till.fen() == (0, 4_000, 0, 1_000, 0)
