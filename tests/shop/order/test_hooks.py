"""Hooks over HTTP: what comes in, what is answered, and what is refused without a trace."""

import json
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from growth.plumbing.docs.openapi import complete
from growth.plumbing.http.signatures import sign
from growth.plumbing.postgres.database import Database, Tx
from growth.shop.order import hooks
from growth.shop.order.service import ShopService
from growth.vocabulary import clock
from growth.vocabulary.orders import LineOutcome, Order, Outcome
from tests.shop.order.hooking import PATH, Shop, app_of, nothing_is_stored, refused
from tests.shop.order.telling import (
    CLAIM_ID,
    JSON,
    NOON,
    OLD_SECRET,
    SECRET,
    Recorder,
    closed,
    event,
    line,
    paid,
    raw_of,
    refunded,
    registered,
    stored,
)

pytestmark = pytest.mark.anyio


# --- what is answered -----------------------------------------------------------------------------------------------


async def test_each_event_is_answered_in_its_place(shop: Shop) -> None:
    results = await shop.tells(
        paid(id_="1"), event("order.paid", {}, id_="2"), event("tea.brewed", {"x": [1]}, id_="3"), closed("o2", id_="4")
    )
    assert [(one["id"], one["outcome"], one["code"]) for one in results] == [
        ("1", "applied", ""),
        ("2", "rejected", "request.invalid"),
        ("3", "ignored", "shop.no_listener"),
        ("4", "applied", ""),
    ]
    assert results[1]["detail"] == "data.order_id: This field is required"
    assert all(one["lines"] == [] for one in results)


async def test_one_event_alone_needs_no_array(shop: Shop) -> None:
    for raw in (json.dumps(closed()).encode(), b" \n" + json.dumps(closed(id_="b"), indent=1).encode() + b"\n"):
        response = await shop.send(raw)
        assert (response.status_code, len(response.json()["results"])) == (200, 1)


async def test_lines_say_what_became_of_them(shop: Shop, recorder: Recorder) -> None:
    async def sold_out(_tx: Tx, order: Order) -> Sequence[LineOutcome]:
        return [
            LineOutcome(one.line_id, Outcome.REFUND_REQUIRED, "flash_sale.sold_out", "nothing left")
            for one in order.lines
            if one.used("flash_sale.claim")
        ]

    recorder.settle_by = sold_out
    (result,) = await shop.tells(paid("o1", line("1"), line("2", claim_id=CLAIM_ID)))
    assert result["outcome"] == "refund_required"
    assert result["lines"] == [
        {
            "line_id": "2",
            "outcome": "refund_required",
            "code": "flash_sale.sold_out",
            "detail": "nothing left",
            "owed_fen": 200,
        }
    ]
    (again,) = await shop.tells(paid("o1", line("1"), line("2", claim_id=CLAIM_ID)))
    assert (again["outcome"], again["code"], again["lines"]) == ("duplicate", "refund_required", result["lines"])


async def test_an_empty_hook_has_an_empty_answer(shop: Shop) -> None:
    assert await shop.tells() == []


async def test_as_many_events_as_a_hook_takes_are_applied(shop: Shop, database: Database) -> None:
    told = [registered(f"u{number}") for number in range(hooks.MAX_EVENTS)]
    results = await shop.tells(*told)
    assert {one["outcome"] for one in results} == {"applied"}
    assert len((await stored(database))["shoppers"]) == hooks.MAX_EVENTS


async def test_the_media_types_of_cloud_events_are_taken(shop: Shop) -> None:
    for media_type in (
        "application/json; charset=utf-8",
        "application/cloudevents+json",
        "application/cloudevents-batch+json; charset=UTF-8",
    ):
        assert (await shop.send(raw_of(closed()), {"content-type": media_type})).status_code == 200


async def test_attributes_of_cloud_events_that_are_optional_are_taken(shop: Shop) -> None:
    told = closed() | {"datacontenttype": "application/json", "subject": "o1", "dataschema": "https://shop.test/v1"}
    (result,) = await shop.tells(told)
    assert result["outcome"] == "applied"


# --- what is refused ------------------------------------------------------------------------------------------------


