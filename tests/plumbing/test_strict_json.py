"""What comes in is refused with the field at fault, whatever it is; what goes out shows time one way."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from growth.plumbing import strict_json as wire
from growth.plumbing.field_errors import MAX_ERROR_CHARACTERS, MAX_ERRORS, FieldError
from growth.plumbing.strict_json import MAX_DEPTH, Instant, decode_json, json_bytes
from growth.vocabulary.money import Fen
from growth.vocabulary.refusals import Refusal
from growth.vocabulary.text import Title


class Line(Struct, forbid_unknown_fields=True):
    units: Annotated[int, Meta(ge=1, le=1000)]
    sku: str = ""


class Order(Struct, forbid_unknown_fields=True):
    lines: list[Line] = []
    paid_fen: Fen = 0
    count: int = 0
    is_gift: bool = False
    share: float = 0.0
    title: Title = "x"
    note: str = ""
    data: Any = None
    totals: dict[str, int] = {}
    at: Instant | None = None


def _errors(raw: bytes, type_: Any = Order) -> list[FieldError]:
    with pytest.raises(Refusal) as refused:
        decode_json(raw, type_)
    assert refused.value.kind.code == "request.invalid"
    assert refused.value.kind.status == 400
    errors = refused.value.members["errors"]
    assert isinstance(errors, list)
    for error in errors:
        assert len(error.field) <= MAX_ERROR_CHARACTERS
        assert len(error.detail) <= MAX_ERROR_CHARACTERS
    # Whatever it says can be sent.
    json_bytes(errors)
    return errors


def _nested(depth: int) -> bytes:
    """`depth` levels in all, the outermost object among them."""
    return b'{"data":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


REFUSED: list[tuple[str, bytes, str]] = [
    # numbers
    ("a boolean for an int", b'{"count":true}', "count"),
    ("a boolean for money", b'{"paid_fen":false}', "paid_fen"),
    ("text for an int", b'{"count":"1"}', "count"),
    ("a fraction", b'{"count":1.5}', "count"),
    ("a whole float", b'{"count":1.0}', "count"),
    ("an exponent", b'{"count":1e2}', "count"),
    ("null for an int", b'{"count":null}', "count"),
    ("an int for a boolean", b'{"is_gift":1}', "is_gift"),
    ("negative money", b'{"paid_fen":-1}', "paid_fen"),
    ("money beyond any price", b'{"paid_fen":10000000001}', "paid_fen"),
    ("2^53+1 fen", b'{"paid_fen":9007199254740993}', "paid_fen"),
    ("2^63", b'{"count":9223372036854775808}', "count"),
    ("2^64", b'{"count":18446744073709551616}', "count"),
    ("-2^63-1", b'{"count":-9223372036854775809}', "count"),
    ("30 digits", b'{"count":999999999999999999999999999999}', "count"),
    ("30 digits, anywhere", b'{"data":{"a":[999999999999999999999999999999]}}', "data.a[0]"),
    ("5000 digits", b'{"count":' + b"9" * 5000 + b"}", "count"),
    ("5000 digits, anywhere", b'{"data":[' + b"9" * 5000 + b"]}", "data[0]"),
    ("1e400 for an int", b'{"count":1e400}', "count"),
    ("1e400 for a float", b'{"share":1e400}', "share"),
    ("1e400, anywhere", b'{"data":{"x":1e400}}', "data[...]"),
    ("NaN", b'{"share":NaN}', "body"),
    ("Infinity", b'{"share":-Infinity}', "body"),
    ("a leading zero", b'{"count":01}', "body"),
    ("zero units", b'{"lines":[{"units":0}]}', "lines[0].units"),
    # text
    ("NUL, escaped, in plain text", b'{"note":"a\\u0000b"}', "note"),
    ("NUL, escaped, deep down", b'{"lines":[{"units":1},{"units":1,"sku":"\\u0000"}]}', "lines[1].sku"),
    ("NUL, raw", b'{"note":"a\x00b"}', "body"),
    ("NUL in a key", b'{"data":{"a\\u0000":1}}', "data"),
    ("a lone high surrogate", b'{"note":"\\ud800"}', "note"),
    ("a lone high surrogate, then text", b'{"note":"\\ud800x"}', "note"),
    ("a lone low surrogate", b'{"lines":[{"units":1,"sku":"\\udc00"}]}', "lines[0].sku"),
    ("surrogates the wrong way round", b'{"note":"\\ude00\\ud83d"}', "note"),
    ("a lone surrogate in a key", b'{"data":{"\\ud800":1}}', "data"),
    ("a surrogate as bytes", b'{"note":"\xed\xa0\x80"}', "note"),
    ("bytes that are no UTF-8", b'{"data":[1,"\xff"]}', "data[1]"),
    ("bytes that are no UTF-8 in a key", b'{"\xff":1}', "body"),
    ("an overlong NUL", b'{"note":"\xc0\x80"}', "note"),
    ("UTF-16", '{"count":1}'.encode("utf-16"), "body"),
    ("a byte-order mark", b'\xef\xbb\xbf{"count":1}', "body"),
    ("a control character, raw", b'{"note":"\n"}', "body"),
    ("a bidi override in a title", '{"title":"a\u202eb"}'.encode(), "title"),
    ("a zero-width space in a title", '{"title":"a\u200bb"}'.encode(), "title"),
    ("a last newline in a title", b'{"title":"a\\n"}', "title"),
    # times
    ("a time without an offset", b'{"at":"2026-11-21T12:00:00"}', "at"),
    ("a time as a number", b'{"at":1795262400}', "at"),
    ("a time that is no time", b'{"at":"2026-02-30T12:00:00Z"}', "at"),
    ("the first hour of the calendar", b'{"at":"0001-01-01T00:00:00+14:00"}', "at"),
    ("the last hour of the calendar", b'{"at":"9999-12-31T23:59:59-14:00"}', "at"),
    # keys
    ("a key twice", b'{"count":1,"count":2}', "count"),
    ("a key twice, once escaped", b'{"count":1,"\\u0063ount":2}', "count"),
    ("a key twice with the same value", b'{"count":1,"count":1}', "count"),
    ("a key twice, deep down", b'{"lines":[{"units":1},{"units":1,"units":2}]}', "lines[1].units"),
    ("a key twice in a mapping", b'{"totals":{"a":1,"a":2}}', "totals.a"),
    ("a key twice in free data", b'{"data":[{"a":{"b":1,"b":1}}]}', "data[0].a.b"),
    ("an unknown key", b'{"lines":[{"units":1,"price":0}]}', "lines[0].price"),
    ("an unknown key at the top", b'{"admin":true}', "admin"),
    ("a missing key", b'{"lines":[{}]}', "lines[0].units"),
    ("a key of no text", b"{1:2}", "body"),
    # shape
    ("nothing", b"", "body"),
    ("blanks", b"  ", "body"),
    ("null", b"null", "body"),
    ("an array for an object", b"[]", "body"),
    ("text for an object", b'"x"', "body"),
    ("cut off", b'{"count":1', "body"),
    ("cut off within text", b'{"note":"ab', "body"),
    ("two documents", b'{"count":1}{"count":1}', "body"),
    ("a last comma", b'{"count":1,}', "body"),
    ("a comment", b'{"count":1/**/}', "body"),
    ("single quotes", b"{'count':1}", "body"),
    ("a wrong value in a mapping", b'{"totals":{"a":"x"}}', "totals[...]"),
    ("one level too deep", _nested(MAX_DEPTH + 1), "data" + "[0]" * (MAX_DEPTH - 1)),
    ("100,000 levels", _nested(100_000), "body"),
    ("100,000 levels where nothing is allowed", b'{"zzz":' + b"[" * 100_000, "zzz"),
    ("100,000 levels of objects", b'{"data":' * 100_000, "body"),
]


@pytest.mark.parametrize(("raw", "field"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_it_is_refused_and_the_field_is_named(raw: bytes, field: str) -> None:
    assert _errors(raw)[0].field == field


TAKEN: list[tuple[str, bytes, object]] = [
    ("an emoji as surrogates", b'{"note":"\\ud83d\\ude00"}', Order(note="\U0001f600")),
    ("what only looks like NUL", b'{"note":"\\\\u0000"}', Order(note="\\u0000")),
    ("what only looks like a surrogate", b'{"note":"\\\\ud800"}', Order(note="\\ud800")),
    ("U+FFFD", b'{"note":"\xef\xbf\xbd"}', Order(note="\ufffd")),
    ("brackets within text", b'{"note":"' + b"[" * 1000 + b'"}', Order(note="[" * 1000)),
    ("brackets the wrong way round within text", b'{"note":"}]"}', Order(note="}]")),
    ("as deep as allowed", _nested(MAX_DEPTH), Order(data=json.loads(_nested(MAX_DEPTH))["data"])),
    ("the largest 64-bit int", b'{"count":9223372036854775807}', Order(count=2**63 - 1)),
    ("the smallest 64-bit int", b'{"count":-9223372036854775808}', Order(count=-(2**63))),
    ("twenty digits within text", b'{"note":"99999999999999999999"}', Order(note="9" * 20)),
    ("twenty digits of a fraction", b'{"share":0.12345678901234567890}', Order(share=0.12345678901234568)),
    ("blanks around it", b' \n{"count":1} \t', Order(count=1)),
    ("the same key in two objects", b'{"lines":[{"units":1},{"units":1}]}', Order(lines=[Line(1), Line(1)])),
    ("text that starts like a date", b'{"note":"0001-01-01"}', Order(note="0001-01-01")),
    ("minus zero", b'{"count":-0}', Order()),
]


@pytest.mark.parametrize(("raw", "value"), [case[1:] for case in TAKEN], ids=[case[0] for case in TAKEN])
def test_it_is_taken(raw: bytes, value: object) -> None:
    assert decode_json(raw, Order) == value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"count":1,"count":2}',
        b'{"note":"\\u0000"}',
        b'{"count":99999999999999999999}',
        _nested(MAX_DEPTH + 1),
        b'{"at":"0001-01-01T00:00:00+14:00"}',
    ],
)
def test_msgspec_alone_would_let_it_pass(raw: bytes) -> None:
    """Negative control: these are the ones the second look is for."""
    msgspec.json.decode(raw, type=Order)
    _errors(raw)


@pytest.mark.parametrize("raw", [b'{"note":"\xff"}', _nested(100_000)])
def test_msgspec_alone_would_raise_something_else(raw: bytes) -> None:
    """Negative control: neither is a DecodeError, so a handler for those alone would answer 500."""
    with pytest.raises((UnicodeDecodeError, RecursionError)):
        msgspec.json.decode(raw, type=Order)


def test_what_was_sent_is_echoed_only_so_far() -> None:
    (error,) = _errors(b'{"' + b"x" * 60_000 + b'":1}')
    assert error.field == "x" * MAX_ERROR_CHARACTERS
    (error,) = _errors(b'{"data":{"' + b"x" * 60_000 + b'":"\\u0000"}}')
    assert len(error.field) > MAX_ERROR_CHARACTERS - 5


def test_an_array_at_the_top_names_the_element() -> None:
    assert _errors(b'[{"units":1},{"units":true}]', list[Line])[0].field == "[1].units"
    assert _errors(b'[{"units":1},{"units":1,"sku":"\\u0000"}]', list[Line])[0].field == "[1].sku"


def test_a_missing_key_and_an_unknown_one_say_so() -> None:
    assert _errors(b"{}", Line) == [FieldError("units", "This field is required", "required")]
    assert _errors(b'{"units":1,"x":1}', Line) == [FieldError("x", "There is no such field here", "unknown")]


def test_a_rule_of_the_type_itself_is_told_in_its_own_words() -> None:
    class Window(Struct):
        opens: int
        closes: int

        def __post_init__(self) -> None:
            if self.closes <= self.opens:
                raise ValueError("closes before it opens")

    class Sale(Struct):
        window: Window

    assert _errors(b'{"window":{"opens":2,"closes":1}}', Sale) == [FieldError("window", "closes before it opens")]


_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_documents = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=30
)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_at_all_make_it_raise_anything_but_a_refusal(raw: bytes) -> None:
    try:
        decode_json(raw, Order)
    except Refusal:
        return


def in_nfc(value: Any) -> Any:
    """The document as it is understood; None of it at all if two keys become one."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        composed = {in_nfc(key): in_nfc(item) for key, item in value.items()}
        assume(len(composed) == len(value))
        return composed
    return [in_nfc(item) for item in value] if isinstance(value, list) else value


