"""What every edge shares: bodies, versions, keys, pages, callers' addresses, CSV."""

import asyncio
import csv
import io
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, Request, get, post
from litestar.params import FromPath
from msgspec import Struct

from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    MAX_CURSOR_CHARACTERS,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUserId,
    PathUuid,
    StrictRequest,
    address_group,
    body,
    client_address,
    csv_bytes,
    decode_cursor,
    encode_cursor,
    etag,
    idempotency_key,
    if_match,
    page_of,
    raw_body,
    require_json,
)
from growth.plumbing.http.problems import exception_handlers
from growth.plumbing.strict_json import Instant
from growth.vocabulary.ids import SaleId, Uuid
from growth.vocabulary.refusals import Refusal

pytestmark = pytest.mark.anyio

SALE = "0189f7ea-ae2c-7c3e-8b1a-0189f7eaae2c"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Order(Struct, forbid_unknown_fields=True):
    units: int


class Told(Struct):
    at: datetime


def _request(*headers: tuple[str, str], chunks: tuple[bytes, ...] = (b"",)) -> Request[Any, Any, Any]:
    sent = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks[:-1]]
    sent.append({"type": "http.request", "body": chunks[-1], "more_body": False})
    messages = iter(sent)

    async def receive() -> Any:
        return next(messages)

    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "litestar_app": _app,
        "route_handler": next(iter(_app.routes[0].route_handler_map.values()))[0],  # type: ignore[union-attr]
    }
    return Request(scope, receive)


@post("/orders")
async def orders(request: Request[Any, Any, Any]) -> int:
    return (await body(request, Order, max_bytes=100)).units


@get("/sales/{sale_id:str}")
async def sale(sale_id: PathUuid) -> str:
    return sale_id


@get("/unguarded/{sale_id:str}")
async def unguarded(sale_id: FromPath[SaleId]) -> str:
    return sale_id


@get("/users/{user_id:str}")
async def user(user_id: PathUserId) -> str:
    return user_id


@get("/pages")
async def pages(limit: Limit = DEFAULT_PAGE, cursor: Cursor = None) -> Page[int]:
    start = decode_cursor(cursor, tuple[int])
    first = start[0] if start else 0
    return page_of(list(range(first + 1, first + limit + 2)), limit, lambda item: (item,))


@get("/now")
async def now() -> list[Told]:
    return [Told(NOW)]


