"""Bodies made to hurt: every call that takes one, every field of every body, as the document lists them."""

import json
import re
from typing import Any

import pytest

from growth.plumbing.http.answers import MAX_BODY_BYTES
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, SHOPPER_ID_PATTERN, USER_ID_PATTERN
from tests.abuse.attacked import BYPASSING, PLAIN, VICTIM, Attacked, Call, allows, body_schema, fields_of, refused

pytestmark = pytest.mark.anyio

BOTH_WAYS = pytest.mark.parametrize("content_type", [PLAIN, BYPASSING], ids=["short cut", "bypassed"])


async def sent(house: Attacked, call: Call, content: bytes, content_type: str | None = PLAIN) -> Any:
    return await house.ask_call(call, token=house.credential(call), content=content, content_type=content_type)


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "blank": b" ",
    "truncated": b'{"units": 1',
    "truncated text": b'{"units',
    "two documents": b"{}{}",
    "with a tail": b"{}x",
    "array": b"[]",
    "null": b"null",
    "text": b'"units"',
    "number": b"1",
    "NaN": b'{"units": NaN}',
    "infinity": b'{"units": -Infinity}',
    "single quotes": b"{'units': 1}",
    "comment": b'{"units": 1 /* one */}',
    "trailing comma": b'{"units": 1,}',
    "leading zero": b'{"units": 01}',
    "byte-order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"units": 1}'.encode("utf-16"),
    "not UTF-8": b'{"\xff": 1}',
    "overlong UTF-8": b'{"\xc0\xa2": 1}',
    "surrogate in UTF-8": b'{"title": "\xed\xa0\x80"}',
    "NUL byte": b'{"units": 1}\x00',
    "deep arrays": b'{"units": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deep objects": b'{"units": ' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
    "open brackets": b"[" * 60_000,
    "digits": b'{"units": ' + b"9" * 60_000 + b"}",
    "exponent": b'{"units": 1e999999999}',
    "form": b"units=1",
    "XML": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
}


@BOTH_WAYS
@pytest.mark.parametrize("broken", BROKEN)
async def test_what_is_no_object_of_json_is_refused(house: Attacked, broken: str, content_type: str) -> None:
    for call in house.calls_with_json():
        refused(await sent(house, call, BROKEN[broken], content_type), 400, code="request.invalid")


@BOTH_WAYS
async def test_a_key_given_twice_is_named(house: Attacked, content_type: str) -> None:
    for call in house.calls_with_json():
        for path, body, leaf in fields_of(house.document, body_schema(call)):
            if not path.isidentifier() or (leaf["type"] != "integer" and "pattern" not in leaf):
                continue
            member = (body % json.dumps(1 if leaf["type"] == "integer" else "a"))[1:-1]
            answer = await sent(house, call, f"{{{member},{member}}}".encode(), content_type)
            assert refused(answer, 400)["code"] == "request.invalid"
    twice = await house.ask(
        "POST",
        f"/v1/flash-sales/{house.ids['sale_id']}/claims",
        token=house.token(),
        content=b'{"units": 1, "units": 1}',
        content_type=content_type,
    )
    refused(twice, 400, field="units")


@BOTH_WAYS
async def test_more_than_a_call_takes_is_refused(house: Attacked, content_type: str) -> None:
    for call in house.calls_with_json():
        raw = b" " * MAX_BODY_BYTES + b"{}"
        refused(await sent(house, call, raw, content_type), 413, code="request.too_large")


OTHER_TYPES = [
    None,
    "",
    "text/plain",
    "text/json",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-16",
    "application/json; charset=utf-7",
    "application/jsonp",
    "application/json, text/plain",
    "application/json\x00",
    "application/json; " + "a" * 10_000,
    "*/*",
    "\xff",
]


@pytest.mark.parametrize("content_type", OTHER_TYPES, ids=lambda declared: repr(declared)[:40])
async def test_what_is_not_declared_as_json_is_refused(house: Attacked, content_type: str | None) -> None:
    for call in house.calls_with_json():
        refused(await sent(house, call, b"{}", content_type), 415, code="request.unsupported_type")
    refused(await house.hook(b"[]", content_type=content_type), 415, code="request.unsupported_type")


async def test_of_two_content_types_the_better_one_does_not_count(house: Attacked) -> None:
    two = [(b"content-type", b"text/plain"), (b"content-type", b"application/json")]
    for call in house.calls_with_json():
        how = {"content": b"{}", "content_type": None, "headers": two}
        refused(await house.ask_call(call, token=house.credential(call), **how), 415)


