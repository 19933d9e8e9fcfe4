"""Points as a means of payment: by the shop's hooks, each once, never more than there are."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.plumbing.postgres.database import Database
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.spending.model import SpentFromLot, coming_back
from growth.rewards.ledger.spending.service import Spending
from growth.shop.order.service import Result, ShopService
from tests.rewards.ledger.test_ledger import DAY, NOON, gain, move, spend
from tests.shop.order.telling import SECRET, event, tell

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


async def test_a_return_heard_before_its_spending_is_applied_when_it_is_told_again(
    database: Database, shop: ShopService
) -> None:
    await move(database, gain(100))
    assert codes(await tell(shop, returned(), spent())) == [("rejected", "points.not_spent"), ("applied", "")]
    assert codes(await tell(shop, returned(), spent())) == [("applied", ""), ("duplicate", "applied")]
    assert await points(database) == 100


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


async def expiring(database: Database, now: Any = NOON) -> list[tuple[int, Any]]:
    return [(one.points, one.expires_at - NOON) for one in (await ledger.points(database, "alice", now)).expiring]


async def test_points_that_end_do_not_come_back_as_points_that_do_not(database: Database, shop: ShopService) -> None:
    """One endless point beside a hundred that end tomorrow made the hundred endless, by an order that was cancelled."""
    await move(database, gain(100, expires_at=NOON + DAY), gain(1))
    await tell(shop, spent(points=101), returned(points=100), now=NOON)
    assert await expiring(database) == [(100, 7 * DAY)]
    await tell(shop, returned("r2", 1), now=NOON)
    assert await expiring(database) == [(100, 7 * DAY)]
    assert await points(database) == 101
    assert await points(database, NOON + 7 * DAY) == 1


async def test_parts_of_a_return_have_the_ends_they_had(database: Database, shop: ShopService) -> None:
    lots = [gain(10, expires_at=NOON + days * DAY) for days in (1, 2, 20, 30)]
    await move(database, *lots, gain(5))
    await tell(shop, spent(points=45), returned("a", 15), returned("b", 10), returned("c", 20), now=NOON)
    assert await expiring(database) == [(20, 7 * DAY), (10, 20 * DAY), (10, 30 * DAY)]
    assert await points(database) == 45


async def test_no_ordering_and_cancelling_makes_points_last(database: Database, shop: ShopService) -> None:
    await move(database, gain(100, expires_at=NOON + DAY), gain(1))
    now = NOON
    for number in range(12):
        now += timedelta(hours=18)
        (answer,) = await tell(shop, spent(f"s{number}", await points(database, now)), now=now)
        assert answer.outcome.value == "applied"
        back = (await database.fetchval("SELECT points FROM ledger.spends WHERE spend_id = $1", f"s{number}")) or 0
        await tell(shop, returned("r", back, f"s{number}"), now=now)
    assert now == NOON + 9 * DAY
    assert await points(database, now) == 1


async def test_what_is_owed_is_paid_by_what_ends_first_of_a_return(database: Database, shop: ShopService) -> None:
    await move(database, gain(10, expires_at=NOON + 10 * DAY), gain(10, expires_at=NOON + 20 * DAY))
    await tell(shop, spent(points=20), now=NOON)
    await move(database, spend(4, may_owe=True))
    await tell(shop, returned(points=20), now=NOON)
    assert await expiring(database) == [(6, 10 * DAY), (10, 20 * DAY)]


@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2_000)), min_size=1, max_size=12),
)
def test_in_hand_points_last_a_week_longer_at_most_whatever_is_ordered_and_cancelled(
    days: int, cycles: list[tuple[int, int]]
) -> None:
    lot = SpentFromLot(lot_id="a", origin=None, amount=10, expires_at=NOON + days * DAY)
    now, in_hand = NOON, timedelta()
    for held, ordered in cycles:
        assert lot.expires_at is not None
        if now + timedelta(hours=held) >= lot.expires_at:
            break
        spent_at = now + timedelta(hours=held)
        in_hand += spent_at - now
        now = spent_at + timedelta(hours=ordered)
        (part,) = coming_back([lot], 0, 10, spent_at, now)
        assert part.expires_at is not None
        assert lot.expires_at <= part.expires_at <= max(lot.expires_at, now + timedelta(days=7))
        lot = SpentFromLot(lot_id="b", origin="a", amount=10, expires_at=part.expires_at)
    assert lot.expires_at is not None
    in_hand += max(lot.expires_at - now, timedelta())
    assert in_hand <= days * DAY + timedelta(days=7)


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from([None, 1, 3, 9, 30])), min_size=1, max_size=6), st.data())
def test_returns_in_any_parts_bring_back_what_one_return_would(
    lots: list[tuple[int, int | None]], data: st.DataObject
) -> None:
    lots = sorted(lots, key=lambda lot: (lot[1] is None, lot[1]))
    taken = [
        SpentFromLot(
            lot_id=str(number), origin=None, amount=amount, expires_at=None if end is None else NOON + end * DAY
        )
        for number, (amount, end) in enumerate(lots)
    ]
    total = sum(amount for amount, _ in lots)
    whole = coming_back(taken, 0, total, NOON, NOON)
    cut = data.draw(st.integers(1, total))
    parts = coming_back(taken, 0, cut, NOON, NOON)
    if cut < total:
        parts += coming_back(taken, cut, total - cut, NOON, NOON)
    summed: Counter[tuple[str, Any]] = Counter()
    for part in parts:
        summed[part.origin, part.expires_at] += part.amount
    assert summed == Counter({(part.origin, part.expires_at): part.amount for part in whole})
    assert whole == sorted(whole, key=lambda part: (part.expires_at is None, part.expires_at or NOON))