async def test_what_the_shop_did_not_sign_about_now_is_refused(
    shop: Shop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_of(paid())
    refused(await shop.send(raw, {"webhook-signature": ""}), 401, "shop.signature_missing")
    refused(await shop.send(raw, secret=OLD_SECRET), 401, "shop.signature_invalid")
    refused(await shop.send(raw, {"webhook-id": "other"}), 401, "shop.signature_invalid")
    refused(await shop.send(raw, {"webhook-timestamp": "1"}), 401, "shop.timestamp_outside_tolerance")
    unsigned = await shop.client.post(PATH, content=raw, headers={"content-type": "application/json"})
    refused(unsigned, 401, "shop.signature_missing")
    truncated = await shop.client.post(
        PATH, content=raw[:-1], headers=sign(SECRET, "hook", NOON, raw) | {"content-type": "application/json"}
    )
    refused(truncated, 401, "shop.signature_invalid")
    for seconds in (-301, 301):
        monkeypatch.setattr(clock, "now", lambda seconds=seconds: clock.from_milliseconds(moved(seconds)))
        refused(await shop.send(raw), 401, "shop.timestamp_outside_tolerance")
    assert await nothing_is_stored(database)


def moved(seconds: int) -> int:
    return clock.to_milliseconds(NOON) + seconds * 1000


async def test_a_replayed_hook_changes_nothing(shop: Shop, database: Database) -> None:
    await shop.tells(paid(), refunded())
    before = await stored(database)
    results = await shop.tells(paid(), refunded())
    assert [(one["outcome"], one["code"]) for one in results] == [("duplicate", "applied")] * 2
    assert await stored(database) == before


async def test_five_megabytes_are_refused_before_they_are_read(shop: Shop, database: Database) -> None:
    sent = 0

    async def trickle() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(80):
            sent += 65536
            yield b" " * 65536

    signed = sign(SECRET, "hook", NOON, b"") | {"content-type": "application/json"}
    announced = await shop.client.post(PATH, content=b" " * (5 * 2**20), headers=signed)
    refused(announced, 413, "request.too_large")
    chunked = await shop.client.post(PATH, content=trickle(), headers=signed)
    refused(chunked, 413, "request.too_large")
    assert sent <= hooks.MAX_BODY_BYTES + 2 * 65536
    assert await nothing_is_stored(database)


async def test_a_body_of_the_whole_size_is_read(shop: Shop) -> None:
    raw = raw_of(closed())
    assert (await shop.send(raw.ljust(hooks.MAX_BODY_BYTES))).status_code == 200
    refused(await shop.send(raw.ljust(hooks.MAX_BODY_BYTES + 1)), 413, "request.too_large")


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_a_body_that_is_not_declared_as_json_is_refused(shop: Shop, media_type: str) -> None:
    refused(await shop.send(raw_of(paid()), {"content-type": media_type}), 415, "request.unsupported_type")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"5",
        b'"order.paid"',
        raw_of(paid())[:-1],
        raw_of(paid())[:-40],
        raw_of(paid()) + b"[]",
        b"\xef\xbb\xbf" + raw_of(paid()),
        json.dumps([paid()]).encode("utf-16"),
        b"[" * 500_000,
        b'[{"data":' * 50_000,
        raw_of(paid())[:-1] + b",]",
        b"[NaN]",
        b"[" + b"{}," * hooks.MAX_EVENTS + b"{}]",
    ],
)
async def test_what_is_no_array_of_events_is_refused_whole(shop: Shop, database: Database, raw: bytes) -> None:
    refused(await shop.send(raw), 400, "request.invalid")
    assert await nothing_is_stored(database)


async def cpu_seconds(shop: Shop, told: JSON) -> float:
    begun = time.process_time()
    await shop.send(raw_of(told))
    return time.process_time() - begun


async def test_the_dearest_hook_costs_little_more_than_a_plain_one_of_its_size(shop: Shop) -> None:
    told = event("x", {"a": ["[]{}\\u0000"] * 80_000}, id_="e")
    plain = event("x", {"a": ["........"] * 80_000}, id_="e")
    dear, cheap = [await cpu_seconds(shop, one) for one in (told, plain)]
    assert dear < 20 * cheap


# --- what is documented ---------------------------------------------------------------------------------------------


async def test_the_document_shows_events_headers_and_answers(service: ShopService) -> None:
    app = app_of(service)
    document = complete(app.openapi_schema.to_schema(), app)
    operation = document["paths"][PATH]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == set(sign(SECRET, "x", NOON, b""))
    one, batch = operation["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert batch["maxItems"] == hooks.MAX_EVENTS
    schemas = document["components"]["schemas"]
    types = [schemas[shape["$ref"].rpartition("/")[2]]["properties"]["type"] for shape in one["anyOf"]]
    assert [type_.get("enum") for type_ in types] == [[name] for name in hooks.HOOKS] + [None]
    assert "200" in operation["responses"]
