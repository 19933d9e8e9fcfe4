"""Wire: how values look in JSON, in and out. Strict about what comes in, always the same in what goes out.

In: msgspec decodes into the type asked for; on top of that this refuses what msgspec lets pass and a store would choke
on: a key given twice (the last one would win), NUL, ints beyond 64 bits, times at the edges of the calendar, nesting
deeper than `MAX_DEPTH`. Lone surrogates and broken UTF-8, which msgspec refuses with other exceptions, are named like
every other error.
Texts are put into Unicode's composed form (NFC) before anything looks at them.
Out: times are RFC 3339, UTC, milliseconds.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from json import JSONDecodeError, JSONDecoder
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from growth.plumbing.field_errors import MAX_ERROR_CHARACTERS, WHOLE_BODY, FieldError, all_errors, field_error
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.ids import composed, is_composed
from growth.vocabulary.refusals import Kind, Refusal

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339, with its offset: 2026-11-21T12:00:00.000Z.")]
"""A time that comes in. Plain `datetime` takes times without an offset, which Postgres' driver then chokes on."""

REQUEST_INVALID = Kind("request.invalid", "The request is not in the form this call takes", 400)

MAX_DEPTH = 32
"""Levels of arrays and objects a document may nest: ours nest four."""
MAX_DECODERS = 1024
"""Types that come in: one each for a route's body and for each cursor, all known when the program is written."""
MAX_TIMES_REMEMBERED = 1_024


def invalid(*errors: FieldError) -> Refusal:
    """Return (to be raised) the 400 that names `errors`."""
    assert errors
    first = errors[0]
    return Refusal(REQUEST_INVALID, f"{first.field}: {first.detail}", errors=list(errors))


# --- out ------------------------------------------------------------------------------------------------------------


