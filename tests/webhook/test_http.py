"""Webhooks over HTTP: what operators see and do, and what they never see."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from growth.plumbing.outbox import outbox
from growth.plumbing.outbox.outbox import Subscription
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from growth.vocabulary.events.flash_sale import FlashSalePaused
from growth.webhook.delivery.queue import Queue
from growth.webhook.delivery.sender import Sender
from growth.webhook.model import MAX_ENDPOINTS
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.webhook.receiving import Heard, Receiver, answers, receiving, settled

pytestmark = pytest.mark.anyio

BASE = "/admin/v1/webhooks"
NOBODY = "0199c0de-0000-7000-8000-000000000001"


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url, GROWTH_WEBHOOK_ALLOWED_HOSTS="127.0.0.1") as app:
        yield app
        assert not await violations(app.growth.database)


async def asks(app: RunningApp, method: str, path: str, body: object = None, **headers: str) -> Any:
    return await app.operator(method, BASE + path, body, role=Role.ADMIN, **headers)


async def make(app: RunningApp, receiver: Receiver, **changes: Any) -> JSON:
    draft = {"url": receiver.url, "event_types": ["flash_sale.*"], "description": "crm"} | changes
    answer = await asks(app, "POST", "", draft)
    assert answer.status_code == 201, answer.text
    made: JSON = answer.json()
    return made


async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.close()


async def happens(app: RunningApp, *names: str) -> None:
    growth = app.growth
    async with growth.database.transaction() as tx:
        await outbox.emit(tx, *(FlashSalePaused(at=now(), sale_id=name) for name in names))
    await outbox.deliver(growth.database, Subscription("shop.webhook_queue", None, growth.of(Queue).take))
    await growth.of(Sender).take()
    await settled(growth.of(Sender))


async def test_from_an_endpoint_to_its_log(app: RunningApp) -> None:
    async with receiving() as receiver:
        made = await make(app, receiver)
        endpoint_id, secret = made["endpoint_id"], made["secret"]
        await happens(app, "a", "b", "c")
        for heard in receiver.heard:
            Webhook(secret).verify(heard.body, heard.headers)
        first = (await asks(app, "GET", f"/{endpoint_id}/deliveries?limit=2")).json()
        rest = (await asks(app, "GET", f"/{endpoint_id}/deliveries?limit=2&cursor={first['next_cursor']}")).json()
        log = [*first["items"], *rest["items"]]
        assert rest["next_cursor"] is None
        assert {one["event_id"] for one in log} == set(receiver.ids)
        assert [one["state"] for one in log] == ["delivered"] * 3
        assert log[0]["log"][0]["status"] == 200
        for query, count in [
            ("state=delivered", 3),
            ("state=pending", 0),
            ("type=flash_sale.paused", 3),
            ("type=flash_sale.ended", 0),
            (f"to={rfc3339(now() - timedelta(hours=1))}", 0),
            (f"from={rfc3339(now() - timedelta(hours=1))}&to={rfc3339(now() + timedelta(hours=1))}", 3),
        ]:
            page = await asks(app, "GET", f"/{endpoint_id}/deliveries?{query}")
            assert len(page.json()["items"]) == count, query
        again = await asks(app, "POST", f"/{endpoint_id}/redeliver", {"delivery_id": log[0]["delivery_id"]})
        assert again.json() == {"events": 1, "queued": 1, "next_cursor": None}
        span = {"from": rfc3339(now() - timedelta(hours=1)), "to": rfc3339(now() + timedelta(hours=1))}
        again = await asks(app, "POST", f"/{endpoint_id}/redeliver", span | {"types": ["flash_sale.*"]})
        assert again.json() == {"events": 3, "queued": 3, "next_cursor": None}


async def test_a_secret_is_shown_once_and_stands_nowhere_else(
    app: RunningApp, capfd: pytest.CaptureFixture[str]
) -> None:
    async with receiving(answers("500 Oops")) as receiver:
        made = await make(app, receiver)
        rotated = (await asks(app, "POST", f"/{made['endpoint_id']}/rotate-secret")).json()
        await happens(app, "a")
        await asks(app, "POST", f"/{made['endpoint_id']}/test")
        one = await asks(app, "GET", f"/{made['endpoint_id']}")
        seen = [
            one.text,
            (await asks(app, "GET", "")).text,
            (await asks(app, "GET", f"/{made['endpoint_id']}/deliveries")).text,
            (await app.operator("GET", "/admin/v1/audit")).text,
            "".join(capfd.readouterr()),
        ]
        tables = ("endpoints", "deliveries")
        rows = [await app.growth.database.fetch(f"SELECT t::text FROM webhook.{table} AS t") for table in tables]
        kept = await app.growth.database.fetch("SELECT encode(answer, 'escape') AS t FROM plumbing.idempotency")
        seen += [row["t"] for found in [*rows, kept] for row in found]
    for secret in (made["secret"], rotated["secret"]):
        assert secret.startswith("whsec_")
        assert [text for text in seen if secret in text] == []
    assert made["secret"] != rotated["secret"]


async def test_the_same_key_makes_one_endpoint_and_tells_its_secret_until_it_is_rotated(app: RunningApp) -> None:
    async with receiving() as receiver:
        draft = {"url": receiver.url, "event_types": ["*"]}
        first = await asks(app, "POST", "", draft, idempotency_key="k")
        again = await asks(app, "POST", "", draft, idempotency_key="k")
        assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
        assert again.json() == first.json()
        other = await asks(app, "POST", "", draft | {"event_types": ["task.*"]}, idempotency_key="k")
        assert other.status_code in {400, 422}
        await asks(app, "POST", f"/{first.json()['endpoint_id']}/rotate-secret?keep_hours=0")
        late = await asks(app, "POST", "", draft, idempotency_key="k")
        assert late.json() == first.json() | {"secret": None}
        assert len((await asks(app, "GET", "")).json()["items"]) == 1


async def test_editing_asks_for_the_version_and_keeps_the_rules(app: RunningApp) -> None:
    async with receiving() as receiver, receiving() as moved:
        made = await make(app, receiver)
        path, draft = f"/{made['endpoint_id']}", {"url": moved.url, "event_types": ["*"], "description": None}
        assert (await asks(app, "PUT", path, draft)).status_code == 412
        changed = await asks(app, "PUT", path, draft, if_match='"1"')
        assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
        assert changed.json()["url"] == moved.url
        assert (await asks(app, "PUT", path, draft, if_match='"1"')).json()["code"] == "webhook.version_mismatch"
        bad = await asks(app, "PUT", path, draft | {"url": "https://169.254.169.254/"}, if_match='"2"')
        assert (bad.status_code, bad.json()["code"]) == (400, "webhook.target_refused")
        await happens(app, "a")
        assert (len(receiver.heard), len(moved.heard)) == (0, 1)


async def test_states_over_http(app: RunningApp) -> None:
    async with receiving() as receiver:
        made = await make(app, receiver)
        path = f"/{made['endpoint_id']}"
        disabled = await asks(app, "POST", f"{path}/disable")
        assert (disabled.json()["state"], disabled.json()["reason"]) == ("disabled", "operator")
        assert (await asks(app, "POST", f"{path}/disable")).json()["code"] == "webhook.wrong_state"
        assert len((await asks(app, "GET", "?state=disabled")).json()["items"]) == 1
        assert (await asks(app, "GET", "?state=enabled")).json()["items"] == []
        enabled = await asks(app, "POST", f"{path}/enable")
        assert (enabled.json()["state"], enabled.json()["reason"], enabled.json()["version"]) == ("enabled", None, 3)
        gone = await asks(app, "DELETE", path)
        assert (gone.status_code, gone.content) == (204, b"")
        for method, rest in [("GET", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/enable"), ("POST", "/disable")]:
            assert (await asks(app, method, path + rest)).json()["code"] == "webhook.not_found"
        assert (await asks(app, "GET", f"{path}/deliveries")).status_code == 404
        audit = (await app.operator("GET", f"/admin/v1/audit?subject={made['endpoint_id']}")).json()["items"]
        assert [one["action"] for one in reversed(audit)] == [
            "webhook.create",
            "webhook.disable",
            "webhook.enable",
            "webhook.delete",
        ]


async def test_a_test_is_sent_at_once_and_says_what_happened(app: RunningApp) -> None:
    async with receiving(answers("418 Teapot")) as receiver:
        made = await make(app, receiver)
        refused = (await asks(app, "POST", f"/{made['endpoint_id']}/test")).json()
        assert (refused["delivered"], refused["status"], refused["error"]) == (False, 418, "status")
        receiver.behave = answers()
        taken = (await asks(app, "POST", f"/{made['endpoint_id']}/test")).json()
        assert (taken["delivered"], taken["status"], taken["error"]) == (True, 200, None)
        event = receiver.heard[1].event
        assert (event["type"], event["id"]) == ("webhook.test", taken["event_id"])
        Webhook(made["secret"]).verify(receiver.heard[1].body, receiver.heard[1].headers)
        receiver.behave = closes
        closed = (await asks(app, "POST", f"/{made['endpoint_id']}/test")).json()
    assert (closed["delivered"], closed["status"]) == (False, None)
    # Nothing is tried again, and nothing counts against the endpoint.
    assert (await asks(app, "GET", f"/{made['endpoint_id']}/deliveries")).json()["items"] == []
    assert (await asks(app, "GET", f"/{made['endpoint_id']}")).json()["failures"] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "request.invalid"),
        ({"delivery_id": NOBODY, "from": "2026-11-21T12:00:00Z", "to": "2026-11-21T13:00:00Z"}, "request.invalid"),
        ({"from": "2026-11-21T12:00:00Z"}, "request.invalid"),
        ({"to": "2026-11-21T12:00:00Z"}, "request.invalid"),
        ({"from": "2026-11-21T12:00:00Z", "to": "2026-11-21T12:00:00Z"}, "request.invalid"),
        ({"from": "2026-11-21T12:00:00Z", "to": "2026-11-22T12:00:01Z"}, "request.invalid"),
        ({"from": "2026-11-21T12:00:00Z", "to": "2026-11-21T13:00:00Z", "cursor": "forged"}, "request.invalid"),
        ({"from": "2026-11-21T12:00:00Z", "to": "2026-11-21T13:00:00Z", "types": ["a b"]}, "request.invalid"),
        ({"delivery_id": NOBODY}, "webhook.delivery_not_found"),
    ],
)
async def test_redeliveries_that_mean_nothing_are_refused(app: RunningApp, body: JSON, code: str) -> None:
    async with receiving() as receiver:
        made = await make(app, receiver)
    assert (await asks(app, "POST", f"/{made['endpoint_id']}/redeliver", body)).json()["code"] == code


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_types": []}, "event_types"),
        ({"event_types": ["flash_sale.pausd"]}, "event_types[0]"),
        ({"event_types": ["*", "FLASH_SALE.*"]}, "event_types[1]"),
        ({"event_types": ["*"] * 65}, "event_types"),
        ({"url": "ftp://crm.example.com/"}, "url"),
        ({"url": 1}, "url"),
        ({"secret": "whsec_aGVsbG8="}, "secret"),
        ({"state": "disabled"}, "state"),
        ({"description": "a\u202eb"}, "description"),
    ],
)
async def test_wrong_endpoints_are_named_by_their_field(app: RunningApp, changes: JSON, field: str) -> None:
    draft = {"url": "http://127.0.0.1:9/hooks", "event_types": ["*"]} | changes
    answer = await asks(app, "POST", "", draft)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field), answer.text


async def test_only_administrators_make_endpoints_and_viewers_only_look(app: RunningApp) -> None:
    async with receiving() as receiver:
        made = await make(app, receiver)
        draft = {"url": receiver.url, "event_types": ["*"]}
        one = f"{BASE}/{made['endpoint_id']}"
        for role, method, path, body in [
            (Role.EDITOR, "POST", BASE, draft),
            (Role.EDITOR, "PUT", one, draft),
            (Role.EDITOR, "DELETE", one, None),
            (Role.EDITOR, "POST", f"{one}/rotate-secret", None),
            (Role.VIEWER, "POST", f"{one}/test", None),
            (Role.VIEWER, "POST", f"{one}/redeliver", {"delivery_id": NOBODY}),
        ]:
            assert (await app.operator(method, path, body, role=role)).status_code == 403, (role, method, path)
        assert (await app.operator("GET", one, role=Role.VIEWER)).status_code == 200
        assert (await app.operator("GET", f"{one}/deliveries", role=Role.VIEWER)).status_code == 200


async def test_there_are_never_more_endpoints_than_may_be(app: RunningApp) -> None:
    draft = {"url": "http://127.0.0.1:9/hooks", "event_types": ["*"]}
    answers_ = await asyncio.gather(*(asks(app, "POST", "", draft) for _ in range(MAX_ENDPOINTS + 6)))
    codes = [answer.status_code for answer in answers_]
    assert (codes.count(201), codes.count(409)) == (MAX_ENDPOINTS, 6)
    assert {answer.json()["code"] for answer in answers_ if answer.status_code == 409} == {"webhook.too_many"}


async def test_the_audit_tells_what_changed_in_full(app: RunningApp) -> None:
    async with receiving() as receiver:
        made = await make(app, receiver)
        draft = {"url": receiver.url, "event_types": ["task.*", "*"], "description": "other"}
        await asks(app, "PUT", f"/{made['endpoint_id']}", draft, if_match='"1"')
    (entry, _) = (await app.operator("GET", f"/admin/v1/audit?subject={made['endpoint_id']}")).json()["items"]
    assert (entry["before"]["description"], entry["after"]["description"]) == ("crm", "other")
    assert "secret" not in json.dumps(entry)
