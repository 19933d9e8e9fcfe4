"""The turnstile is a short cut, never another way: it answers as the ordinary routes do, and never a winner with no."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar.types import Receive, Scope, Send

from growth.mechanics.flash_sale.board import MAX_AGE_SECONDS, SaleBoard
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.model import Protection, Sale
from growth.mechanics.flash_sale.service import Sales
from growth.mechanics.flash_sale.stock import Stock
from growth.plumbing.http.urls import WholePaths
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from tests import world
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations

STATES = ("scheduled", "open", "sold_out", "paused", "ended", "closed")
VOLATILE = {"server_time", "request_id", "opens_in_ms", "closes_in_ms", "retry_after_seconds"}
OWN = {"claim_id", "entry_id", "entered_at", "held_until"}
"""Differ between two shoppers, though both are answered alike."""


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app
        assert not await violations(app.growth.database)


@pytest.fixture
async def other(app: RunningApp, postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    """Another process on the same stores."""
    async with running_app(postgres_dsn, redis_url) as other:
        yield other


@pytest.fixture
async def behind(app: RunningApp) -> AsyncIterator[httpx.AsyncClient]:
    """The ordinary routes, without the turnstile before them."""
    routes: Any = app.asgi
    while not isinstance(routes, WholePaths):
        routes = routes._app

    async def bypassed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"request_id": "r"}
        await routes(scope, receive, send)

    transport = httpx.ASGITransport(bypassed)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://growth.test") as client:
        yield client


async def look(app: RunningApp) -> None:
    """Let a process see what there is now; a sale seen for the first time needs a second look."""
    await app.growth.of(SaleBoard).refresh_catalogue()
    for _ in range(2):
        await app.growth.of(SaleBoard)._refresh()


async def in_state(app: RunningApp, state: str, **changes: Any) -> Sale:
    """A sale of two units in which "holder-1" and "holder-2" may have one each, brought to `state`."""
    opens_at = now() - timedelta(minutes=1)
    sale = await world.put_sale(app.growth.database, units_total=4, opens_at=opens_at, **changes)
    editor = Act(Operator("test", Role.EDITOR), now())
    await app.growth.of(Sales).invite(editor, sale.sale_id, ["holder-1", "holder-2"])
    if state != "scheduled":
        for user_id in ("holder-1", "holder-2"):
            answer = await claim(app, sale, user_id, key="first")
            assert answer.status_code in {201, 202}, answer.text
    if state == "sold_out":
        await _set(app, sale, "units_total = taken")
    elif state == "paused":
        await app.growth.of(Sales).pause(editor, sale.sale_id)
    elif state == "ended":
        await app.growth.of(Sales).end(editor, sale.sale_id)
    elif state == "closed":
        await _set(app, sale, "closes_at = now() - INTERVAL '10 seconds'")
    elif state == "scheduled":
        await _set(app, sale, "opens_at = now() + INTERVAL '30 seconds'")
    await look(app)
    return await app.growth.of(Sales).find(sale.sale_id)


async def _set(app: RunningApp, sale: Sale, what: str) -> None:
    await app.growth.database.fetch(
        f"UPDATE flash_sale.sales SET {what}, version = version + 1 WHERE sale_id = $1", sale.sale_id
    )
    await app.growth.of(Stock).configure(await app.growth.of(Sales).find(sale.sale_id))


def claim_path(sale: Sale) -> str:
    return f"/v1/flash-sales/{sale.sale_id}/claims"


async def claim(app: RunningApp, sale: Sale, user_id: str, *, key: str | None = None, units: int = 1) -> httpx.Response:
    headers = app.shopper_headers(user_id) | ({"idempotency-key": key} if key else {})
    return await app.client.post(claim_path(sale), json={"units": units}, headers=headers)


def said(answer: httpx.Response) -> JSON:
    """What an answer says, without what differs from moment to moment."""
    body = answer.json() if answer.content else None
    kept = {name.lower(): value for name, value in answer.headers.items()}
    shown = ("content-type", "cache-control", "idempotent-replayed", "retry-after", "www-authenticate", "etag")
    return {
        "status": answer.status_code,
        "body": _steady(body, VOLATILE | OWN),
        **{name: kept[name] for name in shown if name in kept and (body or name != "content-type")},
    }


def _steady(value: Any, volatile: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: "*" if name in volatile else _steady(item, volatile) for name, item in value.items()}
    return [_steady(item, volatile) for item in value] if isinstance(value, list) else value


# --- the same answers -------------------------------------------------------------------------------------------------

PROTECTIONS: dict[str, Protection] = {
    "none": Protection(),
    "invited only": Protection(allow_list_only=True),
    "cool-down": Protection(cool_down_seconds=600),
    "account age": Protection(minimum_account_age_seconds=60),
    "pace": Protection(claims_per_minute_per_shopper=1),
    "draw": Protection(draw_seconds=600),
}


@pytest.mark.parametrize(
    ("state", "protection"),
    # Before its draw, nobody has anything of a sale.
    [
        (state, protection)
        for state in STATES
        for protection in PROTECTIONS
        if (state, protection) != ("sold_out", "draw")
    ],
)
async def test_claims_get_the_answer_they_get_without_the_turnstile(
    app: RunningApp, behind: httpx.AsyncClient, state: str, protection: str
) -> None:
    if protection == "account age":
        await app.growth.database.fetch(
            "INSERT INTO shop.shoppers (user_id, registered_at) "
            "SELECT 'holder-' || n, now() - INTERVAL '1 day' FROM generate_series(1, 2) AS n"
        )
    sale = await in_state(app, state, protection=PROTECTIONS[protection])
    if protection == "cool-down":
        until = {f"{who}-{n}": now() + timedelta(minutes=10) for who in ("cooling", "holder") for n in (1, 2)}
        await app.growth.of(Stock).cool_down(sale.sale_id, until, sale.closes_at)
    for who in ("fresh", "cooling", "holder"):
        for units, key in ((1, None), (1, "second"), (4, "third"), (1, "first"), (2, "first")):
            answers = []
            for number, ask in ((1, app.client), (2, behind)):
                headers = app.shopper_headers(f"{who}-{number}") | ({"idempotency-key": key} if key else {})
                answers.append(said(await ask.post(claim_path(sale), json={"units": units}, headers=headers)))
            assert answers[0] == answers[1], (state, protection, who, units, key)


BODIES = [
    b"",
    b"{}",
    b'{"units": 1}',
    b' { "units" : 1 } ',
    b'{"units": 0}',
    b'{"units": 101}',
    b'{"units": 1.0}',
    b'{"units": 1.5}',
    b'{"units": "1"}',
    b'{"units": true}',
    b'{"units": null}',
    b'{"units": 9007199254740993}',
    b'{"units": 1e400}',
    b'{"units": 1e0}',
    b'{"units": -0}',
    b'{"units": NaN}',
    b'{"units": 1, "units": 2}',
    b'{"units": 1, "price_fen": 1}',
    b'{"un\\u0069ts": 1}',
    b'{"units": 1',
    b'{"units": 1}}',
    b'{"units": 1}\x00',
    b'\xef\xbb\xbf{"units": 1}',
    b'{"units": 1}' + b" " * 60,
    b'[{"units": 1}]',
    b'"units"',
    b"[" * 100_000,
    b"\xff",
]


@pytest.mark.parametrize("state", ["open", "sold_out"])
async def test_any_body_gets_the_answer_it_gets_without_the_turnstile(
    app: RunningApp, behind: httpx.AsyncClient, state: str
) -> None:
    sale = await in_state(app, state)
    await _set(app, sale, "max_per_shopper = 100")
    if state == "open":
        await _set(app, sale, "units_total = 1000")
    await look(app)
    for body in BODIES:
        await _same(app, behind, sale, body, {"content-type": "application/json"})


HEADERS: list[list[tuple[str, str]]] = [
    [],
    [("content-type", "application/json; charset=utf-8")],
    [("content-type", "text/plain")],
    [("content-type", "application/json"), ("idempotency-key", "")],
    [("content-type", "application/json"), ("idempotency-key", "a b")],
    [("content-type", "application/json"), ("idempotency-key", "a"), ("idempotency-key", "b")],
    [("content-type", "application/json"), ("idempotency-key", "x" * 128)],
    [("content-type", "application/json"), ("idempotency-key", "x" * 129)],
    [("content-type", "application/json"), ("idempotency-key", "!#$%&'*+/=?^_`{|}~")],
    [("content-type", "application/json"), ("idempotency-key", "0199c0de-0000-7000-8000-000000000001")],
    [("content-type", "application/json"), ("content-type", "application/json")],
]


@pytest.mark.parametrize("state", ["open", "sold_out"])
async def test_any_headers_get_the_answer_they_get_without_the_turnstile(
    app: RunningApp, behind: httpx.AsyncClient, state: str
) -> None:
    sale = await in_state(app, state)
    for headers in HEADERS:
        await _same(app, behind, sale, b'{"units": 1}', headers)


async def _same(app: RunningApp, behind: httpx.AsyncClient, sale: Sale, body: bytes, headers: Any) -> None:
    answers = []
    for ask in (app.client, behind):
        token = app.shopper_headers(f"u-{new_id(now())[-12:]}")
        sent = [*token.items(), *(headers.items() if isinstance(headers, dict) else headers)]
        answers.append(said(await ask.post(claim_path(sale), content=body, headers=sent)))
    assert answers[0] == answers[1], (body[:80], headers)


@pytest.mark.parametrize("state", STATES)
async def test_a_page_is_what_it_is_without_the_turnstile(
    app: RunningApp, behind: httpx.AsyncClient, state: str
) -> None:
    sale = await in_state(app, state)
    path, token = f"/v1/flash-sales/{sale.sale_id}", app.shopper_headers("alice")
    plain = await app.client.get(path, headers=token)
    assert said(plain) == said(await behind.get(path, headers=token))
    tag = plain.headers["etag"]
    strong = tag.removeprefix("W/")
    for asked in (tag, strong, f'"x", {tag}', "*", '"x"', tag[:-1], "", f"{tag},"):
        headers = token | {"if-none-match": asked}
        answers = [said(await ask.get(path, headers=headers)) for ask in (app.client, behind)]
        assert answers[0] == answers[1], asked
        assert answers[0]["status"] == (304 if asked in {tag, strong, f'"x", {tag}', "*", f"{tag},"} else 200), asked


async def test_without_a_good_token_nobody_learns_anything(app: RunningApp, behind: httpx.AsyncClient) -> None:
    sale = await in_state(app, "sold_out")
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "bearer"}, {"authorization": "Basic eDp5"}):
        for method, path in (("GET", f"/v1/flash-sales/{sale.sale_id}"), ("POST", claim_path(sale))):
            answers = [
                said(await ask.request(method, path, headers=headers, json={} if method == "POST" else None))
                for ask in (app.client, behind)
            ]
            assert answers[0] == answers[1]
            assert answers[0]["status"] == 401


# --- winners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["open", "sold_out", "paused", "ended", "closed"])
async def test_a_winner_who_asks_again_under_the_same_key_hears_of_the_claim_at_every_process(
    app: RunningApp, other: RunningApp, state: str
) -> None:
    sale = await in_state(app, state)
    await look(other)
    for process in (app, other):
        for user_id in ("holder-1", "holder-2"):
            again = await claim(process, sale, user_id, key="first")
            assert (again.status_code, again.json().get("state")) == (201, "held"), again.text
            assert again.headers["idempotent-replayed"] == "true"
        assert (await claim(process, sale, "stranger", key="first")).status_code == (201 if state == "open" else 409)


@pytest.mark.parametrize("_round", range(3))
async def test_winners_of_a_rush_who_ask_again_at_once_elsewhere_all_hear_of_their_claims(
    app: RunningApp, other: RunningApp, _round: int
) -> None:
    sale = await world.put_sale(app.growth.database, units_total=40)
    await look(app)
    await look(other)
    processes = (app, other)

    async def rush(number: int) -> tuple[int, int, str]:
        first = await claim(processes[number % 2], sale, f"u{number}", key="k")
        again = await claim(processes[(number + 1) % 2], sale, f"u{number}", key="k")
        return first.status_code, again.status_code, again.text

    got = await asyncio.gather(*[rush(number) for number in range(200)])
    assert sum(first == 201 for first, _, _ in got) == 40
    assert [(first, again, text) for first, again, text in got if first != again] == []


# --- how soon a change is seen ----------------------------------------------------------------------------------------


async def seen_in_time(process: RunningApp, sale: Sale, state: str) -> bool:
    """Whether a page asked for once all that was shown before is too old shows the state, at the latest."""
    too_old_at = time.monotonic() + MAX_AGE_SECONDS
    while True:
        asked_at = time.monotonic()
        page = await process.shopper("watcher", "GET", f"/v1/flash-sales/{sale.sale_id}")
        if page.json()["state"] == state:
            return True
        if asked_at > too_old_at:
            return False


@pytest.mark.parametrize("loaded", [True, False])
async def test_a_pause_is_seen_at_another_process_before_what_it_showed_is_too_old(
    app: RunningApp, other: RunningApp, *, loaded: bool
) -> None:
    sale = await world.put_sale(app.growth.database)
    if loaded:
        await claim(app, sale, "alice")
    await look(other)
    for step, state in [("pause", "paused"), ("resume", "open")] * 5 + [("end", "ended")]:
        answer = await app.operator("POST", f"/admin/v1/flash-sales/{sale.sale_id}/{step}")
        assert answer.status_code == 200
        assert await seen_in_time(other, sale, state), step


async def test_a_pause_stops_claims_everywhere_at_once(app: RunningApp, other: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database, units_total=100)
    await look(other)
    assert (await claim(other, sale, "before")).status_code == 201
    await app.operator("POST", f"/admin/v1/flash-sales/{sale.sale_id}/pause")
    assert (await claim(other, sale, "after")).json()["code"] == "flash_sale.paused"


async def test_a_sale_opens_and_closes_on_the_tick_at_every_process(app: RunningApp, other: RunningApp) -> None:
    # The first answers take their time: the test has to read the document that it holds them to.
    before = await world.put_sale(app.growth.database, sku="before")
    for process in (app, other):
        await claim(process, before, "early-bird")
    opens_at = now() + timedelta(seconds=1)
    sale = await world.put_sale(
        app.growth.database, opens_at=opens_at, closes_at=opens_at + timedelta(seconds=1), units_total=10_000
    )
    await app.growth.of(Loader).load(sale.sale_id)
    seen: dict[int, list[str]] = {0: [], 1: []}
    while not all("flash_sale.ended" in answers for answers in seen.values()):
        for number, process in enumerate((app, other)):
            answer = await claim(process, sale, f"u{len(seen[number])}-{number}")
            seen[number].append(answer.json().get("code", "held"))
    for answers in seen.values():
        # Each once, in this order: nobody gets in early or late, and nobody is kept out in between.
        assert [code for code, _ in itertools.groupby(answers)] == ["flash_sale.not_open", "held", "flash_sale.ended"]


async def test_countdowns_count_down_by_the_time_they_carry(app: RunningApp) -> None:
    opens_at = (now() + timedelta(seconds=30)).replace(microsecond=0)
    sale = await world.put_sale(app.growth.database, opens_at=opens_at, closes_at=opens_at + timedelta(seconds=60))
    await look(app)
    page = (await app.shopper("alice", "GET", f"/v1/flash-sales/{sale.sale_id}")).json()
    server_time = datetime.fromisoformat(page["server_time"])
    assert abs((server_time - now()).total_seconds()) < 1
    assert page["opens_in_ms"] == round((opens_at - server_time) / timedelta(milliseconds=1))
    assert page["closes_in_ms"] == page["opens_in_ms"] + 60_000
    assert (page["state"], page["sold_share"], page["units_left"]) == ("scheduled", 0.0, 10)
    refused = (await claim(app, sale, "alice")).json()
    assert (refused["code"], refused["opens_at"]) == ("flash_sale.not_open", page["opens_at"])
    gap = refused["opens_in_ms"] - (opens_at - datetime.fromisoformat(refused["server_time"])) / timedelta(
        milliseconds=1
    )
    assert abs(gap) <= 1
    listed = (await app.shopper("alice", "GET", "/v1/flash-sales")).json()["items"]
    rounds = (await app.shopper("alice", "GET", "/v1/flash-sale-rounds")).json()["items"]
    for shown in (listed[0], rounds[0]["sales"][0]):
        assert _steady(shown, VOLATILE) == _steady(page, VOLATILE)
    assert rounds[0]["opens_at"] == page["opens_at"]
