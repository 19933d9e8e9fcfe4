"""Series as operators run them over HTTP."""

from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from growth.mechanics.flash_sale.board import SaleBoard
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests.app import RunningApp, running_app
from tests.mechanics.flash_sale.series.test_plans import PLAN, an_item

pytestmark = pytest.mark.anyio

PATH = "/admin/v1/flash-sale-series"
CONFLICT = 409


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app


def a_body(**changes: Any) -> dict[str, Any]:
    """A round a day, the next one tomorrow at the latest."""
    today = now().astimezone(ZoneInfo(PLAN["zone"])).date()
    return (
        PLAN
        | {"from_day": today.isoformat(), "days_of_week": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}
        | changes
    )


async def visible(app: RunningApp) -> list[dict[str, Any]]:
    """The sales that shoppers see, now and not in half a second."""
    await app.growth.of(SaleBoard).refresh_catalogue()
    listed = await app.shopper("alice", "GET", "/v1/flash-sales")
    sales: list[dict[str, Any]] = listed.json()["items"]
    return sales


async def test_a_series_from_draft_to_end(app: RunningApp) -> None:
    made = await app.operator("POST", PATH, a_body(), idempotency_key="k1")
    assert made.status_code == 201, made.text
    series = made.json()
    assert made.headers["etag"] == '"1"'
    path = f"{PATH}/{series['series_id']}"
    again = await app.operator("POST", PATH, a_body(), idempotency_key="k1")
    assert (again.json(), again.headers["idempotent-replayed"]) == (series, "true")

    shown = await app.operator("POST", f"{path}/dry-run", {}, role=Role.VIEWER)
    rounds = shown.json()["rounds"]
    assert len(rounds) == 10
    assert rounds[0]["opens_local"].endswith(" 20:00 +08:00")
    assert rounds[0]["sales"] == [{"sku": "tea", "would": "plan", "sale_id": None, "because": None}]
    later = await app.operator("POST", f"{path}/dry-run", {"now": rounds[4]["opens_at"]}, role=Role.VIEWER)
    assert later.json()["rounds"][0] == rounds[5]

    running = (await app.operator("POST", f"{path}/publish")).json()
    assert (running["state"], running["version"]) == ("published", 2)
    sales = await visible(app)
    assert {sale["series_id"] for sale in sales} == {series["series_id"]}
    assert len(sales) == 7

    edit = a_body(items=[an_item(units_total=50)])
    assert (await app.operator("PUT", path, edit)).status_code == 412
    assert (await app.operator("PUT", path, edit, if_match='"1"')).status_code == 412
    edited = await app.operator("PUT", path, edit, if_match='"2"')
    assert (edited.json()["items"][0]["units_total"], edited.headers["etag"]) == (50, '"3"')

    assert (await app.operator("POST", f"{path}/pause")).json()["state"] == "paused"
    again = await app.operator("POST", f"{path}/pause")
    assert (again.status_code, again.json()["code"]) == (CONFLICT, "flash_sale.series_wrong_state")
    assert (await app.operator("POST", f"{path}/resume")).json()["state"] == "published"
    stats = (await app.operator("GET", f"{path}/stats?limit=3", role=Role.VIEWER)).json()
    assert [len(stats["items"]), stats["state"]] == [3, "published"]
    more = (await app.operator("GET", f"{path}/stats?limit=5&cursor={stats['next_cursor']}")).json()
    assert (len(more["items"]), more["next_cursor"]) == (4, None)

    assert (await app.operator("POST", f"{path}/end")).json()["state"] == "ended"
    found = await app.operator("GET", path, role=Role.VIEWER)
    assert (found.json()["state"], found.json()["skipped"]) == ("ended", [])
    listed = await app.operator("GET", f"{PATH}?state=ended", role=Role.VIEWER)
    assert [one["series_id"] for one in listed.json()["items"]] == [series["series_id"]]
    assert (await app.operator("GET", f"{PATH}?state=draft", role=Role.VIEWER)).json()["items"] == []


async def test_what_does_not_fit_is_named(app: RunningApp) -> None:
    refused = await app.operator("POST", PATH, a_body(zone="Mars/Phobos", days_of_week=["mon", "mon"]))
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == ["zone", "days_of_week"]
    refused = await app.operator("POST", PATH, a_body(start_time="25:00"))
    assert [error["field"] for error in refused.json()["errors"]] == ["start_time"]
    assert (await app.operator("GET", PATH, role=Role.VIEWER)).json()["items"] == []


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday", 5])
async def test_no_moment_breaks_a_dry_run(app: RunningApp, moment: object) -> None:
    series_id = (await app.operator("POST", PATH, a_body())).json()["series_id"]
    refused = await app.operator("POST", f"{PATH}/{series_id}/dry-run", {"now": moment})
    assert refused.status_code == 400


@pytest.mark.parametrize(
    "cursor", ["WzFd", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIl0", "Wzk5OTk5OTk5OTk5OTk5OTk5XQ", "x", "W10"]
)
async def test_forged_cursors_are_at_most_refused(app: RunningApp, cursor: str) -> None:
    series_id = (await app.operator("POST", PATH, a_body())).json()["series_id"]
    for path in (f"{PATH}/{series_id}/stats", PATH):
        assert (await app.operator("GET", f"{path}?cursor={cursor}")).status_code in {200, 400}


async def test_only_editors_write(app: RunningApp) -> None:
    assert (await app.operator("POST", PATH, a_body(), role=Role.VIEWER)).status_code == 403
    assert (await app.shopper("alice", "POST", PATH, a_body())).status_code == 401
    series_id = (await app.operator("POST", PATH, a_body())).json()["series_id"]
    for step in ("publish", "pause", "resume", "end"):
        asked = await app.operator("POST", f"{PATH}/{series_id}/{step}", role=Role.VIEWER)
        assert asked.status_code == 403
    unknown = await app.operator("GET", f"{PATH}/0199c0de-0000-7000-8000-000000000001")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "flash_sale.series_not_found")