@given(_documents)
def test_what_the_second_look_takes_is_exactly_what_has_no_fault(document: Any) -> None:
    understood = in_nfc(document)
    raw = json.dumps(document, ensure_ascii=True).encode()

    def is_good(value: Any) -> bool:
        if isinstance(value, bool) or value is None or isinstance(value, float):
            return True
        if isinstance(value, int):
            return -(2**63) <= value < 2**63
        if isinstance(value, str):
            return "\x00" not in value and not any(0xD800 <= ord(letter) <= 0xDFFF for letter in value)
        if isinstance(value, dict):
            return all(is_good(key) and is_good(item) for key, item in value.items())
        return all(is_good(item) for item in value)

    try:
        taken = decode_json(raw, Any)
    except Refusal:
        assert not is_good(document)
    else:
        assert is_good(document)
        assert taken == understood


def test_times_go_out_in_utc_with_milliseconds() -> None:
    class Told(Struct):
        at: datetime
        more: list[dict[str, datetime]]

    china = timezone(timedelta(hours=8))
    value = Told(
        datetime(2026, 11, 21, 20, 0, tzinfo=china), [{"x": datetime(2026, 1, 1, 0, 0, 0, 123999, tzinfo=UTC)}]
    )
    assert json_bytes(value) == b'{"at":"2026-11-21T12:00:00.000Z","more":[{"x":"2026-01-01T00:00:00.123Z"}]}'


