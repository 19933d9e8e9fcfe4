"""Events that wait together are decided together, and end as if each had come alone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from growth.plumbing.outbox.outbox import Envelope, Subscription, deliver
from growth.plumbing.postgres.database import CommitUnknown, Crossed, Database, Tx
from growth.shop.order.batch import HeardEvent
from growth.shop.order.service import ShopService
from growth.vocabulary.orders import LineOutcome, Order
from growth.vocabulary.refusals import Unavailable
from tests.shop.order.telling import (
    JSON,
    SECRET,
    Recorder,
    closed,
    line,
    outcomes,
    paid,
    placed,
    received,
    refunded,
    stored,
    tell,
)

pytestmark = pytest.mark.anyio

MAX_STATEMENTS = 12
"""Of a batch, BEGIN and COMMIT among them, whatever its size."""
BATCH = 100
STORIES = 12


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What is asked of Postgres in transactions, by its first line."""
    asked, real = Counter[str](), Tx.__init__

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(query: str, *args: object) -> Any:
            asked[query.strip().partition("\n")[0]] += 1
            return await call(query, *args)

        return counted

    def begin(tx: Tx, *args: Any) -> None:
        real(tx, *args)
        for name in ("execute", "fetch", "fetchrow", "fetchval"):
            setattr(tx, name, counting(getattr(tx, name)))

    monkeypatch.setattr(Tx, "__init__", begin)
    return asked


@pytest.mark.parametrize("size", [1, 10, BATCH])
async def test_a_batch_of_payments_costs_the_same_few_statements_whatever_its_size(
    service: ShopService, statements: Counter[str], size: int
) -> None:
    told = [paid(f"o{number}", user_id=f"u{number}") for number in range(size)]
    assert outcomes(await tell(service, *told)) == ["applied"] * size
    assert statements.total() + 2 <= MAX_STATEMENTS, statements


async def test_orders_that_were_placed_before_are_paid_together(service: ShopService, statements: Counter[str]) -> None:
    await tell(service, *[placed(f"o{number}", user_id=f"u{number}") for number in range(BATCH)])
    statements.clear()
    await tell(service, *[paid(f"o{number}", user_id=f"u{number}") for number in range(BATCH)])
    assert statements.total() + 2 <= MAX_STATEMENTS + 2, "the lines that were placed give way, refunds are looked for"


# --- as if each had come alone ----------------------------------------------------------------------------------------


def a_story(random: Random, prefix: str, number: int) -> list[JSON]:
    """What may happen to one order; some orders share a shopper."""
    order_id, user_id = f"{prefix}-o{number}", f"{prefix}-u{number % 5}"
    goods = line("1", units=2, amount_fen=200 if random.random() < 0.8 else 0)
    told = [
        placed(order_id, goods, user_id=user_id),
        paid(order_id, goods, user_id=user_id),
        refunded(order_id, "r1"),
        refunded(order_id, "r2", {"line_id": "1", "units": 1, "amount_fen": 100}),
        closed(order_id),
        received(order_id),
    ]
    return random.sample(told, random.randint(1, len(told)))


async def told_of(database: Database, prefix: str) -> Counter[tuple[str, str]]:
    """Which events were told, by order."""
    heard: list[Any] = []

    async def handle(_: Tx, envelopes: Sequence[Envelope]) -> None:
        heard.extend(envelope.event for envelope in envelopes)

    while await deliver(database, Subscription(f"seen-{prefix}", None, handle)):
        pass
    return Counter(
        (event.__struct_config__.tag, event.order_id.removeprefix(prefix))
        for event in heard
        if event.order_id.startswith(prefix)
    )


@pytest.mark.parametrize("seed", range(6))
async def test_a_hook_of_many_events_ends_as_many_hooks_do(database: Database, service: ShopService, seed: int) -> None:
    def events(prefix: str) -> list[JSON]:
        random = Random(seed)
        told = [one for number in range(STORIES) for one in a_story(random, prefix, number)]
        told += random.sample(told, 5)
        random.shuffle(told)
        return told

    together = outcomes(await tell(service, *events("a")))
    alone = [outcome for one in events("b") for outcome in outcomes(await tell(service, one))]
    assert together == alone
    facts = await stored(database)
    for name in ("orders", "lines", "refunds", "refund_lines"):
        seen = [
            {
                tuple(str(value).removeprefix(f"{prefix}-") for value in row if not isinstance(value, bytes))
                for row in facts[name]
                if row[0].startswith(f"{prefix}-")
            }
            for prefix in "ab"
        ]
        assert seen[0] == seen[1], name
    one, other = await told_of(database, "a-"), await told_of(database, "b-")
    # Of one batch, what a shopper's other orders are is told once, not after each event.
    assert {key: n for key, n in one.items() if key[0] != "shop.order_corrected"} == {
        key: n for key, n in other.items() if key[0] != "shop.order_corrected"
    }


