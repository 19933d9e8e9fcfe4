"""What stands percent-encoded in a URL is text: slashes of ids, and texts in two forms."""

import json
from urllib.parse import quote, unquote

import httpx
import pytest
from litestar import Litestar, get
from litestar.params import FromPath, FromQuery

from growth.plumbing.http.urls import WholePaths, plain_ids
from growth.plumbing.strict_json import composed_json

pytestmark = pytest.mark.anyio

TEXTS = ["a", "a/b", "/a/", "a//b", "../c", "a b", "%2F", "茶/红", "e\u0301/e\u0301", "?x=1", "#", "a\\b"]


@get("/things/{thing:str}")
async def get_thing(thing: FromPath[str]) -> str:
    return thing


@get("/things/{thing:str}/parts/{part:str}")
async def get_part(thing: FromPath[str], part: FromPath[str], name: FromQuery[str]) -> list[str]:
    return [thing, part, name]


async def asked(path: str) -> httpx.Response:
    routes = Litestar([get_thing, get_part], middleware=[plain_ids], logging_config=None)
    transport = httpx.ASGITransport(WholePaths(routes))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://growth.test") as client:
        return await client.get(path)


@pytest.mark.parametrize("text", TEXTS)
async def test_an_id_is_one_piece_of_a_path(text: str) -> None:
    composed = {"e\u0301/e\u0301": "é/é"}.get(text, text)
    spelled = quote(text, safe="")
    for path in (spelled, spelled.replace("%2F", "%2f")):
        answer = await asked(f"/things/{path}/parts/{path}?name={path}")
        assert answer.json() == [composed, composed, composed], answer.text


@pytest.mark.parametrize("path", ["/things/a/b", "/things%2Fa", "/things/a%2Fparts/b", "/things/a%00%2Fb/parts/c/d"])
async def test_slashes_of_ids_part_no_path_and_those_of_paths_are_in_no_id(path: str) -> None:
    assert (await asked(path)).status_code == 404


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a":"e\xcc\x81"}', "é"),
        (b'{"a":"e\\u0301"}', "é"),
        (b'{"a":"\\u00e9"}', "é"),
        (b'{"a":"\\"e\\u0301\\\\"}', '"é\\'),
        (b'{"a":"\\ud83d\\ude00"}', "😀"),
        (b'{"a":"\\\\u0301"}', "\\u0301"),
        ('{"a":"茶"}'.encode(), "茶"),
    ],
)
def test_texts_in_json_are_composed_and_nothing_else_is_changed(raw: bytes, expected: str) -> None:
    assert json.loads(composed_json(raw)) == {"a": expected}
    around = b'[1e5,-0,1.0,"x", {"b" :[]} ,' + raw + b"]\n"
    assert composed_json(around).startswith(b'[1e5,-0,1.0,"x", {"b" :[]} ,')


@pytest.mark.parametrize("raw", [b"", b"\xff", b'"\\u0301', b'"\\ud800"', b'{"a":"\\u00zz"}', b'"\\', b'"' * 7, b"\\u"])
def test_what_is_no_json_stays_as_it_is(raw: bytes) -> None:
    assert composed_json(raw) == raw


def test_a_megabyte_of_quotes_takes_no_time_worth_naming() -> None:
    raw = b'{"a":"\\u0301' + b'\\"' * 500_000
    assert composed_json(raw) == raw
    assert unquote("%C3%A9") == "é"


async def test_the_mark_that_stands_for_a_slash_is_none_when_somebody_else_sends_it() -> None:
    answer = await asked("/things/a%00b")
    assert answer.text == "a\x01b"
