"""One sale under any sequence of what can happen to it, beside a small model of who holds what.

The model is the whole truth: after each step Postgres says the same. Redis says the same too, unless it was made stale;
then it may turn somebody away whom the model lets in, never the other way round, until it is reconciled.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from growth.embedded import EmbeddedServers
from growth.mechanics.flash_sale.model import SaleDraft
from growth.mechanics.flash_sale.stock import ClaimAsk
from growth.plumbing.watch.audit import Act
from growth.plumbing.watch.invariants import all_invariants
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import child_id
from growth.vocabulary.refusals import Refusal
from tests import servers as test_servers
from tests import world
from tests.kit.examples import examples
from tests.kit.invariants import violations
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.conftest import Room, assemble
from tests.mechanics.flash_sale.simple_model import LIMIT, LONG_HOLD, SHORT_HOLD, Claimed, Model, Ordered
from tests.mechanics.flash_sale.story import claim_now, line, off_by, tell, units_in_both
from tests.shop.order import telling
from tests.shop.order.telling import JSON

T = TypeVar("T")

STEPS = 30
RULES = tuple(rule for rule in all_invariants() if rule.room in {"flash_sale", "order"})
FAULTS = st.sampled_from(["flushed", "stale", "stale to its settings", "a process died"])
STATES = {"pause": "paused", "resume": "published", "end": "ended"}


class SaleMachine(RuleBasedStateMachine):
    """One sale."""

    runner: ClassVar[asyncio.Runner]
    rooms: ClassVar[list[Room]]
    number: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.room = self.rooms[0]
        self.exact = True
        """Whether Redis knows what Postgres knows, or knows nothing."""
        self.keys: dict[tuple[str, str], str] = {}
        self.steps = 0
        type(self).number += 1
        self.prefix = f"{self.number}"
        self.model: Model | None = None
        self.rejected: set[str] = set()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def ask(self, work: Coroutine[Any, Any, T]) -> tuple[T | None, str]:
        """What came of it, or the code of the refusal."""
        try:
            return self.do(work), ""
        except Refusal as refusal:
            return None, refusal.kind.code

    @property
    def it(self) -> Model:
        assert self.model is not None
        return self.model

    @property
    def act(self) -> Act:
        return Act(Operator("test", Role.EDITOR), now(), reason="a test")

    @initialize(
        total=st.integers(LIMIT, 5), returns=st.booleans(), policy=st.sampled_from(["retake", "retake", "refund"])
    )
    def open(self, total: int, *, returns: bool, policy: str) -> None:
        sale = self.do(
            world.put_sale(
                self.room.database,
                sku=f"sku-{self.prefix}",
                units_total=total,
                max_per_shopper=LIMIT,
                hold_seconds=SHORT_HOLD,
                refund_returns_units=returns,
                late_payment=policy,
            )
        )
        self.model = Model(sale)
        self.claim("a", 1, "k1", 0)
        self.claim("b", LIMIT, "k1", 0)

    @rule(
        user=st.sampled_from("ab"),
        units=st.integers(1, LIMIT),
        key=st.sampled_from([None, None, "k1", "k2"]),
        process=st.integers(0, 1),
    )
    def claims(self, user: str, units: int, key: str | None, process: int) -> None:
        self.claim(user, units, key, process)

    @rule(user=st.sampled_from("ab"), units=st.integers(1, LIMIT))
    def claims_after_all_lapsed(self, user: str, units: int) -> None:
        self.expire(LONG_HOLD)
        self.claim(user, units, None, 0)

    def claim(self, user: str, units: int, key: str | None, process: int) -> None:
        user_id = f"{user}-{self.prefix}"
        known = self.keys.get((user_id, key)) if key else None
        expected = self.it.why_not(user_id, units)
        if known is not None and (self.it.claims[known].occupied or expected is None):
            expected = "replay" if self.it.claims[known].units == units else "idempotency.other_content"
        if known is not None and self.it.claims[known].occupied and self.it.claims[known].units != units:
            expected = "idempotency.other_content"
        got, refused = self.ask(self.rooms[process].claim(self.it.sale.sale_id, user_id, units, key))
        if got is None:
            assert refused == expected or not self.exact, f"{refused}; the model says {expected}"
        elif known is None:
            assert expected is None, f"won; the model says {expected}"
            assert not got.replayed
            self.it.claims[got.claim.claim_id] = Claimed(user_id, units, self.it.hold_seconds)
            if key:
                self.keys[user_id, key] = got.claim.claim_id
        else:
            assert got.replayed
            assert (got.claim.claim_id, got.claim.state) == (known, self.it.claims[known].state)

    @rule(which=st.integers(0, 99), by=st.sampled_from(["shopper", "operator", "other shopper"]))
    def give_back(self, which: int, by: str) -> None:
        claim_id = self._claim_id(which)
        claim = self.it.claims[claim_id]
        if by == "operator":
            _, refused = self.ask(self.room.claims.release(self.act, claim_id))
        else:
            user_id = claim.user_id if by == "shopper" else "mallory"
            _, refused = self.ask(self.room.claims.give_back(claim_id, user_id, now()))
        if by == "other shopper":
            assert refused == "flash_sale.claim_not_found"
        elif claim.state == "held" or (claim.state == "released" and by == "shopper"):
            assert not refused
            claim.state = "released"
        else:
            assert refused == "flash_sale.claim_not_held"

    @rule(which=st.integers(0, 99), order=st.sampled_from("xy"))
    def place(self, which: int, order: str) -> None:
        order_id, told = self._order(which, order)
        event = telling.placed(order_id, self._line(told), user_id=self._user(told))
        if told.placed:
            return self._redeliver(order_id, event)
        told.placed = True
        return self._tell(order_id, event)

    @rule(which=st.integers(0, 99), order=st.sampled_from("xy"))
    def pays(self, which: int, order: str) -> None:
        self.pay(which, order)

    @rule(which=st.integers(0, 99))
    def pays_what_lapsed(self, which: int) -> None:
        self.expire(LONG_HOLD)
        self.pay(which, "x")

    def pay(self, which: int, order: str) -> None:
        order_id, told = self._order(which, order)
        event = telling.paid(order_id, self._line(told), user_id=self._user(told))
        if told.paid:
            return self._redeliver(order_id, event)
        told.paid = True
        told.refunded = min(told.refunded, self.it.claims[told.claim_id].units)
        return self._tell(order_id, event)

    @rule(which=st.integers(0, 99), order=st.sampled_from("xy"), units=st.integers(1, LIMIT))
    def refund(self, which: int, order: str, units: int) -> None:
        order_id, told = self._order(which, order)
        told.refunds += 1
        event = telling.refunded(order_id, f"r{told.refunds}", telling.of(units, units * 100))
        told.refunded += units
        if told.paid:
            told.refunded = min(told.refunded, self.it.claims[told.claim_id].units)
        self._tell(order_id, event)

    @rule(which=st.integers(0, 99), order=st.sampled_from("xy"))
    def close(self, which: int, order: str) -> None:
        order_id, told = self._order(which, order)
        if told.closed:
            return self._redeliver(order_id, telling.closed(order_id))
        told.closed = True
        return self._tell(order_id, telling.closed(order_id))

    @rule(hold_seconds=st.sampled_from([SHORT_HOLD, LONG_HOLD]))
    def holds_lapse(self, hold_seconds: int) -> None:
        self.expire(hold_seconds)

    def expire(self, hold_seconds: int) -> None:
        turn = self.do(leading_at(self.room.database, now() + timedelta(seconds=hold_seconds + 6)))
        assert self.do(self.room.keeper.end_lapsed_holds(turn)) == self.it.lapse(hold_seconds)

    @rule(fault=FAULTS)
    def fails(self, fault: str) -> None:
        self.fault(fault)

    @rule(fault=FAULTS, user=st.sampled_from("ab"))
    def fails_and_is_mended(self, fault: str, user: str) -> None:
        self.fault(fault)
        self.claim(user, 1, None, 0)
        self.reconcile()

    def fault(self, fault: str) -> None:
        """All is forgotten; or who holds what is, and perhaps what operators did since; or one unit is stranded."""
        sale = self.it.sale if fault == "stale to its settings" else self.do(self.room.sales.find(self.it.sale.sale_id))
        if fault == "a process died":
            self.do(self.room.stock.claim(sale.sale_id, [ClaimAsk(child_id(sale.sale_id), f"c-{self.prefix}", 1)]))
            self.exact = False
            return
        self.do(self._flush())
        self.exact = fault == "flushed"
        if not self.exact:
            self.do(self.room.stock.load(sale, 1))

    async def _flush(self) -> None:
        # Whoever looks into a suspicion compares with what was there before.
        for room in self.rooms:
            await room.loader.close()
        await self.room.redis.flushall()

    def reconcile(self) -> None:
        for room in self.rooms:
            self.do(room.loader.close())
        turn = self.do(leading_at(self.room.database, now() + timedelta(minutes=1)))
        self.room.keeper._resting.clear()
        self.do(self.room.keeper.reconcile(turn))
        sale_id = self.it.sale.sale_id
        if self.do(self.room.stock.is_loaded(sale_id)):
            assert not self.do(self.room.loader.differences(sale_id, turn.now))
        self.exact = True

    @rule(
        total=st.integers(LIMIT, 6),
        hold_seconds=st.sampled_from([SHORT_HOLD, LONG_HOLD]),
        behind=st.sampled_from([0, 0, 0, 1]),
    )
    def edit(self, total: int, hold_seconds: int, behind: int) -> None:
        sale = self.do(self.room.sales.find(self.it.sale.sale_id))
        fields = {name: getattr(sale, name) for name in SaleDraft.__struct_fields__}
        draft = msgspec.convert(fields | {"units_total": total, "hold_seconds": hold_seconds}, SaleDraft)
        _, refused = self.ask(self.room.sales.change(self.act, sale.sale_id, sale.version - behind, draft))
        if behind:
            assert refused == "flash_sale.version_mismatch"
        elif self.it.state == "ended":
            assert refused == "flash_sale.wrong_state"
        elif total < self.it.taken():
            assert refused == "flash_sale.locked_field"
        else:
            assert not refused
            self.it.total, self.it.hold_seconds = total, hold_seconds

    @rule(step=st.sampled_from(["resume", "resume", "pause", "end"]))
    def operate(self, step: str) -> None:
        if step == "end" and self.steps < STEPS * 2 // 3:
            return
        from_states = {"pause": {"published"}, "resume": {"paused"}, "end": {"published", "paused"}}[step]
        _, refused = self.ask(getattr(self.room.sales, step)(self.act, self.it.sale.sale_id))
        assert refused == ("" if self.it.state in from_states else "flash_sale.wrong_state")
        if not refused:
            self.it.state = STATES[step]

    @invariant()
    def postgres_says_what_the_model_says(self) -> None:
        self.steps += 1
        if self.model is not None:
            self.do(self._compare(self.model))

    async def _compare(self, it: Model) -> None:
        in_postgres, in_redis = await units_in_both(self.room, it.sale.sale_id)
        assert in_postgres == it.taken()
        if self.exact and in_redis is not None:
            assert in_redis == it.taken()
            assert await off_by(self.room.stock, it.sale.sale_id) == 0
        for claim_id, claim in it.claims.items():
            found = await claim_now(self.room, claim_id)
            said = (found.state, found.refunded_units, found.occupied_units)
            assert said == (claim.state, claim.refunded, claim.occupied)
        assert not await violations(self.room.database, RULES)

    def teardown(self) -> None:
        if self.model is not None:
            self.do(self._put_away(self.model.sale.sale_id))

    async def _put_away(self, sale_id: str) -> None:
        """Leave nothing that the next sale's clock would meet."""
        for room in self.rooms:
            await room.claims.drain()
            await room.loader.close()
        turn = await leading_at(self.room.database, now() + timedelta(hours=2))
        await self.room.keeper.end_lapsed_holds(turn)
        async with self.room.database.transaction() as tx:
            await tx.execute(
                """
                UPDATE flash_sale.sales
                SET state = 'ended',
                    opens_at = opens_at - INTERVAL '1 year',
                    closes_at = closes_at - INTERVAL '1 year'
                WHERE sale_id = $1
                """,
                sale_id,
            )

    def _claim_id(self, which: int) -> str:
        return list(self.it.claims)[which % len(self.it.claims)]

    def _order(self, which: int, name: str) -> tuple[str, Ordered]:
        """One of two orders that mean to pay for a claim."""
        claim_id = self._claim_id(which)
        order_id = f"{name}-{claim_id}"
        return order_id, self.it.orders.setdefault(order_id, Ordered(claim_id))

    def _user(self, order: Ordered) -> str:
        return self.it.claims[order.claim_id].user_id

    def _line(self, order: Ordered) -> JSON:
        return line(self.do(claim_now(self.room, order.claim_id)))

    def _tell(self, order_id: str, event: JSON) -> None:
        expected = self.it.settle(order_id)
        (answer,) = self.do(tell(self.room, event))
        assert answer.startswith(expected), (answer, expected)
        if answer.startswith("rejected"):
            self.rejected.add(event["id"])

    def _redeliver(self, order_id: str, event: JSON) -> None:
        """Tell an event again. What was rejected is judged by what is known now, and told alike is a duplicate."""
        is_judged_again = event["id"] in self.rejected
        if is_judged_again:
            self.it.settle(order_id)
        (answer,) = self.do(tell(self.room, event))
        assert is_judged_again or answer.startswith("duplicate")
        if is_judged_again and "rejected" not in answer:
            self.rejected.remove(event["id"])


def test_whatever_happens_to_a_sale_both_stores_say_who_holds_what(servers: EmbeddedServers) -> None:
    servers.ensure_running()
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        try:
            SaleMachine.runner = runner
            SaleMachine.rooms = runner.run(_processes(opened, servers))
            run_state_machine_as_test(
                SaleMachine,
                settings=examples(80, stateful_step_count=STEPS),
            )
            assert not runner.run(violations(SaleMachine.rooms[0].database))
        finally:
            runner.run(opened.aclose())


async def _processes(opened: AsyncExitStack, servers: EmbeddedServers) -> list[Room]:
    dsn = await opened.enter_async_context(test_servers.database(servers))
    redis_url = await test_servers.empty_valkey(servers)
    database, redis = await opened.enter_async_context(world.stores(dsn, redis_url))
    rooms = [assemble(database, redis), assemble(database, redis)]
    for room in rooms:
        room.loader._wait_for_late_claims = _nobody_is_late  # type: ignore[method-assign]
    return rooms


async def _nobody_is_late() -> None:
    """There is one caller, and it has its answer."""
