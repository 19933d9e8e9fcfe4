"""One request can be followed by its id: from the answer, through the events it caused, to listeners and webhooks."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from growth.plumbing.outbox import outbox
from growth.plumbing.outbox.cloud_events import cloud_event
from growth.plumbing.outbox.outbox import Envelope, Subscription, deliver, emit, types_of
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.request import request_id
from growth.tables import reactions
from growth.vocabulary.actors import Role
from growth.vocabulary.events.flash_sale import FlashSaleClaimHeld, FlashSalePaused, FlashSaleResumed
from growth.vocabulary.refusals import Unavailable
from tests.app import RunningApp, running_app
from tests.world import put_sale

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CROWD = 64


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url, GROWTH_WEBHOOK_ALLOWED_HOSTS="127.0.0.1") as app:
        yield app


def paused(name: str) -> FlashSalePaused:
    return FlashSalePaused(at=AT, sale_id=name)


async def say(database: Database, name: str, *events: str) -> None:
    """Emit as a request of this name does."""
    before = request_id.set(name)
    try:
        async with database.transaction() as tx:
            await emit(tx, *map(paused, events))
    finally:
        request_id.reset(before)


async def told(database: Database) -> dict[str, str | None]:
    """The request of each event, by its subject."""
    rows = await database.fetch("SELECT subject, request_id FROM plumbing.outbox ORDER BY xid, position")
    return {row["subject"]: row["request_id"] for row in rows}


async def test_an_event_knows_its_request_and_the_clocks_has_none(app: RunningApp) -> None:
    await say(app.growth.database, "r-1", "a", "b")
    await say(app.growth.database, "", "c")
    assert await told(app.growth.database) == {"a": "r-1", "b": "r-1", "c": None}


async def test_what_a_listener_does_for_one_request_is_that_requests_too(app: RunningApp) -> None:
    seen: list[str] = []

    async def pass_on(tx: Tx, envelopes: Sequence[Envelope]) -> None:
        seen.append(request_id.get())
        await emit(tx, *[FlashSaleResumed(at=AT, sale_id=f"after {one.event.subject}") for one in envelopes])

    listener = Subscription("test.follows", types_of(FlashSalePaused), pass_on)
    await say(app.growth.database, "r-1", "a")
    with capture_logs() as lines:
        assert await deliver(app.growth.database, listener)
    assert [(line["event"], line["request_ids"]) for line in lines] == [("outbox.deliver", ["r-1"])]
    await say(app.growth.database, "r-2", "b")
    await say(app.growth.database, "r-3", "c")
    await deliver(app.growth.database, listener)
    await say(app.growth.database, "r-4", "d")
    await say(app.growth.database, "", "e")
    await deliver(app.growth.database, listener)
    # Of several, or of one and the clock, nobody can say whose it is: none is better than a wrong one.
    assert seen == ["r-1", "", ""]
    known = await told(app.growth.database)
    assert {name: known[f"after {name}"] for name in "abcde"} == {
        "a": "r-1",
        "b": None,
        "c": None,
        "d": None,
        "e": None,
    }
    assert request_id.get() == ""


async def test_a_failure_says_which_requests_wait(app: RunningApp) -> None:
    async def fail(_tx: Tx, _envelopes: Sequence[Envelope]) -> None:
        raise Unavailable("no")

    await say(app.growth.database, "r-1", "a")
    await say(app.growth.database, "r-2", "b")
    with pytest.raises(Unavailable, match="no") as caught:
        await deliver(app.growth.database, Subscription("test.fails", types_of(FlashSalePaused), fail))
    assert caught.value.__notes__ == ["Of 2 events, of 2 requests: r-1, r-2"]


async def test_in_a_crowd_each_claim_has_its_own_request(app: RunningApp) -> None:
    sale = await put_sale(app.growth.database, units_total=CROWD)

    async def claim(number: int) -> str:
        body, path = {"units": 1}, f"/v1/flash-sales/{sale.sale_id}/claims"
        headers = {"idempotency_key": "once", "x_request_id": f"mine-{number}"}
        answer = await app.shopper(f"u{number}", "POST", path, body, **headers)
        assert answer.headers["x-request-id"] == f"mine-{number}"
        return str(answer.json()["claim_id"])

    claims = await asyncio.gather(*map(claim, range(CROWD)))
    rows = await app.growth.database.fetch(
        "SELECT request_id, data::json ->> 'claim_id' AS claim_id FROM plumbing.outbox WHERE type = $1",
        FlashSaleClaimHeld.__struct_config__.tag,
    )
    assert {row["claim_id"]: row["request_id"] for row in rows} == {
        claim_id: f"mine-{number}" for number, claim_id in enumerate(claims)
    }


async def test_a_webhook_and_its_log_name_the_request(app: RunningApp) -> None:
    draft = {"url": "http://127.0.0.1:9/hooks", "event_types": ["flash_sale.paused"]}
    made = await app.operator("POST", "/admin/v1/webhooks", draft, role=Role.ADMIN)
    endpoint_id = made.json()["endpoint"]["endpoint_id"] if "endpoint" in made.json() else made.json()["endpoint_id"]
    await say(app.growth.database, "r-1", "a")
    await say(app.growth.database, "", "b")
    queue = next(one for one in reactions(app.growth) if "webhook" in one.name)
    while await deliver(app.growth.database, queue):
        pass
    path = f"/admin/v1/webhooks/{endpoint_id}/deliveries"
    listed = (await app.operator("GET", path)).json()["items"]
    assert sorted(str(one["request_id"]) for one in listed) == ["None", "r-1"]
    bodies = await app.growth.database.fetch("SELECT body FROM webhook.deliveries")
    assert sorted(json.loads(row["body"]).get("requestid", "") for row in bodies) == ["", "r-1"]


def test_an_event_without_a_request_says_nothing_of_one() -> None:
    assert b"requestid" not in cloud_event(Envelope("id", paused("a")), "test")
    assert b'"requestid":"r-1"' in cloud_event(Envelope("id", paused("a"), "r-1"), "test")


async def test_ids_given_must_be_as_many_as_events(app: RunningApp) -> None:
    async with app.growth.database.transaction() as tx:
        with pytest.raises(ValueError, match="zip"):
            await outbox.emit(tx, paused("a"), request_ids=["r-1", "r-2"])
