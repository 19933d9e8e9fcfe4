"""Adding a mechanic: a whole room, joined to a copy of the house by one line, and driven over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from growth import tables
from growth.house import ROOMS
from growth.plumbing.watch.invariants import read_invariants
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests.app import RunningApp, running_app
from tests.house.lucky_bag.room import room as lucky_bag
from tests.kit.invariants import violations

FOLDER = Path(__file__).with_name("lucky_bag")
MAX_LINES = 350
"""A mechanic with a campaign, a play, events and persons is no more than this."""

JSON = dict[str, Any]


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningApp]:
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute((FOLDER / "lucky_bag.sql").read_text(encoding="utf-8"))
    await connection.close()
    *below, privacy = ROOMS
    monkeypatch.setattr("growth.bootstrap.ROOMS", (*below, lucky_bag, privacy))
    async with running_app(postgres_dsn, redis_url) as running:
        yield running
        broken = await violations(
            running.growth.database, tuple(read_invariants(FOLDER / "invariants.sql", "lucky_bag"))
        )
        assert not broken, broken


def a_draft(**changes: Any) -> JSON:
    closes_at = (now() + timedelta(days=1)).isoformat()
    return {"title": "A bag of luck", "units_total": 3, "points": 50, "closes_at": closes_at} | changes


async def published(app: RunningApp, **changes: Any) -> str:
    made = await app.operator("POST", "/admin/v1/lucky-bags", a_draft(**changes))
    assert made.status_code == 201, made.text
    bag_id: str = made.json()["lucky_bag_id"]
    assert (await app.operator("POST", f"/admin/v1/lucky-bags/{bag_id}/publish")).status_code == 200
    return bag_id


async def opens(app: RunningApp, user_id: str, bag_id: str) -> JSON:
    answer = await app.shopper(user_id, "POST", f"/v1/lucky-bags/{bag_id}/open")
    told: JSON = answer.json()
    return told


async def points_of(app: RunningApp, user_id: str) -> int:
    return int((await app.shopper(user_id, "GET", "/v1/points")).json()["points"])


async def test_a_bag_is_drafted_checked_published_and_opened_once_a_shopper(app: RunningApp) -> None:
    checked = await app.operator("POST", "/admin/v1/lucky-bags/check", a_draft(title="转发有礼"))
    assert checked.status_code == 200
    assert checked.json()["findings"] != [], "rules on wording hold for every kind"
    bag_id = await published(app)

    first, again = await opens(app, "ann", bag_id), await opens(app, "ann", bag_id)

    assert (first["opened"], first["units_left"]) == (again["opened"], again["units_left"]) == (True, 2)
    assert await points_of(app, "ann") == 50


async def test_no_more_bags_are_opened_than_there_are_whoever_asks_at_once(app: RunningApp) -> None:
    bag_id = await published(app, units_total=3)

    told = await asyncio.gather(*[opens(app, f"u{number % 8}", bag_id) for number in range(24)])

    assert {one["code"] for one in told if "code" in one} == {"lucky_bag.sold_out"}
    assert sum([await points_of(app, f"u{number}") for number in range(8)]) == 3 * 50


async def test_without_the_guard_on_bags_the_rows_own_check_is_all_that_is_left(app: RunningApp) -> None:
    bag_id = await published(app, units_total=1)
    await opens(app, "ann", bag_id)
    with pytest.raises(asyncpg.CheckViolationError):
        async with app.growth.database.transaction() as tx:
            await tx.execute("UPDATE lucky_bag.campaigns SET taken = taken + 1")


async def test_a_bag_that_is_paused_or_over_is_not_opened(app: RunningApp) -> None:
    bag_id = await published(app)
    await app.operator("POST", f"/admin/v1/lucky-bags/{bag_id}/pause")
    assert (await opens(app, "ann", bag_id))["code"] == "lucky_bag.not_live"
    await app.operator("POST", f"/admin/v1/lucky-bags/{bag_id}/resume")
    assert (await opens(app, "ann", bag_id))["opened"]
    await app.operator("POST", f"/admin/v1/lucky-bags/{bag_id}/end")
    assert (await opens(app, "bob", bag_id))["code"] == "lucky_bag.not_live"


async def test_who_opened_a_bag_is_exported_merged_and_erased_like_everything_else(app: RunningApp) -> None:
    bag_id = await published(app)
    await opens(app, "ann", bag_id)
    await opens(app, "anna", bag_id)

    await app.operator("POST", "/admin/v1/shoppers/ann/merge", {"into": "anna", "reason": "one"}, role=Role.ADMIN)
    known = await app.operator("GET", "/admin/v1/shoppers/anna", role=Role.ADMIN)
    erased = await app.operator("DELETE", "/admin/v1/shoppers/anna?reason=asked", role=Role.ADMIN)

    assert known.json()["rooms"]["lucky_bag"] == [bag_id]
    assert erased.status_code == 200
    names = await app.growth.database.fetch("SELECT user_id FROM lucky_bag.openings")
    assert all(row["user_id"] not in {"ann", "anna"} for row in names)


async def test_the_house_tells_of_the_room_and_the_document_of_its_calls(app: RunningApp) -> None:
    page = tables.told(app.growth)
    assert "`POST /v1/lucky-bags/{lucky_bag_id:str}/open`" in page
    assert "`lucky_bag.end_over`" in page
    document = (await app.client.get("/openapi.json")).json()
    assert document["paths"]["/v1/lucky-bags/{lucky_bag_id}/open"]["post"]["operationId"] == "lucky_bag_open"
    assert "lucky_bag.sold_out" in document["components"]["examples"]


def test_a_mechanic_is_small() -> None:
    files = [path for path in FOLDER.glob("*") if path.suffix in {".py", ".sql"}]
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in files) <= MAX_LINES
