"""What the shop tells of shoppers is in the same log, once, and never instead of a client."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from growth.plumbing.postgres.database import Database, Reader
from growth.shop.order.service import Result, ShopService
from growth.shopper.activity import store
from growth.shopper.activity.model import shop_event_id
from growth.shopper.activity.service import Events
from growth.vocabulary.activities import ActivityTold
from growth.vocabulary.refusals import Unavailable
from tests.shop.order.telling import SECRET, outcomes, paid
from tests.shop.order.telling import event as hook
from tests.shop.order.telling import tell as shop_tells
from tests.shopper.activity.telling import NOW, ago, event, names, tell

pytestmark = pytest.mark.anyio

CALLERS = 64


@pytest.fixture
def shop(database: Database, events: Events) -> ShopService:
    return ShopService(database, [], [SECRET], events)


def viewed(id_: str = "1", user_id: str = "u1", type_: str = "product.viewed", **data: Any) -> dict[str, Any]:
    return hook(type_, {"user_id": user_id, **data}, id_=id_, time=ago(minutes=1))


async def hears(shop: ShopService, *told: dict[str, Any]) -> list[Result]:
    return await shop_tells(shop, *told, now=NOW)


async def test_what_the_shop_tells_is_in_the_log_of_its_shopper(database: Database, shop: ShopService) -> None:
    results = await hears(shop, viewed(sku="tea", price=1.5), viewed("2", type_="live_room.entered", room="r1"))
    assert outcomes(results) == ["applied", "applied"]
    rows = await database.fetch("SELECT subject, type, data, at FROM activity.log ORDER BY position")
    assert [(row["subject"], row["type"], row["data"]) for row in rows] == [
        ("u1", "product.viewed", '{"sku":"tea","price":1.5}'),
        ("u1", "live_room.entered", '{"room":"r1"}'),
    ]
    assert rows[0]["at"] == NOW - timedelta(minutes=1)


async def test_told_again_it_is_a_duplicate_and_another_source_is_another(
    database: Database, shop: ShopService
) -> None:
    assert outcomes(await hears(shop, viewed(), viewed())) == ["applied", "duplicate applied"]
    assert outcomes(await hears(shop, viewed(), viewed() | {"source": "pos"})) == ["duplicate applied", "applied"]
    assert len(await names(database)) == 2


async def test_a_client_cannot_take_the_name_of_what_the_shop_will_tell(
    database: Database, shop: ShopService, events: Events
) -> None:
    name = shop_event_id("shop", "1")
    assert (await tell(events, event(name))).rejected[0].code == "event.bad_id"
    assert (await tell(events, event(name.replace("/", ":")))).accepted == 1
    assert outcomes(await hears(shop, viewed())) == ["applied"]
    assert len(await names(database)) == 2


def test_source_and_id_do_not_run_into_each_other() -> None:
    assert shop_event_id("a", "bc") != shop_event_id("ab", "c")
    assert len(shop_event_id("s" * 256, "i" * 256)) <= 64


BAD: list[tuple[dict[str, Any], str, str]] = [
    (viewed(type_="flash_sale.claim_held"), "event.reserved_type", "type"),
    (viewed(type_="shop.opened"), "event.reserved_type", "type"),
    (viewed() | {"data": None}, "event.bad_data", "data"),
    (viewed() | {"data": [1]}, "event.bad_data", "data"),
    (viewed() | {"data": {}}, "event.bad_data", "data.user_id"),
    (viewed(user_id="a\n"), "event.bad_data", "data.user_id"),
    (viewed(user_id=""), "event.bad_data", "data.user_id"),
    (viewed(deep={"a": 1}), "event.bad_data", "data"),
    (viewed(big=2**62, list=[1]), "event.bad_data", "data"),
    (viewed(note="x" * 257), "event.data_too_large", "data"),
    (
        viewed() | {"data": {"user_id": "u1"} | {f"k{number}": 1 for number in range(21)}},
        "event.data_too_large",
        "data",
    ),
    (viewed() | {"time": ago(days=7, seconds=1)}, "event.too_old", "at"),
    (viewed() | {"time": ago(minutes=-6)}, "event.in_future", "at"),
]


async def test_what_cannot_be_read_is_rejected_with_the_field_and_spares_its_neighbours(
    database: Database, shop: ShopService
) -> None:
    told = [one | {"id": f"bad-{place}"} for place, (one, _, _) in enumerate(BAD)]
    results = await hears(shop, viewed("first"), *told, viewed("last"))
    assert outcomes(results) == ["applied", *(f"rejected {code}" for _, code, _ in BAD), "applied"]
    for result, (_, _, field) in zip(results[1:-1], BAD, strict=True):
        assert result.detail.startswith(field), result.detail
    assert len(await names(database)) == 2


@pytest.mark.parametrize("type_", ["Odd", "one", "a.b.c.d.e", "a..b", ".a", "a.", "x" * 33 + ".y", "order paid.now"])
async def test_types_of_another_form_are_ignored_as_before(database: Database, events: Events, type_: str) -> None:
    told = ActivityTold(source="shop", id="1", type=type_, at=NOW, data={"user_id": "u1"})
    (heard,) = await events.hear([told], NOW)
    assert (heard.outcome, heard.code) == ("ignored", "shop.no_listener")
    assert await names(database) == []


async def test_activities_and_orders_of_one_hook_are_answered_in_their_order(
    database: Database, shop: ShopService
) -> None:
    results = await hears(shop, viewed("1"), paid("o1"), viewed("2", type_="Odd"), paid("o1"), viewed("1"))
    assert [result.id for result in results] == ["1", results[1].id, "2", results[1].id, "1"]
    assert outcomes(results) == [
        "applied",
        "applied",
        "ignored shop.no_listener",
        "duplicate applied",
        "duplicate applied",
    ]
    assert len(await names(database)) == 1


async def test_of_64_hooks_with_the_same_activity_one_is_applied(database: Database, shop: ShopService) -> None:
    answers = await asyncio.gather(*(hears(shop, viewed(), viewed(str(place))) for place in range(2, CALLERS + 2)))
    first = sorted(outcomes(results)[0] for results in answers)
    assert first == ["applied"] + ["duplicate applied"] * (CALLERS - 1)
    assert len(await names(database)) == CALLERS + 1


async def test_without_postgres_the_whole_hook_comes_again(
    database: Database, shop: ShopService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Reader, __: object, *___: Any) -> frozenset[int]:
        raise Unavailable("Postgres did not answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "write", fail)
        with pytest.raises(Unavailable):
            await hears(shop, viewed(), paid("o1"))
    assert outcomes(await hears(shop, viewed(), paid("o1"))) == ["applied", "applied"]
    assert len(await names(database)) == 1


async def test_a_bug_with_activities_keeps_no_order_waiting(
    database: Database, shop: ShopService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Reader, __: object, *___: Any) -> frozenset[int]:
        raise ValueError("a bug")

    monkeypatch.setattr(store, "write", fail)
    with pytest.raises(RuntimeError):
        await hears(shop, viewed(), paid("o1"))
    assert await database.fetchval("SELECT count(*) FROM shop.orders") == 1