async def test_without_being_kept_apart_one_of_two_facts_of_an_order_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeardEvent, "keys", property(lambda self: (id(self),)))
    service = ShopService(database, [], [SECRET])
    assert outcomes(await tell(service, placed(), paid())) == ["applied", "applied"]
    assert await database.fetchval("SELECT placed_at FROM shop.orders") is None


# --- when something fails ---------------------------------------------------------------------------------------------


async def test_one_event_that_fails_costs_its_neighbours_nothing(database: Database) -> None:
    async def settle(_: Tx, order: Order) -> Sequence[LineOutcome]:
        if order.order_id == "o7":
            raise LookupError
        return ()

    service = ShopService(database, [Recorder(settle)], [SECRET])
    told = [paid(f"o{number}", user_id=f"u{number}") for number in range(10)]
    with pytest.raises(RuntimeError):
        await tell(service, *told)
    assert sorted(row[0] for row in (await stored(database))["orders"]) == [f"o{n}" for n in range(10) if n != 7]


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_one_that_fails_costs_those_of_its_shopper_nothing_each_of_which_is_decided_alone(
    database: Database, at: int
) -> None:
    async def settle(_: Tx, order: Order) -> Sequence[LineOutcome]:
        if order.order_id == "bad":
            raise LookupError
        return ()

    service = ShopService(database, [Recorder(settle)], [SECRET])
    told = [paid("o0"), paid("o1")]
    told.insert(at, paid("bad"))
    with pytest.raises(RuntimeError):
        await tell(service, *told, paid("o2", user_id="u2"))
    assert sorted(row[0] for row in (await stored(database))["orders"]) == ["o0", "o1", "o2"]


async def test_one_that_fails_costs_no_other_hook_its_answer(database: Database) -> None:
    async def settle(_: Tx, order: Order) -> Sequence[LineOutcome]:
        if order.order_id == "bad":
            raise LookupError
        return ()

    service = ShopService(database, [Recorder(settle)], [SECRET])
    answers = await asyncio.gather(
        *[tell(service, paid(one)) for one in ("first", "bad", "good")], return_exceptions=True
    )
    assert [isinstance(one, RuntimeError) for one in answers] == [False, True, False]


async def test_whom_another_transaction_is_in_the_way_of_is_alone_asked_to_come_back(database: Database) -> None:
    async def settle(_: Tx, order: Order) -> Sequence[LineOutcome]:
        if order.order_id == "bad":
            raise Crossed("another was in the way")
        return ()

    service = ShopService(database, [Recorder(settle)], [SECRET])
    told = [paid(one, user_id=one) for one in ("o0", "bad", "o1")]
    with pytest.raises(Unavailable):
        await tell(service, *told)
    assert sorted(row[0] for row in (await stored(database))["orders"]) == ["o0", "o1"]


async def test_while_postgres_is_gone_nobody_waits_for_each_to_find_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    @asynccontextmanager
    async def gone(_: Database, **how: Any) -> AsyncIterator[None]:
        nonlocal tries
        tries += 1
        if how:
            raise Unavailable("Postgres did not answer")
        yield None

    service = ShopService(database, [], [SECRET])
    monkeypatch.setattr(Database, "transaction", gone)
    with pytest.raises(Unavailable):
        await tell(service, *[paid(f"o{number}") for number in range(BATCH)])
    assert tries == 1


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        (paid("o1"), "duplicate applied"),
        (paid("o1", user_id="u2", id_="other"), "rejected shop.contradicts"),
        (paid("o2"), "applied"),
    ],
)
async def test_a_commit_of_unknown_outcome_changes_no_answer(
    database: Database, service: ShopService, monkeypatch: pytest.MonkeyPatch, told: JSON, answer: str
) -> None:
    await tell(service, paid("o1"))
    real, cuts = Database.transaction, 1

    @asynccontextmanager
    async def cut(self: Database, **how: Any) -> AsyncIterator[Tx]:
        nonlocal cuts
        async with real(self, **how) as tx:
            yield tx
        if cuts:
            cuts -= 1
            raise CommitUnknown("the connection was lost at COMMIT")

    monkeypatch.setattr(Database, "transaction", cut)
    assert outcomes(await tell(service, told)) == [answer]
    assert cuts == 0
