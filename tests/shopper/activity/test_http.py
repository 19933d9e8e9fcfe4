"""`POST /v1/events`, as a mini-program sees it."""

import asyncio
import json
from typing import Any

import pytest

from growth.bootstrap import Growth
from growth.plumbing.http.answers import MAX_BODY_BYTES
from growth.plumbing.outbox.outbox import OUTBOX
from growth.tables import reactions
from growth.vocabulary import clock
from growth.vocabulary.refusals import Unavailable
from tests.abuse.attacked import BYPASSING, PLAIN
from tests.abuse.test_bodies import BROKEN, FOREIGN_FIELDS, OTHER_TYPES
from tests.app import RunningApp, running_app
from tests.shopper.activity.telling import JSON, ago, event

pytestmark = pytest.mark.anyio

PATH = "/v1/events"
CALLERS = 64


async def send(app: RunningApp, raw: bytes, **headers: str) -> tuple[int, JSON]:
    shown = app.shopper_headers("u1") | {"content-type": "application/json"}
    response = await app.client.post(
        PATH, content=raw, headers=shown | {k.replace("_", "-"): v for k, v in headers.items()}
    )
    return response.status_code, response.json()


async def test_a_batch_is_answered_event_by_event(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        bad = event("bad", type_="order.paid")
        response = await app.shopper("u1", "POST", PATH, {"events": [event("a"), bad, event("a")]})
        assert response.status_code == 202
        told = response.json()
        assert (told["accepted"], told["duplicate"]) == (1, 1)
        assert [(one["index"], one["code"]) for one in told["rejected"]] == [(1, "event.unknown_type")]
        assert response.headers["content-type"] == "application/json"
        # The user is who the token says, and nobody else.
        rows = await app.growth.database.fetch("SELECT subject FROM activity.log")
        assert [row["subject"] for row in rows] == ["u1"]
        # All the same in any spelling of the body and its headers.
        for raw in (json.dumps({"events": [event("b")]}, indent=1).encode(), b' {"events" : [ ] } '):
            for type_ in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
                status, _ = await send(app, raw, content_type=type_)
                assert status == 202


async def test_what_is_no_batch_is_refused(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        for raw, status, code in (
            (b"", 400, "request.invalid"),
            (b"[]", 400, "request.invalid"),
            (b'{"events":[],"user_id":"u2"}', 400, "request.invalid"),
            (b'{"events":[' + b",".join([b"1"] * 101) + b"]}", 400, "request.invalid"),
            (b'{"events":[' + b" " * MAX_BODY_BYTES + b"]}", 413, "request.too_large"),
        ):
            got, problem = await send(app, raw)
            assert (got, problem["code"]) == (status, code)
        got, problem = await send(app, b'{"events":[]}', content_type="text/plain")
        assert (got, problem["code"]) == (415, "request.unsupported_type")
        for authorization in ("", "Bearer nonsense", "Basic x"):
            response = await app.client.post(PATH, json={"events": []}, headers={"authorization": authorization})
            assert response.status_code == 401
        assert (await app.client.get(PATH, headers=app.shopper_headers("u1"))).status_code == 405
        assert not await app.growth.database.fetch("SELECT FROM activity.log")


@pytest.mark.parametrize("content_type", [PLAIN, BYPASSING], ids=["short cut", "bypassed"])
async def test_bodies_made_to_hurt_are_refused_and_within_a_batch_rejected(
    postgres_dsn: str, redis_url: str, content_type: str
) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        token = app.shopper_headers("u1") | {"content-type": content_type}
        for name, raw in BROKEN.items():
            answer = await app.client.post(PATH, content=raw, headers=token)
            assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid"), name
            for around in (b'{"events":[%b]}', b'{"events":[{"id":%b}]}', b'{"events":[{"data":{"a":%b}}]}'):
                answer = await app.client.post(PATH, content=around % raw, headers=token)
                assert answer.status_code in {202, 400, 413}, name
        for field in FOREIGN_FIELDS:
            answer = await app.client.post(PATH, content=json.dumps({"events": [], field: 1}), headers=token)
            assert answer.json()["errors"][0]["field"] == (field or "body"), answer.text
            batch = json.dumps({"events": [event("a") | {field: 1}]})
            (rejected,) = (await app.client.post(PATH, content=batch, headers=token)).json()["rejected"]
            assert rejected["code"] == "event.malformed"
        for declared in OTHER_TYPES:
            headers = [(b"authorization", app.shopper_headers("u1")["authorization"].encode())]
            headers += [] if declared is None else [(b"content-type", declared.encode("latin-1"))]
            answer = await app.client.post(PATH, content=b'{"events":[]}', headers=headers)
            assert answer.status_code == 415, declared
        assert not await app.growth.database.fetch("SELECT FROM activity.log")


async def test_too_many_events_a_minute_are_refused_with_the_time_to_wait(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url, GROWTH_SHOPPER_EVENTS_PER_MINUTE="1") as app:
        batch = {"events": [event(number) for number in range(60)]}
        assert (await app.shopper("u1", "POST", PATH, batch)).status_code == 202
        refused = await app.shopper("u1", "POST", PATH, batch)
        assert (refused.status_code, refused.json()["code"]) == (429, "request.too_many")
        assert int(refused.headers["retry-after"]) > 0
        assert (await app.shopper("u2", "POST", PATH, batch)).status_code == 202


async def test_too_many_requests_are_refused_too(postgres_dsn: str, redis_url: str) -> None:
    limits = {"GROWTH_SHOPPER_REQUESTS_PER_SECOND": "1", "GROWTH_SHOPPER_BURST": "2"}
    async with running_app(postgres_dsn, redis_url, **limits) as app:
        answers = await asyncio.gather(
            *(app.shopper("u1", "POST", PATH, {"events": [event(number)]}) for number in range(6))
        )
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[:2] == [202, 202]
        assert statuses[-3:] == [429] * 3


async def test_64_clients_at_once_have_each_event_counted_once(postgres_dsn: str, redis_url: str) -> None:
    no_limit = {"GROWTH_SHOPPER_EVENTS_PER_MINUTE": "0"}
    async with (
        running_app(postgres_dsn, redis_url, **no_limit) as one,
        running_app(postgres_dsn, redis_url, **no_limit) as other,
    ):
        batch = {"events": [event(number, at=ago(hours=number)) for number in range(20)]}
        answers = await asyncio.gather(
            *((one, other)[place % 2].shopper("u1", "POST", PATH, batch) for place in range(CALLERS))
        )
        assert sum(answer.json()["accepted"] for answer in answers) == 20
        assert sum(answer.json()["duplicate"] for answer in answers) == 20 * (CALLERS - 1)


async def test_without_postgres_the_client_is_asked_to_come_again(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_app(postgres_dsn, redis_url) as app:

        async def gone(*_: object) -> None:
            raise Unavailable("Postgres did not answer")

        with monkeypatch.context() as patched:
            patched.setattr(app.growth.database, "fetchrow", gone)
            refused = await app.shopper("u1", "POST", PATH, {"events": [event("a")]})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert (await app.shopper("u1", "POST", PATH, {"events": [event("a")]})).json()["accepted"] == 1


async def test_every_follower_reads_a_log_that_is_watched(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        growth: Growth = app.growth
        assert {subscription.log.table for subscription in reactions(growth)} <= {OUTBOX.table, "activity.log"}


# --- the short cut and the routes answer alike ----------------------------------------------------------------------


async def test_the_short_cut_answers_what_the_routes_answer(postgres_dsn: str, redis_url: str) -> None:
    bodies = [
        b"",
        b"[]",
        b'{"events":[]}',
        b'{"events":[],"x":1}',
        b'{"events":[],"events":[]}',
        b'{"events":[1,{}]}',
        b'{"events":[' + b" " * MAX_BODY_BYTES + b"]}",
        json.dumps({"events": [event("a"), event("a"), event("b", type_="x")]}).encode(),
        json.dumps({"events": [event(number) for number in range(101)]}).encode(),
        json.dumps({"events": [event(number) for number in range(99)]}).encode(),
        json.dumps({"events": [event(number) for number in range(99)]}).encode(),
    ]
    async with running_app(postgres_dsn, redis_url, GROWTH_SHOPPER_EVENTS_PER_MINUTE="1") as app:
        answers = []
        for user_id, type_ in (("u1", "application/json"), ("u2", "application/json; charset=utf-8")):
            token = app.shopper_headers(user_id)
            # A token is good once the routes have seen it.
            assert (await app.client.post(PATH, json={"events": []}, headers=token)).status_code == 202
            told = []
            for raw in bodies:
                response = await app.client.post(PATH, content=raw, headers=token | {"content-type": type_})
                shown = response.json()
                for changing in ("request_id", "retry_after_seconds"):
                    shown.pop(changing, None)
                headers = {
                    name: response.headers.get(name)
                    for name in ("content-type", "cache-control", "ratelimit-policy", "www-authenticate")
                }
                told.append((response.status_code, shown, headers, "retry-after" in response.headers))
            answers.append(told)
        assert answers[0] == answers[1]
        assert [status for status, *_ in answers[0]][-2:] == [429, 429]
        assert {status for status, *_ in answers[0]} == {202, 400, 413, 429}


async def test_a_body_in_pieces_is_put_together_and_one_that_ends_too_early_is_nothing(
    postgres_dsn: str, redis_url: str
) -> None:
    raw = json.dumps({"events": [event("a")]}).encode()
    async with running_app(postgres_dsn, redis_url) as app:
        await app.shopper("u1", "POST", PATH, {"events": []})
        token = app.growth.identity.sign("u1", now=clock.now(), lifetime_seconds=60)
        await app.client.post(PATH, json={"events": []}, headers={"authorization": f"Bearer {token}"})

        async def post(*messages: JSON) -> list[JSON]:
            waiting, sent = iter(messages), list[JSON]()

            async def receive() -> JSON:
                return next(waiting, {"type": "http.disconnect"})

            async def send(message: JSON) -> None:
                sent.append(message)

            headers = [(b"authorization", f"Bearer {token}".encode()), (b"content-type", b"application/json")]
            scope: Any = {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "POST",
                "scheme": "http",
                "path": PATH,
                "raw_path": PATH.encode(),
                "root_path": "",
                "query_string": b"",
                "headers": headers,
                "client": ("127.0.0.1", 1),
                "server": ("growth.test", 80),
                "state": {},
                "extensions": {},
            }
            await app.asgi(scope, receive, send)  # type: ignore[arg-type]
            return sent

        piece = {"type": "http.request", "more_body": True}
        assert all(message.get("status") != 202 for message in await post(piece | {"body": raw[:20]}))
        assert not await app.growth.database.fetch("SELECT FROM activity.log")
        sent = await post(piece | {"body": raw[:20]}, piece | {"body": raw[20:]}, {"type": "http.request", "body": b""})
        assert sent[0]["status"] == 202
        assert await app.growth.database.fetchval("SELECT count(*) FROM activity.log") == 1


async def test_the_short_cut_counts_every_request_of_a_shopper(postgres_dsn: str, redis_url: str) -> None:
    limits = {"GROWTH_SHOPPER_REQUESTS_PER_SECOND": "1", "GROWTH_SHOPPER_BURST": "3"}
    async with running_app(postgres_dsn, redis_url, **limits) as app:
        token = app.shopper_headers("u1")
        answers = [await app.client.post(PATH, json={"events": []}, headers=token) for _ in range(6)]
        assert [answer.status_code for answer in answers][:3] == [202] * 3
        assert [answer.status_code for answer in answers].count(429) >= 2


async def test_with_postgres_gone_the_short_cut_says_so_too(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise Unavailable("Postgres did not answer")

    async with running_app(postgres_dsn, redis_url) as app:
        token = app.shopper_headers("u1")
        await app.client.post(PATH, json={"events": []}, headers=token)
        monkeypatch.setattr(app.growth.database, "fetchrow", gone)
        refused = await app.client.post(PATH, json={"events": [event("a")]}, headers=token)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) > 0
