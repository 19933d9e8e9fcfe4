"""Operators' HTTP, and the way from what a client tells to a number."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from growth.listeners.retention.service import RetentionProjection
from growth.plumbing.outbox.outbox import deliver
from growth.tables import reactions
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from tests.app import RunningApp, running_app
from tests.listeners.retention.conftest import registered

pytestmark = pytest.mark.anyio

ROOT = "/admin/v1/retention"


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as running:
        yield running


async def listen(app: RunningApp) -> None:
    for subscription in reactions(app.growth):
        if subscription.name.startswith("retention."):
            while await deliver(app.growth.database, subscription):
                pass


@pytest.mark.one_day
async def test_what_a_client_tells_is_counted(app: RunningApp) -> None:
    moment = now()
    events = [
        {"id": f"e{days}", "type": "app.opened", "at": rfc3339(moment - timedelta(days=days)), "data": {}}
        for days in (0, 1, 2)
    ]
    assert (await app.shopper("ann", "POST", "/v1/events", {"events": events})).status_code == 202
    await listen(app)
    body = (await app.operator("GET", ROOT, role=Role.VIEWER)).json()
    (cohort,) = body["cohorts"]
    assert (cohort["size"], cohort["days"]["1"], cohort["days"]["2"]) == (1, {"count": 1, "rate": 1.0}, None)
    assert body["totals"][0]["days"]["1"] == {"count": 1, "size": 1, "rate": 1.0}
    actives = (await app.operator("GET", f"{ROOT}/actives?to={body['today']}")).json()["days"]
    assert (actives[-1]["daily"], actives[-1]["weekly"], actives[-1]["is_complete"]) == (1, 1, False)


async def test_every_report_is_a_file_for_spreadsheets_too(app: RunningApp) -> None:
    day = (now() - timedelta(days=9)).strftime("%Y-%m-%d")
    async with app.growth.database.transaction() as tx:
        await app.growth.of(RetentionProjection).see(tx, [registered("ann", day, "=cmd|' /C calc'!A0")])
    for path, columns in (
        ("?split=source", "group,start,end,size,day,count,rate"),
        ("/effects", "mechanic,size,retained,rate,others_size"),
        ("/funnels", "funnel,start,end,step,count,rate"),
        ("/actives", "day,daily,weekly,monthly,new,stickiness,is_complete"),
    ):
        answer = await app.operator("GET", ROOT + path, accept="text/csv")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.text.startswith("\ufeff" + columns)
    table = (await app.operator("GET", f"{ROOT}?split=source", accept="text/csv")).text
    assert "'=cmd|" in table


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?from=1999-12-31", "from"),
        ("?to=9999-12-31", "to"),
        ("?from=2026-03-02&to=2026-03-01", "from"),
        ("?from=2000-01-01&to=2100-01-01", "from"),
        ("?cohort=year", "cohort"),
        ("?days=366", "days"),
        ("?mechanic=tea", "mechanic"),
        ("?inviter=zoe&split=source", "inviter"),
        ("/effects?day=2&within=3", "day"),
        ("/effects?within=8", "within"),
        ("/funnels?from=2000-01-01", "from"),
        ("/actives?from=2020-01-01", "from"),
    ],
)
async def test_what_cannot_be_answered_names_the_field(app: RunningApp, query: str, field: str) -> None:
    answer = await app.operator("GET", ROOT + query)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_nobody_but_operators_asks(app: RunningApp) -> None:
    for path in ("", "/effects", "/funnels", "/actives"):
        assert (await app.shopper("ann", "GET", ROOT + path)).status_code == 401
        assert (await app.client.get(ROOT + path)).status_code == 401
