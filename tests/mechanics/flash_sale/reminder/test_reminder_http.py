"""Reminders as mini-programs ask for them."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from growth.vocabulary.clock import now
from tests.app import RunningApp, running_app

pytestmark = pytest.mark.anyio

UNKNOWN = "/v1/flash-sales/0199c0de-0000-7000-8000-000000000001"


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app


async def a_sale(app: RunningApp, opens_at: datetime, **protection: object) -> str:
    """A published sale of one unit; its path."""
    draft = {
        "title": "Tea",
        "sku": "tea",
        "price_fen": 100,
        "list_price_fen": 9900,
        "units_total": 1,
        "opens_at": opens_at.isoformat(),
        "closes_at": (opens_at + timedelta(hours=1)).isoformat(),
        "protection": protection,
    }
    sale_id = (await app.operator("POST", "/admin/v1/flash-sales", draft)).json()["sale_id"]
    await app.operator("POST", f"/admin/v1/flash-sales/{sale_id}/publish")
    return f"/v1/flash-sales/{sale_id}"


async def test_a_reminder_asked_for_and_taken_back(app: RunningApp) -> None:
    path = await a_sale(app, now() + timedelta(hours=1)) + "/reminder"
    for method, asked in (("PUT", True), ("PUT", True), ("DELETE", False), ("DELETE", False)):
        answer = await app.shopper("alice", method, path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await app.shopper("alice", "GET", path)).json()["asked"] is asked
        assert (await app.shopper("bob", "GET", path)).json()["asked"] is False


async def test_who_is_too_late_or_nobody_is_refused(app: RunningApp) -> None:
    path = await a_sale(app, now() - timedelta(minutes=1)) + "/reminder"
    late = await app.shopper("alice", "PUT", path)
    assert (late.status_code, late.json()["code"]) == (409, "flash_sale.already_open")
    assert (await app.shopper("alice", "DELETE", path)).status_code == 204
    for method in ("PUT", "DELETE", "GET"):
        unknown = await app.shopper("alice", method, f"{UNKNOWN}/reminder")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "flash_sale.not_found")
        assert (await app.client.request(method, path)).status_code == 401
        assert (await app.shopper("alice", method, "/v1/flash-sales/no-id/reminder")).status_code == 400
