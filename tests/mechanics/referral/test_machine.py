"""Relations under any sequence of what can happen to them, beside a slow model of who brought whom.

The model looks at everything each time, and counts nothing in advance. Where two bind at the same instant, it says what
one of the two orders makes of them.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from copy import deepcopy
from datetime import timedelta
from itertools import pairwise, permutations
from typing import Any, ClassVar, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import Struct

from growth.embedded import EmbeddedServers
from growth.mechanics.referral import person as shopper
from growth.mechanics.referral.reward.settlement import ReferralSettlement
from growth.plumbing.postgres.database import connect_postgres
from growth.plumbing.watch.invariants import all_invariants
from growth.vocabulary.clock import now
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.kit.invariants import violations
from tests.mechanics.referral.conftest import ZONE, Room, an_act, assemble, milestones

T = TypeVar("T")

STEPS = 30
USERS = ("ann", "bob", "cat", "dan", "eve", "fay")
RULES = tuple(rule for rule in all_invariants() if rule.room == "referral")
WHICH = st.integers(0, 99)
USER = st.sampled_from(USERS)
RELATION_DAYS = 30
WAITS = (7, 31)
"""Never adding up to `RELATION_DAYS`: the end of a relation falls between two days."""
A_STEP = 1 / 86_400
MILESTONES = {1: 50, 2: 500}
EACH = 10


class ARelation(Struct):
    """Who brought whom, in the model; in the order they were made."""

    invitee: str
    inviter: str
    at: float
    """The day, and a fraction that grows with each step."""
    ends: float
    is_current: bool = True
    first: str | None = None
    is_valid: bool = False


class AnOrder(Struct):
    """The facts of an order, in the model."""

    user: str
    at: float
    is_received: bool = False
    is_refunded: bool = False


class Model:
    """Who brought whom, and what they bought."""

    def __init__(self) -> None:
        self.now = 0.0
        self.relations: list[ARelation] = []
        self.orders: dict[str, AnOrder] = {}

    def current(self, user: str) -> ARelation | None:
        return next((one for one in self.relations if one.invitee == user and one.is_current), None)

    def is_above(self, above: str, user: str) -> bool:
        seen: str | None = user
        while seen is not None and seen != above:
            found = self.current(seen)
            seen = None if found is None else found.inviter
        return seen == above

    def bind(self, invitee: str, inviter: str) -> str:
        if invitee == inviter:
            return "own_code"
        found = self.current(invitee)
        if found is not None and self.now < found.ends:
            return "again" if found.inviter == inviter else "already_bound"
        if any(order.user == invitee and not order.is_refunded for order in self.orders.values()):
            return "not_new"
        if self.is_above(invitee, inviter):
            return "loop"
        if found is not None:
            found.is_current = False
        self.relations.append(ARelation(invitee, inviter, self.now, self.now + RELATION_DAYS))
        return "bound"

    def settle(self, user: str) -> None:
        """Look for the first order anew, among all that was kept; names grow with the time of payment."""
        mine = [one for one in self.relations if one.invitee == user]
        kept = [name for name, order in self.orders.items() if order.user == user and not order.is_refunded]
        holders = {name: self._holder(mine, name) for name in kept}
        for one in mine:
            one.first, one.is_valid = None, False
        for name, holder in holders.items():
            # Clocks may differ, by less than a day.
            if holder is not None and not any(int(self.orders[other].at) < int(holder.at) for other in kept):
                holder.first, holder.is_valid = name, self.orders[name].is_received
                return

    def _holder(self, mine: list[ARelation], name: str) -> ARelation | None:
        at = self.orders[name].at
        held = next((one for one in mine if one.first == name), None)
        return held or next((one for one in reversed(mine) if int(one.at) <= int(at) and at < one.ends), None)

    def end(self, relation: ARelation) -> None:
        relation.is_current = False
        relation.ends = max(relation.at, min(relation.ends, self.now))

    def merge(self, old: str, new: str) -> None:
        both = {old, new}
        self.relations = [one for one in self.relations if not {one.inviter, one.invitee} <= both]
        mine = [one for one in self.relations if one.invitee in both]
        # Names grow with the time of payment.
        for one in sorted((one for one in mine if one.first), key=lambda one: int(str(one.first)[1:]))[1:]:
            one.first, one.is_valid = None, False
        current = sorted((one for one in mine if one.is_current), key=lambda one: one.ends <= self.now)
        for one in current[1:]:
            self.end(one)
        for relation in self.relations:
            relation.invitee = new if relation.invitee == old else relation.invitee
            relation.inviter = new if relation.inviter == old else relation.inviter
        for order in self.orders.values():
            order.user = new if order.user == old else order.user
        if current and self.is_above(new, current[0].inviter):
            self.end(current[0])
        self.settle(new)

    def said(self) -> tuple[Any, ...]:
        totals = {}
        for user in USERS:
            states = [(one.first is not None, one.is_valid) for one in self.relations if one.inviter == user]
            totals[user] = tuple(states.count(state) for state in ((False, False), (True, False), (True, True)))
        points = sum(2 * EACH * one.is_valid for one in self.relations)
        for user in USERS:
            points += sum(value for least, value in MILESTONES.items() if totals[user][2] >= least)
        inviters = {user: found.inviter if (found := self.current(user)) else None for user in USERS}
        return inviters, totals, points


class ReferralMachine(RuleBasedStateMachine):
    """Everything that can happen, in any order."""

    runner: ClassVar[asyncio.Runner]
    room: ClassVar[Room]
    examples: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.gone: set[str] = set()
        self._run(_fresh(self.room))
        # The ledger forgets nothing: what the examples before gave stays.
        self.before = self._run(_points(self.room))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def _order(self, which: int) -> str:
        names = list(self.model.orders)
        return names[which % len(names)]

    @rule(invitee=USER, inviter=USER)
    def bind(self, invitee: str, inviter: str) -> None:
        if {invitee, inviter} & self.gone:
            return
        assert self._run(self.room.tries(invitee, inviter)) == self.model.bind(invitee, inviter)

    @rule(pairs=st.lists(st.tuples(USER, USER), min_size=2, max_size=3))
    def bind_at_the_same_instant(self, pairs: list[tuple[str, str]]) -> None:
        pairs = [pair for pair in pairs if not set(pair) & self.gone]
        if len(pairs) > 1:
            self._settle_on(pairs, self._run(_at_once(self.room, pairs)))

    @rule(users=st.lists(USER, min_size=2, max_size=4, unique=True))
    def form_a_ring_at_the_same_instant(self, users: list[str]) -> None:
        if not set(users) & self.gone:
            pairs = list(pairwise([*users, users[0]]))
            self._settle_on(pairs, self._run(_at_once(self.room, pairs)))

    def _settle_on(self, pairs: list[tuple[str, str]], told: list[str]) -> None:
        """Find the sequence that explains what was told. Any will do, but for who was first: that is as it was."""
        made = self._run(_in_order(self.room))
        for order in permutations(range(len(pairs))):
            tried = deepcopy(self.model)
            answers = {at: tried.bind(*pairs[at]) for at in order}
            if [answers[at] for at in range(len(pairs))] == told:
                tried.relations.sort(key=lambda one: made.index((one.invitee, one.inviter, one.is_current)))
                self.model = tried
                return
        raise AssertionError(f"{pairs} → {told} in no sequence")

    @precondition(lambda self: len(self.model.orders) < 12)
    @rule(user=USER)
    def pay(self, user: str) -> None:
        if user in self.gone:
            return
        name = f"o{len(self.model.orders)}"
        self.model.orders[name] = AnOrder(user, self.model.now)
        self.model.settle(user)
        self._run(self.room.pays(user, name))

    @precondition(lambda self: self.model.orders)
    @rule(which=WHICH)
    def receive(self, which: int) -> None:
        name = self._order(which)
        self.model.orders[name].is_received = True
        self.model.settle(self.model.orders[name].user)
        self._run(self.room.receives(name))

    @precondition(lambda self: self.model.orders)
    @rule(which=WHICH)
    def refund(self, which: int) -> None:
        name = self._order(which)
        self.model.orders[name].is_refunded = True
        self.model.settle(self.model.orders[name].user)
        self._run(self.room.refunds(name))

    @rule(days=st.sampled_from(WAITS))
    def wait(self, days: int) -> None:
        self.model.now += days
        self._run(_wait(self.room, days))

    @rule(user=USER)
    def end_by_hand(self, user: str) -> None:
        found = self.model.current(user)
        if found is not None:
            self.model.end(found)
            self._run(_end(self.room, user))

    @precondition(lambda self: len(self.gone) < 3)
    @rule(old=USER, new=USER)
    def merge(self, old: str, new: str) -> None:
        if old == new or {old, new} & self.gone:
            return
        self.gone.add(old)
        self.model.merge(old, new)
        self._run(_merge(self.room, old, new))

    @invariant()
    def both_say_the_same(self) -> None:
        if hasattr(self, "model"):
            self.model.now += A_STEP
            assert self._run(_said(self.room, self.before)) == self.model.said()
            assert not self._run(violations(self.room.database, RULES))


async def _at_once(room: Room, pairs: list[tuple[str, str]]) -> list[str]:
    codes = [await room.code(inviter) for _, inviter in pairs]
    other = assemble(room.database)
    return list(
        await asyncio.gather(
            *[
                (room if at % 2 else other).tries_code(invitee, code)
                for at, ((invitee, _), code) in enumerate(zip(pairs, codes, strict=True))
            ]
        )
    )


async def _in_order(room: Room) -> list[tuple[str, str, bool]]:
    rows = await room.database.fetch(
        """
        SELECT invitee_id, inviter_id, is_current
        FROM referral.relations
        ORDER BY bound_at, relation_id
        """
    )
    return [(row["invitee_id"], row["inviter_id"], row["is_current"]) for row in rows]


async def _wait(room: Room, days: int) -> None:
    await room.later(days)
    async with room.database.transaction() as tx:
        await tx.execute("UPDATE shop.orders SET paid_at = paid_at - $1::interval", timedelta(days=days))
        await tx.execute(
            "UPDATE referral.relations SET first_paid_at = first_paid_at - $1::interval", timedelta(days=days)
        )


async def _end(room: Room, user: str) -> None:
    relation_id = await room.database.fetchval(
        "SELECT relation_id FROM referral.relations WHERE invitee_id = $1 AND is_current", user
    )
    await room.corrections.end(an_act(), relation_id, "other")


async def _merge(room: Room, old: str, new: str) -> None:
    async with room.database.transaction() as tx:
        await shopper.merge(tx, old, new, now())
        await tx.execute("UPDATE shop.orders SET user_id = $2 WHERE user_id = $1", old, new)
        await ReferralSettlement(ZoneInfo(ZONE)).settle_invitee(tx, new, now())


async def _points(room: Room) -> int:
    return sum([await room.points(user) for user in USERS])


async def _said(room: Room, before: int) -> tuple[Any, ...]:
    inviters = {user: await room.inviter_of(user) for user in USERS}
    rows = await room.database.fetch("SELECT user_id, invited, bought, valid FROM referral.inviters")
    totals = dict.fromkeys(USERS, (0, 0, 0)) | {
        row["user_id"]: (row["invited"] - row["bought"], row["bought"] - row["valid"], row["valid"]) for row in rows
    }
    return inviters, totals, await _points(room) - before


async def _fresh(room: Room) -> None:
    """Forget the example before, and begin anew."""
    async with room.database.transaction() as tx:
        await tx.execute(
            """
            TRUNCATE referral.programs, referral.terms, referral.relations, referral.inviters, referral.inviter_months,
                referral.inviter_days, referral.progress, referral.milestones, shop.orders, shop.order_lines,
                shop.line_uses, shop.refunds, shop.refund_lines, shop.events
            """
        )
    await room.program(
        relation_days=RELATION_DAYS,
        attribution_days=3650,
        milestones=milestones(**{f"at_{least}": value for least, value in MILESTONES.items()}),
    )


async def _process(opened: AsyncExitStack, servers: EmbeddedServers) -> Room:
    dsn = await opened.enter_async_context(test_servers.database(servers))
    database = await connect_postgres(dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    opened.push_async_callback(database.close)
    return assemble(database)


def test_whatever_happens_who_brought_whom_is_what_the_model_says(servers: EmbeddedServers) -> None:
    servers.ensure_running()
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        try:
            ReferralMachine.runner = runner
            ReferralMachine.room = runner.run(_process(opened, servers))
            run_state_machine_as_test(
                ReferralMachine,
                settings=examples(30, stateful_step_count=STEPS),
            )
        finally:
            runner.run(opened.aclose())
