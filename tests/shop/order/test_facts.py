"""An order is the same set of facts in every order of arrival: told in any, it ends as a fold of them from scratch."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from growth.embedded import EmbeddedServers
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.shop.order.service import ShopService, has_bought
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.shop.order.telling import JSON, SECRET, Recorder, at, broken, closed, event, line, of, placed, received, tell

pytestmark = pytest.mark.anyio

TABLES = "shop.events, shop.refund_lines, shop.refunds, shop.order_lines, shop.orders, shop.refunds_required"


class Line(Struct, frozen=True):
    """A line of the order as it was paid."""

    line_id: str
    units: int
    fen: int


class Story(Struct, frozen=True):
    """All that the shop tells of one order."""

    lines: list[Line]
    paid_fen: int
    refunds: list[list[tuple[str, int, int]]]
    is_placed: bool
    is_closed: bool
    is_received: bool


@st.composite
def stories(draw: st.DrawFn) -> Story:
    lines = [
        Line(str(number), draw(st.integers(1, 3)), draw(st.sampled_from([0, 1, 100, 250])))
        for number in range(1, draw(st.integers(1, 3)) + 1)
    ]
    cost = sum(one.fen for one in lines)
    # Of lines it has, more than they have, and of lines it has not.
    one_of = st.tuples(
        st.sampled_from([*[one.line_id for one in lines], "9"]),
        st.integers(0, 3),
        st.sampled_from([0, 1, 100, 250, cost, cost + 50]),
    ).filter(lambda told: told[1] > 0 or told[2] > 0)
    return Story(
        lines,
        draw(st.sampled_from([0, 1, cost // 2, cost, cost + 50])),
        draw(st.lists(st.lists(one_of, min_size=1, max_size=3, unique_by=lambda told: told[0]), max_size=4)),
        *(draw(st.booleans()) for _ in range(3)),
    )


def hooks_of(story: Story) -> list[JSON]:
    told = [line(one.line_id, units=one.units, amount_fen=one.fen) for one in story.lines]
    data = {"order_id": "o1", "user_id": "u1", "paid_at": at(2), "paid_fen": story.paid_fen, "lines": told}
    hooks = [event("order.paid", data)]
    for number, refund in enumerate(story.refunds):
        back = {"order_id": "o1", "refund_id": f"r{number}", "lines": [of(one[1], one[2], one[0]) for one in refund]}
        hooks.append(event("order.refunded", back, time=at(10 + number)))
    hooks += [placed("o1", line("7"))] * story.is_placed + [closed()] * story.is_closed
    return hooks + [received()] * story.is_received


def slow_spread(fen: int, amounts: list[int]) -> list[float]:
    cost = sum(amounts)
    return [float(amount) if fen >= cost else fen * amount / cost for amount in amounts]


def fold(story: Story) -> dict[str, Any]:
    """What the facts say, each by itself: no order, no arithmetic of ours."""
    units, fen = Counter[str](), Counter[str]()
    for refund in story.refunds:
        for line_id, told_units, told_fen in refund:
            units[line_id] += told_units
            fen[line_id] += told_fen
    cost = sum(one.fen for one in story.lines)
    is_all_back = 0 < max(cost, story.paid_fen) <= sum(fen.values())
    lines = {}
    for one in story.lines:
        back_units = min(one.units, units[one.line_id])
        back_fen = one.fen if is_all_back else min(one.fen, fen[one.line_id])
        lines[one.line_id] = (back_units, back_fen, back_units == one.units or 0 < one.fen == back_fen)
    costly = [lines[one.line_id][2] for one in story.lines if one.fen]
    return {
        "lines": lines,
        "is_refunded": all(costly) if costly else all(is_back for *_, is_back in lines.values()),
        "bought": story.paid_fen > 0 and cost > 0 and not all(costly),
        "received": datetime.fromisoformat(at(4)) if story.is_received else None,
        "closed": datetime.fromisoformat(at(3)) if story.is_closed else None,
    }


async def ended(recorder: Recorder, database: Database) -> dict[str, Any]:
    order = recorder.seen[-1]
    return {
        "lines": {one.line_id: (one.refunded_units, one.refunded_fen, one.is_refunded) for one in order.lines},
        "is_refunded": order.is_refunded,
        "bought": await has_bought(database, ["u1"]) == frozenset({"u1"}),
        "received": order.received_at,
        "closed": order.closed_at,
    }


@pytest.fixture(scope="module")
async def for_all(servers: EmbeddedServers) -> AsyncIterator[Database]:
    """One database for all examples: each begins with empty tables."""
    async with test_servers.database(servers) as dsn:
        database = await connect_postgres(dsn, max_connections=4, acquire_seconds=5, statement_seconds=10)
        yield database
        await database.close()


async def whole_refunds(database: Database) -> int:
    count: int = await database.fetchval(
        "SELECT count(*) FROM plumbing.outbox WHERE type = 'shop.order_refunded' AND (data ->> 'is_whole')::boolean"
    )
    return count


async def test_in_any_order_of_arrival_an_order_ends_as_a_fold_of_its_facts(for_all: Database) -> None:
    told: list[tuple[Story, list[JSON]]] = []

    @examples(60)
    @given(stories(), st.randoms(use_true_random=False))
    def collect(story: Story, chance: random.Random) -> None:
        hooks = hooks_of(story)
        # Told again: as it was delivered, and under a new id.
        again = chance.sample(hooks, k=chance.randint(0, len(hooks)))
        hooks += [one if chance.random() < 1 / 2 else one | {"id": f"again-{one['id']}"} for one in again]
        chance.shuffle(hooks)
        told.append((story, hooks))

    collect()
    for story, hooks in told:
        await for_all.fetch(f"TRUNCATE {TABLES}, plumbing.outbox CASCADE")
        recorder = Recorder()
        service = ShopService(for_all, [recorder], [SECRET])
        results = await tell(service, *hooks)
        assert {one.outcome for one in results} <= {"applied", "duplicate", "ignored"}, (story, results)
        should = fold(story)
        assert await ended(recorder, for_all) == should, (story, hooks)
        assert [one.paid_fen for one in recorder.seen[-1].lines] == pytest.approx(
            slow_spread(story.paid_fen, [one.fen for one in story.lines]), abs=1
        )
        assert sum(one.paid_fen for one in recorder.seen[-1].lines) == min(
            story.paid_fen, sum(one.fen for one in story.lines)
        )
        assert recorder.seen[-1].is_bought is should["bought"]
        is_told_whole = should["is_refunded"] and any(map(bool, story.refunds))
        assert await whole_refunds(for_all) == int(is_told_whole), (story, hooks)
        assert not await broken(for_all), story


CLAIMED: Sequence[JSON] = (of(1, 6_000), of(1, 6_000))


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
async def test_two_refunds_that_together_exceed_a_line_end_alike(
    database: Database, service: ShopService, recorder: Recorder, order: tuple[int, ...]
) -> None:
    data = {"order_id": "o1", "user_id": "u1", "paid_at": at(2), "paid_fen": 10_000, "lines": [line(amount_fen=10_000)]}
    refunds = [
        event("order.refunded", {"order_id": "o1", "refund_id": f"r{number}", "lines": [back]})
        for number, back in enumerate(CLAIMED)
    ]
    hooks = [event("order.paid", data), *refunds]
    results = await tell(service, *[hooks[index] for index in order])
    assert {one.outcome for one in results} == {"applied"}
    assert [one.code for one in results[-1].lines] == ["shop.refund_clipped"]
    assert (recorder.seen[-1].lines[0].refunded_units, recorder.seen[-1].lines[0].refunded_fen) == (2, 10_000)
    assert await database.fetchval("SELECT sum(amount_fen) FROM shop.refund_lines") == 12_000
