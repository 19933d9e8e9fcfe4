"""Paths, queries and headers made to hurt: every call of the document, every parameter it takes."""

import re
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import quote, unquote

import httpx
import msgspec
import pytest

from growth.vocabulary.ids import FOREIGN_ID_PATTERN
from tests.abuse.attacked import BYPASSING, NOBODYS_ID, PLAIN, Attacked, Call, RawHeaders, refused

pytestmark = pytest.mark.anyio

BOTH_WAYS = pytest.mark.parametrize("content_type", [PLAIN, BYPASSING], ids=["short cut", "bypassed"])


def with_parameter(house: Attacked, name: str) -> list[Call]:
    return [
        call
        for call in house.calls
        if any(
            parameter["name"] == name and parameter["in"] == "query"
            for parameter in call.operation.get("parameters", ())
        )
    ]


def cursor(*position: object) -> str:
    return urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


LIMITS = [
    "0",
    "-1",
    "101",
    "1000000000",
    "9223372036854775808",
    "1" * 400,
    "1.5",
    "1e3",
    "true",
    "",
    "NaN",
    "1;DROP",
    "0x10",
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit[:20])
async def test_a_limit_out_of_bounds_is_named(house: Attacked, limit: str) -> None:
    for call in with_parameter(house, "limit"):
        answer = await house.ask("GET", f"{house.url(call)}?limit={limit}", token=house.credential(call))
        refused(answer, 400, code="request.invalid", field="limit")