_app = Litestar(
    [orders, sale, unguarded, user, pages, now],
    request_class=StrictRequest,
    response_class=JsonResponse,
    exception_handlers=exception_handlers,
    logging_config=None,
    openapi_config=None,
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=_app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def _fields(refusal: Refusal) -> list[str]:
    errors: Any = refusal.members["errors"]
    return [error.field for error in errors]


# --- bodies ---------------------------------------------------------------------------------------------------------

JSON = ("content-type", "application/json")


async def test_a_body_arrives_in_pieces() -> None:
    assert await body(_request(JSON, chunks=(b'{"un', b'its"', b":3}")), Order) == Order(3)


async def test_a_body_is_refused_as_soon_as_it_is_known_to_be_too_large() -> None:
    endless = iter(range(10))

    async def receive() -> Any:
        next(endless)
        return {"type": "http.request", "body": b" " * 60, "more_body": True}

    request = _request(JSON)
    request.receive = receive
    with pytest.raises(Refusal) as refused:
        await raw_body(request, max_bytes=100)
    assert refused.value.kind.status == 413
    assert next(endless) == 2


async def test_a_body_announced_as_too_large_is_not_read() -> None:
    async def receive() -> Any:
        pytest.fail("it was read")

    for length in ("101", "9" * 40):
        request = _request(JSON, ("content-length", length))
        request.receive = receive
        with pytest.raises(Refusal) as refused:
            await raw_body(request, max_bytes=100)
        assert refused.value.kind.status == 413


async def test_a_caller_who_leaves_half_way_is_no_fault_of_ours() -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    request = _request(JSON)
    request.receive = receive
    with pytest.raises(Refusal) as refused:
        await body(request, Order)
    assert refused.value.kind.status == 400


@pytest.mark.parametrize(
    "declared",
    ["application/json", "Application/JSON", "application/json;charset=utf-8", 'application/json; charset="UTF-8"'],
)
def test_json_is_declared_in_more_ways_than_one(declared: str) -> None:
    require_json(_request(("content-type", declared)))


@pytest.mark.parametrize(
    "declared",
    [
        "",
        "text/json",
        "application/jsonx",
        "application/json; charset=gbk",
        "application/json, text/plain",
        "application/cloudevents+json",
        "multipart/form-data; boundary=x",
    ],
)
def test_anything_else_is_not_json(declared: str) -> None:
    with pytest.raises(Refusal) as refused:
        require_json(_request(("content-type", declared)))
    assert refused.value.kind.status == 415


def test_a_call_may_take_other_types_too() -> None:
    require_json(
        _request(("content-type", "application/cloudevents+json; charset=utf-8")), "application/cloudevents+json"
    )


async def test_content_length_that_is_no_number_is_400(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/orders", content=b'{"units":1}', headers={"content-type": "application/json", "content-length": "x"}
    )
    assert response.status_code == 400


# --- parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [f"/sales/{SALE}", "/users/wx:o6_bmjrPTlm6_2sgVt7hMZOPfL2M"])
async def test_a_well_formed_id_passes(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/sales/1",
        f"/sales/{SALE.upper()}",
        f"/sales/{SALE}x",
        f"/sales/{SALE}%0a",
        f"/sales/{SALE}%00",
        f"/sales/%7B{SALE}%7D",
        "/sales/'%20OR%201=1",
        "/users/a%0a",
        "/users/a%00",
        "/users/%20a",
        "/users/a%E2%80%AE",
        "/users/%ff",
        "/users/" + "a" * 129,
    ],
)
async def test_an_ill_formed_id_is_400(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] in {"sale_id", "user_id"}


async def test_without_our_marker_any_text_is_an_id(client: httpx.AsyncClient) -> None:
    """Negative control: Litestar drops msgspec's pattern from `FromPath[SaleId]`."""
    assert (await client.get("/unguarded/nonsense")).status_code == 200


def test_a_version_is_read_from_if_match() -> None:
    assert if_match(_request(("if-match", '"7"'))) == 7
    assert if_match(_request(("if-match", etag(12)))) == 12


def test_a_version_is_required() -> None:
    with pytest.raises(Refusal) as refused:
        if_match(_request())
    assert refused.value.kind.status == 412


@pytest.mark.parametrize(
    "header",
    ["7", "*", 'W/"7"', '"x"', '"-1"', '"7", "8"', '""', '"' + "9" * 19 + '"', '"\xb2"'],
)
def test_a_version_in_another_form_is_400(header: str) -> None:
    with pytest.raises(Refusal) as refused:
        if_match(_request(("if-match", header)))
    assert refused.value.kind.status == 400
    assert _fields(refused.value) == ["If-Match"]


def test_an_idempotency_key_is_optional() -> None:
    assert idempotency_key(_request()) is None
    assert idempotency_key(_request(("idempotency-key", "8e03978e-40d5"))) == "8e03978e-40d5"
    assert idempotency_key(_request(("idempotency-key", "x" * 128))) == "x" * 128


@pytest.mark.parametrize("keys", [("",), ("x" * 129,), ("a b",), ("a\tb",), ("\x7f",), ("ü",), ("a", "b"), ("a", "a")])
def test_an_idempotency_key_of_another_form_is_400(keys: tuple[str, ...]) -> None:
    with pytest.raises(Refusal) as refused:
        idempotency_key(_request(*(("idempotency-key", key) for key in keys)))
    assert refused.value.kind.status == 400
    assert _fields(refused.value) == ["Idempotency-Key"]


# --- pages ----------------------------------------------------------------------------------------------------------


