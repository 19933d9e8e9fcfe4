"""Whatever the order in which hooks arrive, and how often, the balances are those of a slow recomputation."""

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.embedded import EmbeddedServers
from growth.mechanics.referral.model import FixedRule, PercentRule
from growth.plumbing.postgres.database import connect_postgres
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.mechanics.referral.commission import slow_model
from tests.mechanics.referral.commission.money import Till, assemble, broken_laws, line, paid, received, refunded
from tests.mechanics.referral.commission.slow_model import Line, Refund, Told
from tests.shop.order import telling
from tests.shop.order.telling import ELEVEN, JSON, NOON, of

pytestmark = pytest.mark.anyio

INVITERS = {"bob": ["ann", "eve"], "cat": ["ann", "eve"], "ann": ["eve"]}
RULES = {
    "percent": ((1000, 0), (0, 0)),
    "odd percents": ((1733, 0), (267, 0)),
    "first order": ((0, 1000), (0, 0)),
    "first order, and percent above": ((0, 1000), (333, 0)),
    "first order of some size": ((0, 1000), (0, 77)),
}
MIN_ORDER_FEN = {RULES["first order of some size"]: 5_000}
MIN_FEN = 1_000


def events_of(order: Told) -> list[JSON]:
    """The hooks that tell of an order."""
    lines = [telling.line(one.line_id, units=one.units, amount_fen=one.amount_fen) for one in order.lines]
    minutes = round((order.paid_at - ELEVEN) / timedelta(minutes=1))
    told = [paid(order.order_id, *lines, user_id=order.user_id, minutes=minutes)]
    for number, refund in enumerate(order.refunds):
        told.append(refunded(order.order_id, f"r{number}", *[of(one[1], one[2], one[0]) for one in refund]))
    if order.received_at is not None:
        told.append(received(order.order_id, round((order.received_at - ELEVEN) / timedelta(minutes=1))))
    return told


@st.composite
def orders(draw: st.DrawFn, number: int) -> Told:
    """An order with a few lines, paid back in a few steps, never more than it has."""
    paid_at = ELEVEN + timedelta(minutes=draw(st.integers(0, 3)))
    lines = [
        Line(str(one), draw(st.integers(1, 3)), draw(st.integers(0, 20_000)))
        for one in range(1, draw(st.integers(1, 3)) + 1)
    ]
    left = {one.line_id: [one.units, one.amount_fen] for one in lines}
    refunds = []
    for _ in range(draw(st.integers(0, 3))):
        refund = []
        for one in lines:
            units, fen = left[one.line_id]
            if units and draw(st.booleans()):
                taken = draw(st.sampled_from(["part", "whole", "money"]))
                back = {
                    "whole": (units, fen),
                    "part": (draw(st.integers(0, units)), draw(st.integers(0, fen))),
                    "money": (0, fen),
                }[taken]
                if any(back):
                    left[one.line_id] = [units - back[0], fen - back[1]]
                    refund.append(Refund(one.line_id, *back))
        if refund:
            refunds.append(refund)
    received_at = draw(st.one_of(st.none(), st.integers(4, 20_000).map(lambda one: ELEVEN + timedelta(minutes=one))))
    user_id = draw(st.sampled_from(["bob", "cat", "ann", "stranger"]))
    return Told(f"o{number}", user_id, paid_at, lines, refunds, received_at)


stories = st.integers(1, 4).flatmap(lambda count: st.tuples(*[orders(number) for number in range(count)]))


async def check(till: Till, told: list[Told], rules: Any, moment: datetime) -> None:
    expected = slow_model.balances(told, INVITERS, rules, moment, MIN_ORDER_FEN.get(rules, 1))
    for inviter in ("ann", "eve"):
        pending, available = expected.get(inviter, (0, 0))
        money = await till.money(inviter)
        has = money.available_fen + money.withdrawing_fen + money.withdrawn_fen - money.owed_fen
        assert (money.pending_fen, has) == (pending, available), inviter


async def withdraw_all(till: Till, *, is_sent: bool) -> None:
    """Let both inviters take out what they have, and have it paid, or wait for it."""
    for inviter in ("ann", "eve"):
        available_fen = (await till.money(inviter)).available_fen
        if available_fen >= MIN_FEN:
            await till.approved(available_fen, inviter)
    if is_sent:
        await till.sends()