FOREIGN_FIELDS = [
    "is_admin",
    "user_id",
    "inviter_id",
    "amount_fen",
    "points",
    "reward",
    "payee",
    "approved",
    "price_fen",
    "state",
    "version",
    "taken",
    "sale_id",
    "claim_id",
    "held_until",
    "created_at",
    "__proto__",
    "constructor",
    "__class__",
    "$where",
    "role",
    "",
    "units ",
    "UNITS",
    "unıts",  # noqa: RUF001 - that it looks alike is the attack
]


@BOTH_WAYS
@pytest.mark.parametrize("field", FOREIGN_FIELDS)
async def test_no_field_can_be_assigned_that_is_not_there(house: Attacked, field: str, content_type: str) -> None:
    for call in house.calls_with_json():
        schema = body_schema(call)
        name = schema.get("$ref", "").rpartition("/")[2]
        if field in house.document["components"]["schemas"][name]["properties"]:
            continue
        answer = await sent(house, call, json.dumps({field: 1}).encode(), content_type)
        refused(answer, 400, code="request.invalid", field=field or None)


NO_WHOLE_NUMBERS: dict[str, str] = {
    "fraction": "1.5",
    "whole as fraction": "1.0",
    "exponent": "1e0",
    "boolean": "true",
    "text": '"1"',
    "empty text": '""',
    "array": "[1]",
    "object": '{"$gt": 0}',
    "2^53+1": "9007199254740993",
    "2^63-1": "9223372036854775807",
    "2^63": "9223372036854775808",
    "2^64": "18446744073709551616",
    "-2^63": "-9223372036854775808",
    "-2^63-1": "-9223372036854775809",
    "minus one": "-1",
    "1e400": "1e400",
    "1e18": "1e18",
    "hundreds of digits": "1" * 400,
    "thousands of digits": "1" * 9000,
}
NO_JSON = ("NaN", "Infinity", "-Infinity", "+1", "01", "0x10", "1_000", "１", "٣", "1e", ".5", "--1")  # noqa: RUF001


def _is_whole(number: str) -> bool:
    return number.removeprefix("-").isdecimal() and len(number) < 100


@pytest.mark.parametrize("bad", NO_WHOLE_NUMBERS)
async def test_an_amount_that_makes_no_sense_is_named(house: Attacked, bad: str) -> None:
    asked = 0
    for call in house.calls_with_json():
        for path, body, leaf in fields_of(house.document, body_schema(call)):
            # Of a number that may be any, the document tells no limits.
            if leaf["type"] == "integer" and ("minimum" in leaf or not _is_whole(NO_WHOLE_NUMBERS[bad])):
                asked += 1
                answer = await sent(house, call, (body % NO_WHOLE_NUMBERS[bad]).encode())
                field = refused(answer, 400, code="request.invalid")["errors"][0]["field"]
                # What is no number of JSON's readers at all is told about the body.
                assert field == path or (field == "body" and "e400" in bad) or "digits" in bad, (call.name, path, field)
    assert asked > 200


async def test_an_amount_just_beyond_its_limits_is_named(house: Attacked) -> None:
    for call in house.calls_with_json():
        for path, body, leaf in fields_of(house.document, body_schema(call)):
            if leaf["type"] == "integer" and "minimum" in leaf:
                for beyond in (leaf["minimum"] - 1, leaf["maximum"] + 1):
                    answer = await sent(house, call, (body % beyond).encode())
                    refused(answer, 400, code="request.invalid", field=path)


@pytest.mark.parametrize("bad", NO_JSON)
async def test_an_amount_that_is_no_json_is_refused(house: Attacked, bad: str) -> None:
    for call in house.calls_with_json():
        for _, body, leaf in fields_of(house.document, body_schema(call)):
            if leaf["type"] == "integer":
                refused(await sent(house, call, (body % bad).encode()), 400, code="request.invalid")


@BOTH_WAYS
@pytest.mark.parametrize("units", ["0", "-1", "1.0", "true", '"1"', "null", "1e0", "1e400", "9007199254740993", "[1]"])
async def test_units_that_make_no_sense_are_no_claim(house: Attacked, units: str, content_type: str) -> None:
    url = f"/v1/flash-sales/{house.ids['sale_id']}/claims"
    raw = f'{{"units": {units}}}'.encode()
    refused(await house.ask("POST", url, token=house.token(), content=raw, content_type=content_type), 400)


