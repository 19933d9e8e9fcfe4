"""Under a cap of the day, whatever is paid, paid back, received or voided: what stands never exceeds it."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.embedded import EmbeddedServers
from growth.mechanics.referral.model import Caps
from growth.plumbing.postgres.database import connect_postgres
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.mechanics.referral.commission.money import (
    Till,
    an_act,
    assemble,
    broken_laws,
    line,
    paid,
    received,
    refunded,
)
from tests.mechanics.referral.commission.test_permutations import begin
from tests.shop.order.telling import of

pytestmark = pytest.mark.anyio

CAP_FEN = 1_500
ORDERS = 4
PAID_FEN = (10_000, 7_000, 3_000, 20_000)


class Step(NamedTuple):
    """One thing that happens to one order; `fen` is of a refund."""

    what: str
    order: int
    fen: int


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """Each order is paid once; refunds never exceed it."""
    left = list(PAID_FEN)
    told: list[Step] = []
    unpaid = set(range(ORDERS))
    for _ in range(draw(st.integers(4, 14))):
        order = draw(st.integers(0, ORDERS - 1))
        if order in unpaid:
            unpaid.remove(order)
            told.append(Step("paid", order, 0))
            continue
        what = draw(st.sampled_from(["refunded", "refunded", "received", "void"]))
        fen = 0
        if what == "refunded":
            fen = draw(st.integers(0, left[order]))
            left[order] -= fen
            if not fen:
                continue
        told.append(Step(what, order, fen))
    return told


class Fold:
    """The slow truth: a day, and what each order stands at."""

    def __init__(self) -> None:
        self.kept = [0] * ORDERS
        self.stands: dict[int, int] = {}
        self.void, self.received = set[int](), set[int]()

    def tell(self, step: Step) -> None:
        """Only the order that something is heard of takes room, or gives it."""
        if step.what == "paid":
            self.kept[step.order] = PAID_FEN[step.order]
        elif step.what == "refunded":
            self.kept[step.order] -= step.fen
        elif step.what == "void":
            self.void.add(step.order)
        elif step.order in self.received:
            # Told twice is told once.
            return
        else:
            self.received.add(step.order)
        wants = 0 if step.order in self.void else self.kept[step.order] // 10
        others = sum(fen for order, fen in self.stands.items() if order != step.order)
        before = self.stands.get(step.order, 0)
        self.stands[step.order] = max(min(before, wants), min(wants, CAP_FEN - others), 0)


@pytest.fixture(scope="module")
async def till_for_all(servers: EmbeddedServers) -> AsyncIterator[Till]:
    """One database for all examples: each begins with empty tables."""
    async with test_servers.database(servers) as dsn:
        database = await connect_postgres(dsn, max_connections=4, acquire_seconds=5, statement_seconds=10)
        yield assemble(database)
        await database.close()


async def play(till: Till, step: Step) -> None:
    name, user_id = f"o{step.order}", ("bob", "cat")[step.order % 2]
    if step.what == "paid":
        await till.tells(paid(name, line(amount_fen=PAID_FEN[step.order]), user_id=user_id))
    elif step.what == "refunded":
        number = await till.database.fetchval("SELECT count(*) FROM shop.refunds")
        await till.tells(refunded(name, f"r{number}", of(0, step.fen)))
    elif step.what == "received":
        await till.tells(received(name))
    elif (one := await till.only(name)).state != "void":
        await till.commissions.void(an_act(), one.commission_id, "fake_orders")


async def test_a_day_under_a_cap_is_what_a_fold_of_its_orders_says(till_for_all: Till) -> None:
    till = till_for_all
    stories: list[list[Step]] = []

    @examples(40)
    @given(steps())
    def collect(story: list[Step]) -> None:
        stories.append(story)

    collect()
    rules: Any = ((1000, 0), (0, 0))
    for story in stories:
        await till.database.fetch("DELETE FROM referral.commission_days")
        await begin(till, rules, caps=Caps(commission_fen_per_day=CAP_FEN))
        fold = Fold()
        for step in story:
            await play(till, step)
            fold.tell(step)
            worth = {order: (await till.only(f"o{order}")).amount_fen for order in fold.stands}
            assert worth == fold.stands, (step, story)
            assert sum(worth.values()) <= CAP_FEN
        counted = await till.database.fetchval("SELECT coalesce(sum(fen), 0)::bigint FROM referral.commission_days")
        assert counted == sum(fold.stands.values()), story
        assert not await broken_laws(till.database), story