NO_INSTANTS = [
    *("252", "-1", "1796065992", "1e9", "", "null", "now", "2026-11-21", "2026-11-21T12:00:00", "12:00:00Z"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-29T00:00:00Z", "1" * 400),
]


@pytest.mark.parametrize("text", NO_INSTANTS, ids=lambda text: text[:25])
async def test_an_instant_that_is_none_is_named(house: Attacked, text: str) -> None:
    asked = 0
    for call in house.calls:
        for parameter in call.operation.get("parameters", ()):
            schemas = [parameter["schema"], *parameter["schema"].get("oneOf", parameter["schema"].get("anyOf", ()))]
            if parameter["in"] == "query" and any(schema.get("format") == "date-time" for schema in schemas):
                asked += 1
                url = f"{house.url(call)}?{parameter['name']}={quote(text)}"
                answer = await house.ask("GET", url, token=house.credential(call))
                refused(answer, 400, code="request.invalid", field=parameter["name"])
    assert asked >= 4


FORGED_CURSORS = {
    "garbage": "!!!",
    "no base64": "a",
    "no JSON": urlsafe_b64encode(b"abc").decode().rstrip("="),
    "nothing": "",
    "empty": cursor(),
    "number": urlsafe_b64encode(b"1").decode().rstrip("="),
    "too many": cursor(*[NOBODYS_ID] * 9),
    "SQL": cursor("' OR 1=1 --"),
    "NUL": cursor("\x00"),
    "deep": urlsafe_b64encode(b"[" * 200).decode(),
    "huge": "A" * 10_000,
    "fraction": cursor(1.5),
    "2^64": cursor(2**63 * 2 - 1),
    "NaN": urlsafe_b64encode(b"[NaN]").decode().rstrip("="),
}


@pytest.mark.parametrize("forged", FORGED_CURSORS)
async def test_a_forged_cursor_is_named(house: Attacked, forged: str) -> None:
    for call in with_parameter(house, "cursor"):
        url = f"{house.url(call)}?cursor={quote(FORGED_CURSORS[forged])}"
        refused(await house.ask("GET", url, token=house.credential(call)), 400, code="request.invalid", field="cursor")


EDGES: tuple[object, ...] = (0, -1, 2**31, 2**63 - 1, -(2**63))
WELL_FORMED_CURSORS = [
    *[(edge,) for edge in EDGES],
    *[(edge, time, NOBODYS_ID) for edge in EDGES for time in ("0002-01-01T00:00:00Z", "9998-12-31T23:59:59+14:00")],
    (0, "0001-01-01T00:00:00+14:00", NOBODYS_ID),
    (0, "9999-12-31T23:59:59-14:00", NOBODYS_ID),
    (NOBODYS_ID,),
    ("' OR 1=1 --", NOBODYS_ID),
    ("\ufffe", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
]


@pytest.mark.parametrize("position", WELL_FORMED_CURSORS, ids=str)
async def test_a_cursor_of_the_right_form_at_most_starts_elsewhere(
    house: Attacked, position: tuple[object, ...]
) -> None:
    for call in with_parameter(house, "cursor"):
        url = f"{house.url(call)}?cursor={cursor(*position)}"
        answer = await house.ask("GET", url, token=house.credential(call))
        if answer.status_code != 200:
            refused(answer, 400, code="request.invalid", field="cursor")


METACHARACTERS = [
    "' OR '1'='1",
    "'; DROP TABLE flash_sale.claims; --",
    '" OR ""="',
    "%",
    "_",
    "*",
    "{x}",
    "a}:{b",
    "a\r\nDEL b",
    "a\x00b",
    "\n",
    'redis.call("FLUSHALL")',
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "张三",
    "\u202e",
    "",
    "a" * 5000,
]


def listed(answer: httpx.Response) -> object:
    """What a list, or a report of cohorts, found."""
    found: dict[str, object] = answer.json()
    return found["items" if "items" in found else "cohorts"]


@pytest.mark.parametrize("text", METACHARACTERS, ids=lambda text: repr(text)[:30])
async def test_filters_find_nothing_by_metacharacters(house: Attacked, text: str) -> None:
    asked = 0
    for call in house.calls:
        for parameter in call.operation.get("parameters", []):
            if parameter["in"] != "query" or parameter["name"] in ("limit", "cursor"):
                continue
            asked += 1
            url = f"{house.url(call)}?{parameter['name']}={quote(text, safe='')}"
            content = b"{}" if "requestBody" in call.operation else None
            answer = await house.ask(call.method, url, token=house.credential(call), content=content)
            if answer.status_code == 200:  # audit takes any text, and finds exactly that
                assert listed(answer) == [], (call.name, parameter["name"])
            elif parameter["name"] != "reason":  # any line is one; and the victim is too busy to be erased
                problem = refused(answer, 400, code="request.invalid")
                if content is None:  # else the body is as wrong
                    assert [error["field"] for error in problem["errors"]] == [parameter["name"]], (call.name, problem)
    assert asked > 60


async def test_bytes_that_are_no_text_find_nothing(house: Attacked) -> None:
    for call in house.calls:
        for parameter in call.operation.get("parameters", []):
            if parameter["in"] == "query":
                for raw in ("%ED%A0%80", "%FF", "%00", "%C0%A7", "%", "%ZZ"):
                    url = f"{house.url(call)}?{parameter['name']}={raw}"
                    content = b"{}" if "requestBody" in call.operation else None
                    answer = await house.ask(call.method, url, token=house.credential(call), content=content)
                    if answer.status_code == 200:
                        assert listed(answer) == []
                    elif parameter["name"] != "reason" or answer.status_code != 409:
                        refused(answer, 400, field=None if content else parameter["name"])


async def test_a_parameter_given_twice_does_not_slip_through(house: Attacked) -> None:
    for call in with_parameter(house, "limit"):
        for query in ("limit=1&limit=1000000000", "limit=1000000000&limit=1"):
            answer = await house.ask("GET", f"{house.url(call)}?{query}", token=house.credential(call))
            if answer.status_code == 200:
                assert len(answer.json()["items"]) <= 1
            else:
                refused(answer, 400, field="limit")


TIMES = [
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2026-11-21T12:00:00",
    "2026-02-30T00:00:00Z",
    "99999999999999999999",
    "-1",
    "1e400",
    "NaN",
    "infinity",
    "-infinity",
    "now",
    "today",
    "",
]


@pytest.mark.parametrize("time", TIMES)
async def test_times_that_nobody_has_are_named(house: Attacked, time: str) -> None:
    for name in ("since", "until"):
        answer = await house.ask("GET", f"/admin/v1/audit?{name}={quote(time)}", token=house.editor)
        if answer.status_code != 200:
            refused(answer, 400, code="request.invalid", field=name)


FALSE_IDS = [
    "x",
    "' OR 1=1 --",
    "1; DROP TABLE flash_sale.claims",
    "*",
    "{x}",
    "\x00",
    "\n",
    "%2e%2e%2f",
    NOBODYS_ID.upper(),
    NOBODYS_ID + "\n",
    NOBODYS_ID + "\x00",
    NOBODYS_ID[:-1] + "g",
    "{" + NOBODYS_ID + "}",
    NOBODYS_ID.replace("-", ""),
    NOBODYS_ID.replace("0", "０"),  # noqa: RUF001
    NOBODYS_ID[:-1] + "\u0663",
    "a" * 36,
    "a" * 5000,
    "-1",
    "\ud7ff\ufffe",
]


@pytest.mark.parametrize("false", FALSE_IDS, ids=lambda text: repr(text)[:44])
async def test_an_id_that_is_none_is_refused_everywhere(house: Attacked, false: str) -> None:
    for call in house.calls:
        for name in re.findall(r"\{(\w+)\}", call.path):
            if name == "user_id" and re.fullmatch(FOREIGN_ID_PATTERN, unquote(false).strip("/")):
                continue  # somebody may be called that
            url = house.url(call, **{name: quote(false, safe="%")})
            content = b"{}" if "requestBody" in call.operation else None
            answer = await house.ask(call.method, url, token=house.credential(call), content=content)
            refused(answer, 400, 404)


NOTHING = re.compile(r'\{"items":\[\].*\}|\{"user_id":.*"rooms":.*\}')
"""An empty list, or all that is known of somebody whom nobody knows."""


async def test_what_is_not_there_is_404_or_says_what_else_is_missing(house: Attacked) -> None:
    for call in house.calls:
        if "{" in call.path:
            answer = await house.ask(
                call.method,
                re.sub(r"\{\w+\}", NOBODYS_ID, call.path),
                token=house.credential(call),
                content=b"{}" if "requestBody" in call.operation else None,
            )
            # A list of mine in a sale that is none may be empty.
            if answer.status_code != 200:
                refused(answer, 400, 404)
            else:
                assert NOTHING.fullmatch(answer.text), (call.name, answer.text)


FALSE_KEYS: dict[str, list[bytes]] = {
    "empty": [b""],
    "blank": [b" "],
    "line feed": [b"a\r\nX-Injected: 1"],
    "NUL": [b"a\x00b"],
    "tab": [b"a\tb"],
    "not ASCII": ["张三".encode()],
    "high bytes": [b"\xff\xfe"],
    "too long": [b"a" * 129],
    "10 kB": [b"a" * 10_240],
    "two": [b"a", b"b"],
    "twice": [b"a", b"a"],
}


@BOTH_WAYS
@pytest.mark.parametrize("false", FALSE_KEYS)
async def test_a_false_idempotency_key_is_named(house: Attacked, false: str, content_type: str) -> None:
    headers: RawHeaders = [(b"idempotency-key", key) for key in FALSE_KEYS[false]]
    places = [
        f"/v1/flash-sales/{house.ids['sale_id']}/claims",
        f"/v1/group-buys/{house.ids['group_buy_id']}/teams",
        f"/v1/teams/{house.ids['team_id']}/seats",
    ]
    for url in places:
        how: dict[str, Any] = {"content": b"{}", "content_type": content_type, "headers": headers}
        refused(await house.ask("POST", url, token=house.token(), **how), 400, field="Idempotency-Key")


@BOTH_WAYS
async def test_somebody_elses_key_does_not_give_their_claim_away(house: Attacked, content_type: str) -> None:
    """The sale that has not opened refuses whoever asks; only the victim's claim is a replay, and only theirs."""
    headers: RawHeaders = [(b"idempotency-key", b"victims-key")]
    how: dict[str, Any] = {"content": b"{}", "content_type": content_type, "headers": headers}
    url = f"/v1/flash-sales/{house.ids['sale_id']}/claims"
    replay = await house.ask("POST", url, token=house.token("victim"), **how)
    assert (replay.status_code, replay.headers["idempotent-replayed"]) == (201, "true"), replay.text
    later = f"/v1/flash-sales/{house.ids['later_sale_id']}/claims"
    for user_id in ("attacker", "victim"):
        refused(await house.ask("POST", later, token=house.token(user_id), **how), 409)


FALSE_REQUEST_IDS = {
    "line feed": b"a\r\nSet-Cookie: b=c",
    "JSON": b'"}\n{"event":"forged"}',
    "escape": b"\x1b[31m",
    "NUL": b"a\x00",
    "not ASCII": "张三".encode(),
    "high bytes": b"\xff\xfe",
    "10 kB": b"a" * 10_240,
    "script": b"<script>alert(1)</script>",
    "empty": b"",
    "blank": b"a b",
}


@pytest.mark.parametrize("false", FALSE_REQUEST_IDS)
async def test_a_false_request_id_is_replaced(house: Attacked, false: str) -> None:
    for url, statuses in (("/livez", (200,)), (f"/v1/claims/{NOBODYS_ID}", (404,)), ("/nowhere", (404,))):
        sent: RawHeaders = [(b"x-request-id", FALSE_REQUEST_IDS[false])]
        answer = await house.ask("GET", url, token=house.token(), headers=sent)
        assert answer.status_code in statuses
        assert re.fullmatch(r"[\x21-\x7e]{1,64}", answer.headers["x-request-id"])
        raw = b" ".join(name + value for name, value in answer.headers.raw) + answer.content
        assert not FALSE_REQUEST_IDS[false] or FALSE_REQUEST_IDS[false] not in raw
        assert "set-cookie" not in answer.headers


VERSIONS = [
    b"",
    b"*",
    b"1",
    b'W/"1"',
    b'"-1"',
    b'"1", "2"',
    b'"1.0"',
    b'"' + b"9" * 400 + b'"',
    b'"\xb2"',
    b'"x"',
]


@pytest.mark.parametrize("version", VERSIONS, ids=repr)
async def test_a_false_version_changes_nothing(house: Attacked, version: bytes) -> None:
    await _put_all(house, [(b"if-match", version)], 400)


@pytest.mark.parametrize("version", [b'"0"', b'"2147483648"', b'"999999999999999999"'], ids=repr)
async def test_a_version_that_never_was_changes_nothing(house: Attacked, version: bytes) -> None:
    await _put_all(house, [(b"if-match", version)], 412)


async def _put_all(house: Attacked, headers: RawHeaders, status: int) -> None:
    asked = 0
    for call in house.calls:
        if any(parameter["name"] == "If-Match" for parameter in call.operation.get("parameters", ())):
            asked += 1
            schema = call.operation["requestBody"]["content"][PLAIN]["schema"]["$ref"].rpartition("/")[2]
            fields = house.document["components"]["schemas"][schema]["properties"]
            shown = (await house.ask("GET", house.url(call), token=house.admin)).json()
            shown = shown.get("pack", shown)
            draft = msgspec.json.encode({field: value for field, value in shown.items() if field in fields})
            answer = await house.ask("PUT", house.url(call), token=house.admin, content=draft, headers=headers)
            refused(answer, status, field="If-Match" if status == 400 else None)
    assert asked >= 11


METHODS = ["PATCH", "TRACE", "CONNECT", "PROPFIND"]


@pytest.mark.parametrize("method", METHODS)
async def test_other_methods_do_nothing(house: Attacked, method: str) -> None:
    for call in house.calls:
        answer = await house.ask(method, house.url(call), token=house.credential(call), content=b"{}")
        refused(answer, 404, 405)


@pytest.mark.parametrize("name", [b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-rewrite-url"])
async def test_no_header_turns_a_call_into_another(house: Attacked, name: bytes) -> None:
    url = f"/v1/claims/{house.ids['claim_id']}"
    answer = await house.ask("GET", url, token=house.token("victim"), headers=[(name, b"DELETE")])
    assert answer.json()["state"] == "held"
    answer = await house.ask("GET", "/livez", headers=[(name, b"/admin/v1/audit")])
    assert answer.text == "ok"
