"""Every field of an event: what it does not take is named, and the neighbours are applied."""

import json
from typing import Any

import msgspec
import pytest

from growth.plumbing.postgres.database import Database
from growth.shop.order import hooks
from tests.shop.order.hooking import Shop, nothing_is_stored
from tests.shop.order.telling import CLAIM_ID, JSON, at, closed, event, line, paid, refunded, registered, stored

pytestmark = pytest.mark.anyio


def with_(path: str, value: object) -> JSON:
    """A payment with one field changed; the path is that of the answer."""
    told: Any = paid()
    *way, last = path.replace("[0]", ".0").split(".")
    inner = told
    for step in way:
        inner = inner[int(step) if step.isdigit() else step]
    inner[last] = value
    return dict(told)


HUGE = 10**30
BAD_NUMBERS: list[object] = [-1, HUGE, 1.5, 1.0, True, "1", None, 2**53 + 1, [], {}]
BAD_IDS: list[object] = [
    "",
    "x" * 129,
    " a",
    "a\u3000",
    "a\n",
    "a\x00",
    "\x1b[31m",
    "\u202ea",
    "a\u2066b",
    "a\u2028b",
    5,
]
BAD_TIMES: list[object] = [
    "",
    "yesterday",
    "2026-11-21",
    "2026-11-21T12:00:00",
    "0001-01-01T00:00:00+14:00",
    1795262400,
    None,
]


BAD: dict[str, list[object]] = {
    "data.paid_fen": BAD_NUMBERS,
    "data.lines[0].amount_fen": BAD_NUMBERS,
    "data.lines[0].units": [0, *BAD_NUMBERS],
    "data.order_id": [None, *BAD_IDS],
    "data.user_id": [None, *BAD_IDS],
    "data.lines[0].line_id": [None, *BAD_IDS],
    "data.lines[0].sku": [None, *BAD_IDS],
    "data.lines[0].claim_id": [*BAD_IDS, CLAIM_ID.upper(), CLAIM_ID + "\n"],
    "data.lines[0].seat_id": [*BAD_IDS, CLAIM_ID + "\n"],
    "data.lines[0].coupon_id": [*BAD_IDS, CLAIM_ID + "\n"],
    "data.lines[0].refunded_units": [0],
    "data.lines": [[], None, [line(), line()], [line(str(number)) for number in range(hooks.MAX_LINES + 1)]],
    "data.paid_at": BAD_TIMES,
    "data.is_paid": [True],
    "data": [None, [], "{}"],
    "time": BAD_TIMES,
    "id": [None, "", "x" * 257, "a b", "a\n", "茶", 5, {}],
    "source": [None, "", "x" * 257, "a\n", "\u202e"],
    "type": [None, "", "a b", "order.paid\n", 5],
    "specversion": [None, "0.3", 1.0],
    "datacontenttype": ["text/xml"],
    "outcome": ["applied"],
}


@pytest.mark.parametrize("path", BAD)
async def test_a_bad_field_is_named_and_the_neighbours_are_applied(shop: Shop, database: Database, path: str) -> None:
    *results, good = await shop.tells(*(with_(path, value) for value in BAD[path]), closed("o2"))
    for value, bad in zip(BAD[path], results, strict=True):
        assert (bad["outcome"], bad["code"]) == ("rejected", "request.invalid"), value
        assert path.rpartition(".")[2] in bad["detail"], value
    assert good["outcome"] == "applied"
    assert [row[0] for row in (await stored(database))["orders"]] == ["o2"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"specversion":"1.0","specversion":"1.0","id":"e","source":"s","type":"order.closed","time":"2026-11-21T12:00:00Z","data":{"order_id":"o"}}',
        b'{"specversion":"1.0","id":"e","source":"s","type":"order.closed","time":"2026-11-21T12:00:00Z","data":{"order_id":"o","order_id":"p"}}',
        b'{"specversion":"1.0","id":"e","source":"s","type":"x","time":"2026-11-21T12:00:00Z","data":'
        + b"[" * 40
        + b"]" * 40
        + b"}",
        b'{"specversion":"1.0","id":"e","source":"s","type":"x","time":"2026-11-21T12:00:00Z","data":1e400}',
        b'{"specversion":"1.0","id":"e","source":"s","type":"x","time":"2026-11-21T12:00:00Z","data":"\xff"}',
        b'{"specversion":"1.0","id":"e","source":"s","type":"x","time":"2026-11-21T12:00:00Z","data":"\\u0000"}',
        b"5",
        b"null",
        b'"\xff"',
        b"[]",
    ],
)
async def test_one_event_that_no_reader_agrees_on_is_rejected_alone(shop: Shop, database: Database, raw: bytes) -> None:
    response = await shop.send(b"[" + raw + b"," + json.dumps(closed("o2")).encode() + b"]")
    bad, good = response.json()["results"]
    assert (bad["outcome"], bad["code"]) == ("rejected", "request.invalid"), bad
    assert good["outcome"] == "applied"
    assert [row[0] for row in (await stored(database))["orders"]] == ["o2"]


@pytest.mark.parametrize(
    "told",
    [
        refunded("o", "r", {"line_id": "1", "units": 0, "amount_fen": 0}),
        event("order.refunded", {"order_id": "o", "refund_id": "r", "lines": []}),
        paid("o", line(claim_id=CLAIM_ID, seat_id=CLAIM_ID)),
        event("order.placed", {"order_id": "o", "user_id": "u", "placed_at": at(0), "lines": [line()], "paid_fen": 1}),
    ],
)
async def test_what_makes_no_sense_is_rejected(shop: Shop, database: Database, told: JSON) -> None:
    (result,) = await shop.tells(told)
    assert (result["outcome"], result["code"]) == ("rejected", "request.invalid")
    assert await nothing_is_stored(database)


async def test_no_remark_about_a_shopper_keeps_the_shopper_from_being_registered(
    shop: Shop, database: Database
) -> None:
    odd = registered("u", source="two\nlines\u202e\U0001f389", device_id="x" * 201, address="")
    (result,) = await shop.tells(odd)
    assert result["outcome"] == "applied"
    row = await database.fetchrow("SELECT source, device_id, address FROM shop.shoppers WHERE user_id = 'u'")
    assert row is not None
    assert tuple(row) == ("two lines\U0001f389", "x" * 200, None)
    # As a client writes what it cut in the middle of an emoji.
    raw = msgspec.json.encode(registered("v", source="cut HERE")).replace(b"HERE", rb"\ud83d")
    (result,) = (await shop.send(raw)).json()["results"]
    assert result["outcome"] == "applied"
    assert await database.fetchval("SELECT source FROM shop.shoppers WHERE user_id = 'v'") == "cut"


async def test_an_event_mended_may_be_told_under_the_same_id(shop: Shop) -> None:
    (bad,) = await shop.tells(with_("data.paid_fen", "1") | {"id": "e"})
    (good,) = await shop.tells(paid(id_="e"))
    assert (bad["outcome"], good["outcome"]) == ("rejected", "applied")