def test_a_decoder_is_made_once_for_a_type() -> None:
    assert wire.decoder_for(Order) is wire.decoder_for(Order)


class Form(Struct, forbid_unknown_fields=True):
    title: Annotated[str, Meta(min_length=1, max_length=5)]
    units: Annotated[int, Meta(ge=1, le=9)]
    kind: Literal["a", "b"]
    tags: Annotated[list[str], Meta(max_length=2)] = []
    lines: list[Line] = []


def test_a_form_hears_of_all_its_faults_each_with_a_code_and_its_bound() -> None:
    raw = b'{"title":"","units":10,"kind":"c","tags":["1","2","3"],"lines":[{"units":true}],"x":1}'
    assert [(one.field, one.code, one.limit) for one in _errors(raw, Form)] == [
        ("title", "too_short", 1),
        ("units", "too_large", 9),
        ("kind", "not_allowed", None),
        ("tags", "too_many", 2),
        ("lines[0].units", "wrong_type", None),
        ("x", "unknown", None),
    ]


def test_a_form_without_anything_hears_of_each_field_that_it_needs() -> None:
    assert [(one.field, one.code) for one in _errors(b"{}", Form)] == [
        ("title", "required"),
        ("units", "required"),
        ("kind", "required"),
    ]


def test_no_more_faults_are_told_than_a_reader_can_use() -> None:
    many = b"{" + b",".join(b'"x%d":1' % number for number in range(1_000)) + b"}"
    assert len(_errors(many, Form)) == MAX_ERRORS