def _with_times(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, dict):
        return {key: _with_times(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_times(item) for item in value]
    return value


def plain(value: object) -> Any:
    """Return `value` (Structs, collections, times, scalars) as what JSON knows, times as `2026-11-21T12:00:00.000Z`."""
    return _with_times(msgspec.to_builtins(value, builtin_types=(datetime,), str_keys=True))


_encode = msgspec.json.Encoder().encode


def json_bytes(value: object) -> bytes:
    """Return `value` as JSON, times with milliseconds."""
    return _encode(plain(value))


_text_of = lru_cache(MAX_TIMES_REMEMBERED)(rfc3339)


def page_writer(page: type[S]) -> Callable[[S], bytes]:
    """Return what writes Structs of one type as `json_bytes` does, for a fifth of the cost.

    Its times stand on the first level, and others share them: what a batch has made at once has the same ones.
    """
    times = [name for name, hint in get_type_hints(page).items() if hint is datetime or datetime in get_args(hint)]

    def write(shown: S) -> bytes:
        facts = msgspec.structs.asdict(shown)
        for name in times:
            if facts[name] is not None:
                facts[name] = _text_of(facts[name])
        return _encode(facts)

    return write


# --- in -------------------------------------------------------------------------------------------------------------


class _KeyTwice(Exception):
    """An object has a key twice; `_faults` knows which and where."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _KeyTwice
    return members


class _Pairs(list[tuple[str, Any]]):
    """An object with its keys as they were sent, twice if need be."""


_unique_keys = JSONDecoder(object_pairs_hook=_unique)
_all_keys = JSONDecoder(object_pairs_hook=_Pairs)

# NUL and surrogates can only come as escapes; an int beyond 64 bits has 19 digits or more; a time in the first or the
# last year of the calendar cannot be moved to another zone. Asked for one by one: together in one expression they cost
# twenty times as much as decoding.
_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
# In turn, so that no backslash is taken for the beginning of the next one: a whole pair, one unit, any other escape.
_ESCAPE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.", re.DOTALL)
_UNREADABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})")
_ALL_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_MANY_DIGITS = b"0" * 19
_FIRST_YEAR, _LAST_YEAR = b'"0001-', b'"9999-'
_EDGE_OF_TIME = re.compile(r"(?:0001|9999)-\d\d-\d\d[Tt ]\d")
_HIDES_KEYS = (b"\\", b" :", b"\t:", b"\n:", b"\r:")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
# One that never ends is taken whole: looked for an end from each of its quotes, a megabyte would take minutes.
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_text = msgspec.json.Decoder(str)


@lru_cache(MAX_DECODERS)
def decoder_for(type_: Any) -> msgspec.json.Decoder[Any]:
    """Return the one decoder of a type; making one costs more than using it."""
    return msgspec.json.Decoder(type_)


def decode_json(raw: bytes, type_: type[T]) -> T:
    """Decode one JSON document from outside. Raises `Refusal` 400 `request.invalid` that names the field.

    The caller has bounded the size of `raw`.
    """
    return decode_with(cast("msgspec.json.Decoder[T]", decoder_for(cast("Any", type_))), raw)


def decode_with(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    """Do what `decode_json` does, with a decoder that the caller keeps."""
    raw = composed_json(raw)
    try:
        value = decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise invalid(*all_errors(decoder.type, raw, field_error(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(_first_fault(raw) or FieldError(WHOLE_BODY, _what_is_broken(error))) from None
    if not is_plain(raw):
        fault = _first_fault(raw)
        if fault is not None:
            raise invalid(fault)
    return value


def mended(raw: bytes) -> bytes:
    """Return JSON with U+FFFD in the place of half characters, of NUL, and of what is no UTF-8.

    For what people carry with them: names that a platform has cut in the middle of an emoji.
    """
    if _ESCAPED.search(raw) is not None:
        raw = _ESCAPE.sub(lambda found: b"\\ufffd" if _UNREADABLE.fullmatch(found[0]) else found[0], raw)
    return raw.decode("utf-8", "replace").encode()


def composed_json(raw: bytes) -> bytes:
    """Return JSON, broken or not, with its texts in NFC. Costs a look at plain ASCII, which is in it already."""
    if b"\\u" not in raw:
        if raw.isascii():
            return raw
        try:
            if is_composed(raw.decode()):
                return raw
        except UnicodeDecodeError:
            return raw
    return _TEXTS.sub(_composed_text, raw)


def _composed_text(match: re.Match[bytes]) -> bytes:
    raw = match[0]
    if raw.isascii() and b"\\u" not in raw:
        return raw
    try:
        text = _text.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Whoever decodes it all says what is wrong.
        return raw
    return raw if composed(text) == text else _encode(composed(text))


def is_plain(raw: bytes, *, keys: int | None = None) -> bool:
    """Say whether JSON that decodes needs no slower look. False says only that it may hold what is refused.

    `keys`: how many came out of it, where the caller has counted them and they nest no deeper than allowed. As many in
    the text: then none was given twice, and the look for such, which costs more than decoding, is spared.
    """
    if keys is not None and _shows_keys(raw, keys):
        return not _is_suspicious(raw)
    return not _is_suspicious(raw) and not _too_deep(raw) and _keys_are_unique(raw)


def _shows_keys(raw: bytes, keys: int) -> bool:
    """Say whether the text has exactly so many keys. Exact: without an escape, a quote before a colon ends a key.

    (Or begins a text that begins with a colon: then there are more, and the answer is no.)
    """
    return raw.count(b'":') == keys and not any(hidden in raw for hidden in _HIDES_KEYS)


def _what_is_broken(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"Nested deeper than {MAX_DEPTH} levels"
    if isinstance(error, UnicodeDecodeError):
        return "Not UTF-8"
    message = str(error)
    return "Not JSON: it ends too early" if "truncated" in message else f"Not JSON: {message}"[:MAX_ERROR_CHARACTERS]


def _is_suspicious(raw: bytes) -> bool:
    """Say whether `raw` may hold what `_faults` looks for. Wrong in one direction only."""
    return (
        _MANY_DIGITS in raw.translate(_ALL_ZEROS)
        or _ESCAPED.search(raw) is not None
        or _FIRST_YEAR in raw
        or _LAST_YEAR in raw
    )


def _too_deep(raw: bytes) -> bool:
    """Say whether `raw` may nest too deep: exact but for brackets within strings, which `_faults` tells apart."""
    brackets = raw.translate(_ALL_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        # Takes away every innermost pair: one level a round.
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _keys_are_unique(raw: bytes) -> bool:
    try:
        _unique_keys.decode(raw.decode())
    except _KeyTwice:
        return False
    return True


def _first_fault(raw: bytes) -> FieldError | None:
    """Return what is wrong and where, by a slower look; nothing if it is no JSON at all."""
    try:
        # Bytes that are no UTF-8 become lone surrogates, and are found as such.
        document = _all_keys.decode(raw.decode("utf-8", "surrogateescape"))
    except RecursionError as error:
        return FieldError(WHOLE_BODY, _what_is_broken(error))
    except JSONDecodeError:
        return None
    except ValueError:
        return FieldError(WHOLE_BODY, "Has a number of thousands of digits")
    for fault in _faults(document, "", 1):
        return FieldError(fault.field.removeprefix(".") or WHOLE_BODY, fault.detail)
    return None


def _faults(value: Any, path: str, depth: int) -> Iterator[FieldError]:
    path = path[:MAX_ERROR_CHARACTERS]
    if isinstance(value, str):
        if _NOT_TEXT.search(value):
            yield FieldError(path, "Has NUL, or a character that is not Unicode")
        elif _EDGE_OF_TIME.match(value):
            yield FieldError(path, "Beyond the times that can be told in every zone")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            yield FieldError(path, "Beyond 64 bits")
    elif isinstance(value, list):
        if depth > MAX_DEPTH:
            yield FieldError(path, f"Nested deeper than {MAX_DEPTH} levels")
        elif isinstance(value, _Pairs):
            yield from _faults_of_pairs(value, path, depth)
        else:
            for index, item in enumerate(value):
                yield from _faults(item, f"{path}[{index}]", depth + 1)


def _faults_of_pairs(pairs: _Pairs, path: str, depth: int) -> Iterator[FieldError]:
    seen: set[str] = set()
    for key, item in pairs:
        if _NOT_TEXT.search(key):
            yield FieldError(path, "Has a key with NUL, or with a character that is not Unicode")
            return
        if key in seen:
            yield FieldError(f"{path}.{key}"[:MAX_ERROR_CHARACTERS], "Given twice")
        seen.add(key)
        yield from _faults(item, f"{path}.{key}", depth + 1)
