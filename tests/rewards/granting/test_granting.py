"""Granting: each key once, never beyond a budget, taken back once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.rewards.granting import service, store
from growth.rewards.granting.model import Budget, Grant, Granted, Revoked, Spent
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency
from growth.rewards.ledger.spending.service import Spending
from growth.vocabulary.ids import new_id
from growth.vocabulary.rewards import (
    CommissionReward,
    CouponReward,
    FreezeCardReward,
    GrowthReward,
    MakeUpCardReward,
    PointsReward,
)
from tests.kit.invariants import violations
from tests.queueing import queued

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    opened = await connect_postgres(postgres_dsn, max_connections=16, acquire_seconds=20, statement_seconds=20)
    yield opened
    assert await violations(opened) == []
    await opened.close()


def a_grant(key: str, points: int = 10, **changes: Any) -> Grant:
    plain: dict[str, Any] = {
        "user_id": "alice",
        "reward": PointsReward(points=points),
        "reason": "checkin.day",
        "key": key,
    }
    return Grant(**plain | changes)


async def give(database: Database, *grants: Grant, now: datetime = NOON) -> list[Granted]:
    async with database.transaction() as tx:
        return await service.grant(tx, grants, now)


async def put_budget(database: Database, **limits: Any) -> str:
    budget_id = new_id(NOON)
    async with database.transaction() as tx:
        await service.set_budget(tx, budget_id, Budget(**limits), "Asia/Shanghai")
    return budget_id


async def points(database: Database, user_id: str = "alice") -> int:
    return (await ledger.points(database, user_id, NOON)).points


async def test_a_key_is_granted_once_whoever_asks_again(database: Database) -> None:
    told = await asyncio.gather(*[give(database, a_grant("a")) for _ in range(64)])
    assert sorted(one.outcome for (one,) in told) == ["already"] * 63 + ["granted"]
    assert await points(database) == 10
    assert await database.fetchval("SELECT count(*) FROM plumbing.outbox WHERE type = 'granting.granted'") == 1


async def test_every_kind_of_reward_reaches_its_account(database: Database) -> None:
    rewards = [
        PointsReward(points=5, valid_days=1),
        GrowthReward(growth=6),
        CommissionReward(amount_fen=700),
        MakeUpCardReward(cards=2),
        FreezeCardReward(cards=3),
    ]
    await give(database, *[a_grant(str(n), reward=reward) for n, reward in enumerate(rewards)])
    told = await ledger.balances(database, "alice")
    assert {currency.value: balance.posted for currency, balance in told.items()} == {
        "points": 5,
        "growth": 6,
        "commission": 700,
        "make_up_card": 2,
        "freeze_card": 3,
    }
    assert (await ledger.points(database, "alice", NOON)).expiring[0].expires_at == NOON + timedelta(days=1)


async def test_a_coupon_of_no_template_is_gone_for_good_and_takes_nothing_else_with_it(database: Database) -> None:
    gone = a_grant("coupon", reward=CouponReward(template_id=new_id(NOON)))
    assert await give(database, gone, a_grant("points")) == [
        Granted("coupon", "coupon_gone"),
        Granted("points", "granted"),
    ]
    assert await give(database, gone) == [Granted("coupon", "already")]


async def test_64_grants_from_a_budget_of_ten_are_ten(database: Database) -> None:
    budget = await put_budget(database, max_grants=10)
    told = await asyncio.gather(*[give(database, a_grant(str(n), budget_id=budget)) for n in range(64)])
    assert sorted(one.outcome for (one,) in told) == ["budget_spent"] * 54 + ["granted"] * 10
    assert await points(database) == 100
    assert await service.spent(database, [budget], NOON) == {budget: Spent(10, 100)}


async def test_a_batch_that_a_budget_cannot_pay_whole_is_paid_as_far_as_it_goes(database: Database) -> None:
    budget = await put_budget(database, max_value=25)
    asked = [a_grant(str(n), points, budget_id=budget) for n, points in enumerate((10, 20, 10, 5, 5))]
    told = await give(database, *asked)
    assert [one.outcome for one in told] == ["granted", "budget_spent", "granted", "granted", "budget_spent"]
    assert await points(database) == 25


async def test_a_key_asked_for_again_costs_its_budget_nothing(database: Database) -> None:
    budget = await put_budget(database, max_grants=2)
    for _ in range(3):
        await give(database, a_grant("a", budget_id=budget))
    assert (await give(database, a_grant("b", budget_id=budget)))[0].outcome == "granted"


async def test_a_daily_budget_is_new_at_midnight_of_the_merchant(database: Database) -> None:
    budget = await put_budget(database, max_grants=1, per="day")
    late = datetime(2026, 11, 25, 15, 59, 59, tzinfo=UTC)
    moments = [NOON, late, late + timedelta(seconds=1), late + timedelta(hours=1)]
    told = [await give(database, a_grant(str(n), budget_id=budget), now=now) for n, now in enumerate(moments)]
    assert [one.outcome for (one,) in told] == ["granted", "budget_spent", "granted", "budget_spent"]


async def test_without_the_guard_on_budgets_they_are_overspent(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = await put_budget(database, max_grants=1)

    async def unguarded(_tx: Any, charges: Any, _now: datetime) -> frozenset[str]:
        return frozenset(charge.budget_id for charge in charges)

    monkeypatch.setattr(store, "charge", unguarded)
    told = await give(database, *[a_grant(str(n), budget_id=budget) for n in range(4)])
    assert [one.outcome for one in told] == ["granted"] * 4


async def test_a_budget_lowered_below_what_was_given_gives_no_more(database: Database) -> None:
    budget = await put_budget(database, max_grants=5)
    await give(database, *[a_grant(str(n), budget_id=budget) for n in range(4)])
    async with database.transaction() as tx:
        await service.set_budget(tx, budget, Budget(max_grants=2), "Asia/Shanghai")
    assert (await give(database, a_grant("late", budget_id=budget)))[0].outcome == "budget_spent"


async def test_what_is_taken_back_is_taken_once_and_owed_if_it_was_spent(database: Database) -> None:
    await give(database, a_grant("a"), a_grant("b", reward=GrowthReward(growth=7)))

    async def take() -> list[Revoked]:
        async with database.transaction() as tx:
            return await service.revoke(tx, ["a", "b", "never"], "task.undone", NOON)

    told = await asyncio.gather(*[take() for _ in range(16)])
    outcomes = [one.outcome for batch in told for one in batch]
    assert outcomes.count("revoked") == 2
    assert await points(database) == 0
    assert (await ledger.balances(database, "alice"))[Currency.GROWTH].posted == 0
    assert await give(database, a_grant("a")) == [Granted("a", "already")]


async def test_a_grant_in_a_transaction_that_dies_was_never_given(database: Database) -> None:
    async def die() -> None:
        async with database.transaction() as tx:
            await service.grant(tx, [a_grant("a")], NOON)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await die()
    assert await points(database) == 0
    assert (await give(database, a_grant("a")))[0].outcome == "granted"


async def test_a_key_named_twice_in_one_call_is_given_once_and_the_second_hears_already(database: Database) -> None:
    """Two shoppers who became one in between may both have earned it: a reader that fails on that stands for ever."""
    told = await give(database, a_grant("a"), a_grant("a"), a_grant("a", user_id="bob"), a_grant("b"))
    assert [one.outcome for one in told] == ["granted", "already", "already", "granted"]
    assert (await points(database), await points(database, "bob")) == (20, 0)


async def test_more_than_one_statement_takes_is_given_and_taken_back_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_GRANTS", 2)
    keys = ["a", "b", "c", "a", "d"]
    told = await give(database, *[a_grant(key) for key in keys])
    assert told == [Granted(key, "granted") for key in "abc"] + [Granted("a", "already"), Granted("d", "granted")]
    assert await points(database) == 40
    async with database.transaction() as tx:
        revoked = await service.revoke(tx, keys, "task.undone", NOON)
    assert revoked == [Revoked(key, "revoked") for key in "abc"] + [Revoked("a", "already"), Revoked("d", "revoked")]
    assert await points(database) == 0


async def test_points_that_ended_are_not_taken_a_second_time(database: Database) -> None:
    lasting = PointsReward(points=50, valid_days=10)
    await give(database, a_grant("a", reward=lasting), a_grant("b", reward=lasting), a_grant("c", points=7))
    async with database.transaction() as tx:
        await service.revoke(tx, ["a"], "test.undone", NOON + timedelta(days=11))
    async with database.transaction() as tx:
        await service.revoke(tx, ["b", "c"], "test.undone", NOON + timedelta(days=11))
    held = await ledger.points(database, "alice", NOON + timedelta(days=11))
    assert (held.points, held.owed) == (0, 0)
    await give(database, a_grant("d", points=50), now=NOON + timedelta(days=11))
    assert await points(database) == 50


async def test_of_points_that_were_spent_before_they_ended_only_those_are_owed(database: Database) -> None:
    await give(database, a_grant("a", reward=PointsReward(points=50, valid_days=10)))
    async with database.transaction() as tx:
        assert await Spending().spend(tx, "order", "alice", 30, NOON) == ""
    later = NOON + timedelta(days=30)
    async with database.transaction() as tx:
        # They come back for a week, and end as well.
        assert await Spending().give_back(tx, "order", "r", 10, NOON + timedelta(days=12)) == ""
    async with database.transaction() as tx:
        await service.revoke(tx, ["a"], "test.undone", later)
    held = await ledger.points(database, "alice", later)
    assert (held.points, held.owed) == (0, 20)


async def test_without_looking_what_ended_it_is_owed_as_well(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> dict[str, int]:
        return {}

    monkeypatch.setattr(ledger, "ended", nothing)
    later = NOON + timedelta(days=11)
    await give(database, a_grant("a", reward=PointsReward(points=50, valid_days=10)))
    async with database.transaction() as tx:
        await service.revoke(tx, ["a"], "test.undone", later)
    assert (await ledger.points(database, "alice", later)).owed == 50


# --- budgets count what stands ----------------------------------------------------------------------------------------


async def take_back(database: Database, *keys: str) -> None:
    async with database.transaction() as tx:
        await service.revoke(tx, keys, "test.undone", NOON)


async def lower(database: Database, **rewards: Any) -> None:
    async with database.transaction() as tx:
        await service.lower(tx, rewards, "test.lowered", NOON)


@pytest.mark.parametrize("per", ["all", "day"])
async def test_what_was_taken_back_returns_to_the_budget_of_its_day(database: Database, per: str) -> None:
    budget = await put_budget(database, max_grants=2, max_value=30, per=per)
    await give(database, a_grant("a", budget_id=budget), a_grant("b", 20, budget_id=budget))
    assert [one.outcome for one in await give(database, a_grant("c", budget_id=budget))] == ["budget_spent"]
    for _ in range(2):
        await take_back(database, "a")
        assert await service.spent(database, [budget], NOON) == {budget: Spent(1, 20)}
    assert [one.outcome for one in await give(database, a_grant("d", budget_id=budget))] == ["granted"]
    # Of another day, it is that day's that has room again.
    tomorrow = NOON + timedelta(days=1)
    await give(database, a_grant("e", budget_id=budget), now=tomorrow)
    await take_back(database, "b")
    assert (await service.spent(database, [budget], NOON))[budget] == Spent(1, 10)
    assert (await service.spent(database, [budget], tomorrow))[budget] == (Spent(1, 10))


async def test_64_grants_that_are_taken_back_at_once_leave_a_budget_whole(database: Database) -> None:
    budget = await put_budget(database, max_grants=64)
    await give(database, *[a_grant(str(n), budget_id=budget) for n in range(64)])
    keys = [str(n) for n in range(64)]
    await asyncio.gather(*[take_back(database, *keys[n::8], *keys[::-1][n::8]) for n in range(8)])
    assert await service.spent(database, [budget], NOON) == {budget: Spent(0, 0)}
    assert await points(database) == 0


async def test_part_of_a_grant_is_taken_back_once_and_then_the_rest(database: Database) -> None:
    budget = await put_budget(database, max_value=100)
    await give(database, a_grant("a", 100, budget_id=budget))
    for _ in range(2):
        await lower(database, a=PointsReward(points=80))
        assert await points(database) == 80
        assert await service.spent(database, [budget], NOON) == {budget: Spent(1, 80)}
    # What is smaller already, of another kind, or unknown stays as it is.
    await lower(database, a=PointsReward(points=90), b=PointsReward(points=1))
    await lower(database, a=GrowthReward(growth=1))
    assert await points(database) == 80
    await lower(database, a=PointsReward(points=1))
    await take_back(database, "a")
    await lower(database, a=PointsReward(points=1))
    assert await points(database) == 0
    assert await service.spent(database, [budget], NOON) == {budget: Spent(0, 0)}
    rows = await database.fetch(
        "SELECT data::jsonb AS data FROM plumbing.outbox WHERE type = 'granting.revoked' ORDER BY xid, position"
    )
    assert [row["data"]["reward"]["points"] for row in rows] == [20, 79, 1]


@pytest.mark.parametrize(("first", "second", "left"), [(32, 20, 20), (20, 32, 20)])
async def test_of_two_lowerings_of_one_grant_the_lower_counts(
    database: Database, first: int, second: int, left: int
) -> None:
    await give(database, a_grant("a", 100))
    lowerings = [lower(database, a=PointsReward(points=points)) for points in (first, second)]
    await queued(database, "SELECT FROM granting.grants WHERE key = $1 FOR NO KEY UPDATE", ["a"], *lowerings)
    assert await points(database) == left


async def test_of_a_grant_lowered_by_many_at_once_no_more_is_taken_than_was_given(database: Database) -> None:
    await give(database, a_grant("a", 100))
    await asyncio.gather(*[lower(database, a=PointsReward(points=left)) for left in range(20, 52)])
    assert await points(database) == 20