async def test_pages_follow_each_other(client: httpx.AsyncClient) -> None:
    first = (await client.get("/pages?limit=3")).json()
    assert first["items"] == [1, 2, 3]
    second = (await client.get("/pages", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert second["items"] == [4, 5, 6]
    assert len((await client.get("/pages")).json()["items"]) == DEFAULT_PAGE


def test_the_last_page_has_no_cursor() -> None:
    assert page_of([1, 2], 2, lambda item: (item,)) == Page([1, 2], None)
    assert page_of([], 2, lambda item: (item,)) == Page([], None)
    assert page_of([1, 2, 3], 2, lambda item: (item,)) == Page([1, 2], encode_cursor(2))


def test_a_cursor_comes_back_as_it_went() -> None:
    assert decode_cursor(None, tuple[Instant, Uuid]) is None
    assert decode_cursor(encode_cursor(NOW, SALE), tuple[Instant, Uuid]) == (NOW, SALE)


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "a b",
        "ü",
        "\x00",
        _encoded(b"[]"),
        _encoded(b'["2026-11-21T12:00:00Z"]'),
        _encoded(b'["2026-11-21T12:00:00Z","not-ours"]'),
        _encoded(b'["2026-11-21T12:00:00","' + SALE.encode() + b'"]'),
        _encoded(b'["yesterday","' + SALE.encode() + b'"]'),
        _encoded(b'["2026-11-21T12:00:00Z","' + SALE.encode() + b'",1]'),
        _encoded(b"\xff"),
        _encoded(b"[" * 300),
        encode_cursor(NOW, SALE) + "\n",
        encode_cursor(NOW, SALE) + "=",
        encode_cursor(NOW, SALE)[:-3],
        "A" * (MAX_CURSOR_CHARACTERS + 1),
    ],
)
def test_a_forged_cursor_is_400(cursor: str) -> None:
    with pytest.raises(Refusal) as refused:
        decode_cursor(cursor, tuple[Instant, Uuid])
    assert refused.value.kind.status == 400
    assert _fields(refused.value) == ["cursor"]


@given(st.text(max_size=60))
def test_no_cursor_at_all_raises_anything_but_a_refusal(cursor: str) -> None:
    with pytest.raises(Refusal):
        decode_cursor(cursor, tuple[Instant, Uuid])


async def test_answers_show_times_with_milliseconds(client: httpx.AsyncClient) -> None:
    response = await client.get("/now")
    assert response.headers["content-type"] == "application/json"
    assert response.text == '[{"at":"2026-11-21T12:00:00.000Z"}]'