FALSE_TEXTS: dict[str, str] = {
    "NUL": r'"a\u0000b"',
    "lone high surrogate": r'"a\ud800b"',
    "lone low surrogate": r'"\udfff"',
    "swapped surrogates": r'"\udc00\ud800"',
    "line feed": r'"a\nb"',
    "carriage return": r'"a\r\nSet-Cookie: b"',
    "last line feed": r'"a\n"',
    "escape": r'"\u001b[31mred"',
    "delete": r'"\u007f"',
    "next line": r'"a\u0085b"',
    "right-to-left override": r'"a\u202eb"',
    "isolate": r'"a\u2066b"',
    "zero width space": r'"a\u200bb"',
    "zero width joiner": r'"a\u200db"',
    "word joiner": r'"a\u2060b"',
    "byte-order mark": r'"\ufeffa"',
    "soft hyphen": r'"a\u00adb"',
    "line separator": r'"a\u2028b"',
    "tag": r'"a\udb40\udc41b"',
    "Hangul filler": r'"\u3164"',
    "empty": '""',
    "blanks": '"   "',
    "too long": f'"{"a" * 5000}"',
    "number": "1",
    "boolean": "true",
    "array": '["a"]',
    "object": '{"$ne": ""}',
}


@pytest.mark.parametrize("bad", FALSE_TEXTS)
async def test_text_that_hides_or_reorders_is_named(house: Attacked, bad: str) -> None:
    asked = 0
    for call in house.calls_with_json():
        for path, body, leaf in fields_of(house.document, body_schema(call)):
            if (call.path, path) in CARRIED:
                continue
            if leaf["type"] == "string" and not allows(leaf, json.loads(FALSE_TEXTS[bad])):
                asked += 1
                answer = await sent(house, call, (body % FALSE_TEXTS[bad]).encode())
                field = refused(answer, 400, code="request.invalid")["errors"][0]["field"]
                assert field == path, (call.name, path, answer.text)
    assert asked > 200


FALSE_IDS = [
    "' OR 1=1 --",
    "'; DROP TABLE flash_sale.claims; --",
    "u1}:{x",
    "u1\r\nDEL x",
    "*",
    "?",
    "[a-z]",
    'redis.call("FLUSHALL")',
    "${jndi:ldap://x}",
    "{{7*7}}",
    "../../etc/passwd",
    "%s%n",
    "a b",
    "张三",
    "",
    "a" * 129,
    "a\x00b",
    "\x1b[31ma",
    "\u202ea",
    " a",
    "a\n",
]


OF_THE_SHOP = {FOREIGN_ID_PATTERN, USER_ID_PATTERN, SHOPPER_ID_PATTERN}


@pytest.mark.parametrize("bad", FALSE_IDS, ids=ascii)
async def test_ids_take_no_characters_that_make_them_read_as_others(house: Attacked, bad: str) -> None:
    """The shop's own ids, as fields of bodies. What means something to SQL, Redis or a shell means nothing here."""
    asked = 0
    for call in house.calls_with_json():
        for path, body, leaf in fields_of(house.document, body_schema(call)):
            if leaf["type"] == "string" and leaf.get("pattern") in OF_THE_SHOP:
                asked += 1
                answer = await sent(house, call, (body % json.dumps(bad)).encode())
                if re.search(FOREIGN_ID_PATTERN, bad) is None:
                    refused(answer, 400, code="request.invalid", field=path)
                else:
                    assert answer.status_code < 500
                    told = answer.json().get("errors", ())
                    assert path not in {error["field"] for error in told if "characters" in error["detail"]}
    assert asked >= 15


CARRIED = {
    ("/v1/group-buys/{group_buy_id}/teams", "nickname"),
    ("/v1/teams/{team_id}/seats", "nickname"),
    ("/v1/referral/inviter", "nickname"),
    ("/v1/referral/inviter", "code"),
    ("/v1/coupons/redeem", "code"),
}
"""What people carry with them, or paste: cleaned, never refused for its characters."""


async def test_a_hook_is_read_as_strictly_as_any_body(house: Attacked) -> None:
    for name, raw in BROKEN.items():
        if name == "array":
            continue
        answer = await house.hook(raw)
        if answer.status_code == 200:  # one event, that no reader would read as another does
            assert answer.json()["results"][0]["outcome"] == "rejected", name
        else:
            refused(answer, 400, code="request.invalid")
    told = {"order_id": "o1", "user_id": VICTIM, "paid_at": "2026-11-21T12:00:00Z", "paid_fen": 1e300, "lines": []}
    event = {"specversion": "1.0", "id": "1", "source": "shop", "type": "order.paid", "time": told["paid_at"]}
    wrongs: tuple[Any, ...] = (
        told,
        told | {"paid_fen": -1},
        told | {"paid_fen": True},
        told | {"user_id": "' OR 1=1"},
        [],
        "x",
    )
    for wrong in wrongs:
        answer = await house.hook(json.dumps([event | {"data": wrong}]).encode())
        assert answer.json()["results"][0]["outcome"] == "rejected", answer.text
