"""Points as a means of payment: by the shop's hooks, each once, never more than there are."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from growth.plumbing.postgres import Database
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.spending.service import Spending
from growth.shop.service import Result, ShopService
from tests.rewards.ledger.test_ledger import DAY, NOON, gain, move
from tests.shop.telling import SECRET, event, tell

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(database: Database) -> ShopService:
    return ShopService(database, [], [SECRET], points=Spending())


def spent(spend_id: str = "s1", points: int = 100, **envelope: Any) -> dict[str, Any]:
    return event("points.spent", {"spend_id": spend_id, "user_id": "alice", "points": points}, **envelope)


def returned(return_id: str = "r1", points: int = 100, spend_id: str = "s1", **envelope: Any) -> dict[str, Any]:
    return event("points.returned", {"spend_id": spend_id, "return_id": return_id, "points": points}, **envelope)


async def points(database: Database, now: Any = NOON) -> int:
    return (await ledger.points(database, "alice", now)).points


def codes(results: list[Result]) -> list[tuple[str, str]]:
    return [(result.outcome.value, result.code) for result in results]


async def test_points_are_spent_once_however_often_it_is_told(database: Database, shop: ShopService) -> None:
    await move(database, gain(150))
    told = await tell(shop, spent(), spent(), spent(id_="another-event"))
    assert codes(told) == [("applied", ""), ("duplicate", "applied"), ("applied", "")]
    assert await points(database) == 50


async def test_of_20_spendings_of_the_same_100_points_one_is_applied(database: Database, shop: ShopService) -> None:
    await move(database, gain(100))
    told = await asyncio.gather(*[tell(shop, spent(f"s{n}")) for n in range(20)])
    outcomes = [outcome for results in told for outcome in codes(results)]
    assert sorted(outcomes) == [("applied", "")] + [("rejected", "points.insufficient")] * 19
    assert await points(database) == 0


async def test_a_spending_told_with_other_content_is_rejected(database: Database, shop: ShopService) -> None:
    await move(database, gain(150))
    told = await tell(shop, spent(points=100), spent(points=50))
    assert codes(told) == [("applied", ""), ("rejected", "points.other_content")]
    assert await points(database) == 50


async def test_points_come_back_in_parts_never_more_than_were_spent(database: Database, shop: ShopService) -> None:
    await move(database, gain(100))
    told = await tell(
        shop,
        returned("early", 1),
        spent(),
        returned("a", 30),
        returned("a", 30, id_="again"),
        returned("a", 31),
        returned("b", 71),
        returned("c", 70),
    )
    assert codes(told) == [
        ("rejected", "points.not_spent"),
        ("applied", ""),
        ("applied", ""),
        ("applied", ""),
        ("rejected", "points.other_content"),
        ("rejected", "points.more_than_spent"),
        ("applied", ""),
    ]
    assert await points(database) == 100


async def test_of_16_returns_at_once_none_is_beyond_what_was_spent(database: Database, shop: ShopService) -> None:
    await move(database, gain(100))
    await tell(shop, spent())
    told = await asyncio.gather(*[tell(shop, returned(f"r{n}", 40)) for n in range(16)])
    assert sum(results[0].outcome.value == "applied" for results in told) == 2
    assert await points(database) == 80


@pytest.mark.parametrize(("lasts_days", "comes_back_until_days"), [(2, 7), (30, 30)])
async def test_points_come_back_with_their_end_and_a_week_at_least(
    database: Database, shop: ShopService, lasts_days: int, comes_back_until_days: int
) -> None:
    await move(database, gain(100, expires_at=NOON + lasts_days * DAY))
    await tell(shop, spent(), returned(), now=NOON)
    (one,) = (await ledger.points(database, "alice", NOON)).expiring
    assert one.expires_at - NOON == timedelta(days=comes_back_until_days)
