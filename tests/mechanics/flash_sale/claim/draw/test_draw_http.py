"""Draws as mini-programs see them."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from growth.mechanics.flash_sale.claim.draw.service import Draws
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


async def test_a_claim_that_enters_the_draw_and_what_became_of_it(app: RunningApp) -> None:
    path = await a_sale(app, now() - timedelta(seconds=1), draw_seconds=600)
    none = await app.shopper("alice", "GET", f"{path}/entry")
    assert (none.status_code, none.json()["code"]) == (404, "flash_sale.entry_not_found")
    entered = await app.shopper("alice", "POST", f"{path}/claims", {"units": 1})
    assert (entered.status_code, entered.json()["state"]) == (202, "entered")
    shown = (await app.shopper("alice", "GET", f"{path}/entry")).json()
    assert shown["entry_id"] == entered.json()["entry_id"]
    assert set(shown) == {"entry_id", "sale_id", "units", "state", "draw_at", "claim_id", "server_time"}
    again = await app.shopper("alice", "POST", f"{path}/claims", {"units": 1})
    assert again.json()["entry_id"] == shown["entry_id"]

    draws, moment = app.growth.of(Draws), now() + timedelta(seconds=610)
    async with app.growth.database.transaction() as tx:
        assert await draws.draw(tx, shown["sale_id"], moment)
    won = (await app.shopper("alice", "GET", f"{path}/entry")).json()
    assert won["state"] == "won"
    claim = await app.shopper("alice", "GET", f"/v1/claims/{won['claim_id']}")
    assert (claim.status_code, claim.json()["state"]) == (200, "held")
    late = await app.shopper("bob", "POST", f"{path}/claims", {"units": 1})
    assert (late.status_code, late.json()["code"]) == (409, "flash_sale.sold_out")


async def test_an_entry_is_its_shoppers_alone(app: RunningApp) -> None:
    path = await a_sale(app, now() - timedelta(seconds=1), draw_seconds=600)
    await app.shopper("alice", "POST", f"{path}/claims", {"units": 1})
    assert (await app.shopper("bob", "GET", f"{path}/entry")).status_code == 404
    assert (await app.client.get(f"{path}/entry")).status_code == 401
    unknown = await app.shopper("alice", "GET", f"{UNKNOWN}/entry")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "flash_sale.not_found")