# --- addresses ------------------------------------------------------------------------------------------------------

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def _address(peer: str | None, *forwarded: str, proxies: Any = PROXIES) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return client_address({"client": (peer, 1234) if peer is not None else None, "headers": headers}, proxies)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # Nobody between us and the caller: what they write about themselves is nothing.
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("1.1.1.1",), "203.0.113.9"),
        ("203.0.113.9", ("10.0.0.1",), "203.0.113.9"),
        # One proxy.
        ("10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("1.1.1.1, 203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("10.9.9.9, 203.0.113.9",), "203.0.113.9"),
        # Two proxies.
        ("10.0.0.1", ("1.1.1.1, 203.0.113.9, 10.0.0.2",), "203.0.113.9"),
        ("10.0.0.1", ("1.1.1.1", "203.0.113.9", "10.0.0.2"), "203.0.113.9"),
        ("10.0.0.1", ("1.1.1.1,203.0.113.9", "10.0.0.2"), "203.0.113.9"),
        # All trusted: the far end, a job within the cluster.
        ("10.0.0.1", ("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ("10.0.0.1", (), "10.0.0.1"),
        # An entry that is no address: nobody trusted wrote it, or about nobody.
        ("10.0.0.1", ("1.1.1.1, unknown",), "10.0.0.1"),
        ("10.0.0.1", ("1.1.1.1, , 10.0.0.2",), "10.0.0.2"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", ("203.0.113.9,",), "10.0.0.1"),
        ("10.0.0.1", ("127.1",), "10.0.0.1"),
        ("10.0.0.1", ("0x7f000001",), "10.0.0.1"),
        ("10.0.0.1", ("010.0.0.1",), "10.0.0.1"),
        ("10.0.0.1", ("fe80::1%eth0",), "10.0.0.1"),
        ("10.0.0.1", ("203.0.113.9\r\nx: y",), "10.0.0.1"),
        # Spellings of one address.
        ("10.0.0.1", ("203.0.113.9:4711",), "203.0.113.9"),
        ("10.0.0.1", ("2001:DB8:0::1",), "2001:db8::1"),
        ("10.0.0.1", ("[2001:db8::1]:443",), "2001:db8::1"),
        ("10.0.0.1", ("::ffff:203.0.113.9",), "203.0.113.9"),
        ("::ffff:10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("fd00::1", ("1.1.1.1, 203.0.113.9",), "203.0.113.9"),
        # A Unix socket.
        (None, ("1.1.1.1, 203.0.113.9",), "203.0.113.9"),
        (None, (), ""),
    ],
)
def test_the_caller_is_the_right_most_address_that_is_no_proxy_of_ours(
    peer: str | None, forwarded: tuple[str, ...], expected: str
) -> None:
    assert _address(peer, *forwarded) == expected


def test_without_trusted_proxies_the_header_is_never_read() -> None:
    assert _address("10.0.0.1", "203.0.113.9", proxies=()) == "10.0.0.1"
    assert _address(None, "203.0.113.9", proxies=()) == ""


def test_an_endless_header_is_followed_only_so_far() -> None:
    assert _address("10.0.0.1", "203.0.113.9," + "10.0.0.2," * 5000 + "10.0.0.3") == "10.0.0.2"


def test_the_left_most_entry_would_be_what_the_caller_claims() -> None:
    """Negative control: the usual mistake."""
    header = "6.6.6.6, 203.0.113.9"
    assert header.split(",", maxsplit=1)[0] == "6.6.6.6"
    assert _address("10.0.0.1", header) == "203.0.113.9"


@given(st.text(alphabet="0123456789.:,abcdef []%/\t", max_size=80))
def test_no_header_at_all_makes_it_fail(forwarded: str) -> None:
    assert _address("10.0.0.1", forwarded)


def test_limits_count_an_ipv6_subscriber_once() -> None:
    assert address_group("2001:db8:1:2:3:4:5:6") == address_group("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert address_group("203.0.113.9") == "203.0.113.9"
    assert address_group("") == ""


# --- CSV ------------------------------------------------------------------------------------------------------------


def _read(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_csv_is_what_a_spreadsheet_expects() -> None:
    data = csv_bytes(["标题", "fen", "at", "ok", "none"], [['秒杀, "¥1"\n', 100, NOW, True, None]])
    assert data.startswith(b"\xef\xbb\xbf")
    assert _read(data) == [
        ["标题", "fen", "at", "ok", "none"],
        ['秒杀, "¥1"\n', "100", "2026-11-21T12:00:00.000Z", "true", ""],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "   +1",
        "\uff1d1",
        "\uff0d1",
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("x")',
    ],
)
def test_text_that_a_spreadsheet_would_run_is_made_plain(text: str) -> None:
    ((_, cell),) = [_read(csv_bytes(["a", "b"], [["x", text]]))[1]]
    assert cell == f"'{text}"


@pytest.mark.parametrize("value", [-1, -1.5, 0, 10**12])
def test_numbers_stay_numbers(value: float) -> None:
    assert _read(csv_bytes(["a"], [[value]]))[1] == [str(value)]


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_no_cell_ever_starts_a_formula(cells: list[str]) -> None:
    rows = _read(csv_bytes(["a"] * len(cells), [["x", *cells]]))
    assert len(rows) == 2
    for cell in rows[1]:
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


async def test_strict_request_can_be_read_by_many_at_once(client: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(client.post("/orders", json={"units": number}) for number in range(64)))
    assert [response.json() for response in responses] == list(range(64))