@pytest.fixture(scope="module")
async def till_for_all(servers: EmbeddedServers) -> AsyncIterator[Till]:
    """One database for all examples: each begins with empty tables."""
    async with test_servers.database(servers) as dsn:
        database = await connect_postgres(dsn, max_connections=4, acquire_seconds=60, statement_seconds=60)
        yield assemble(database)
        await database.close()


async def begin(till: Till, rules: Any, **changes: Any) -> None:
    """Empty tables, and the relations of `INVITERS` under a program of these rules."""
    async with till.database.transaction() as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")
        await tx.execute(
            """
            DELETE FROM referral.commissions; DELETE FROM referral.commission_steps; DELETE FROM referral.terms;
            DELETE FROM referral.programs; DELETE FROM referral.relations; DELETE FROM referral.inviters;
            DELETE FROM referral.inviter_months; DELETE FROM shop.events; DELETE FROM shop.refund_lines;
            DELETE FROM shop.refunds; DELETE FROM shop.order_lines; DELETE FROM shop.orders;
            DELETE FROM ledger.transfers; DELETE FROM ledger.accounts; DELETE FROM ledger.house_moves;
            DELETE FROM ledger.house; DELETE FROM plumbing.outbox; DELETE FROM withdrawal.withdrawals;
            DELETE FROM withdrawal.days; DELETE FROM withdrawal.sandbox_payouts
            """
        )
    level_1, level_2 = [
        PercentRule(basis_points=points) if points else FixedRule(amount_fen=fixed) if fixed else None
        for points, fixed in rules
    ]
    await till.program(level_1=level_1, level_2=level_2, min_order_fen=MIN_ORDER_FEN.get(rules, 1), **changes)
    await till.bind("ann", "eve")
    await till.bind("bob", "ann")
    await till.bind("cat", "ann")


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
async def test_any_arrival_ends_in_what_the_orders_say(till_for_all: Till, rules: Any) -> None:
    till = till_for_all
    portal: list[tuple[Any, ...]] = []

    @examples(30)
    @given(stories, st.randoms(use_true_random=False))
    def collect(story: tuple[Told, ...], chance: random.Random) -> None:
        events = [event for order in story for event in events_of(order)]
        events += chance.sample(events, k=chance.randint(0, len(events)))  # told again
        chance.shuffle(events)
        portal.append((story, events, sorted(chance.sample(range(1, 40), k=2)), chance.random()))

    collect()
    for story, events, days, share in portal:
        await begin(till, rules)
        cut = round(len(events) * share)
        for event in events[:cut]:
            await till.tells(event)
        # The clock strikes and money is taken out in the middle of it; the clock strikes again after all was told.
        await till.settle(NOON + timedelta(days=days[0]))
        await withdraw_all(till, is_sent=share > 1 / 2)
        for event in events[cut:]:
            await till.tells(event)
        moment = NOON + timedelta(days=days[1])
        await till.settle(moment)
        await till.sends()
        await check(till, list(story), rules, moment)
        broken = await broken_laws(till.database)
        assert not broken, (broken, story)


STORY = [
    paid("o1", line("1", 9_999, 3), line("2", 5_001, 1)),
    refunded("o1", "r1", of(1, 3_333, "1")),
    refunded("o1", "r2", of(2, 6_666, "1"), of(0, 1, "2")),
    received("o1"),
]


@pytest.mark.parametrize("clock_strikes_before", [0, 2, 4])
async def test_every_permutation_of_one_order_ends_in_the_same_balance(
    till_for_all: Till, clock_strikes_before: int
) -> None:
    ends = set()
    for events in permutations(STORY):
        await begin(till_for_all, RULES["odd percents"])
        for number, event in enumerate(events):
            if number == clock_strikes_before:
                await till_for_all.settle(NOON + timedelta(days=30))
            await till_for_all.tells(event)
            await till_for_all.tells(event)
        await till_for_all.settle(NOON + timedelta(days=30))
        ends.add((await till_for_all.fen("ann"), await till_for_all.fen("eve"), await till_for_all.month("ann")))
    assert ends == {((0, 5_000 * 1733 // 10_000, 0, 0, 0), (0, 5_000 * 267 // 10_000, 0, 0, 0), 866)}
