"""Field errors: what is wrong with which field of a request, with a code that a form can put into its own words."""

import re
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

MAX_ERROR_CHARACTERS = 200
"""What a caller sent wrong is echoed no further than this."""
MAX_ERRORS = 20
"""Told at once."""
WHOLE_BODY = "body"
"""The field named when no single one is to blame."""

ErrorCode: TypeAlias = Literal[
    "required",
    "unknown",
    "wrong_type",
    "not_allowed",
    "malformed",
    "too_short",
    "too_long",
    "too_few",
    "too_many",
    "too_small",
    "too_large",
    "invalid",
]

_NAMED = re.compile(r"^Object (?:missing required|contains unknown) field `(.*)`$", re.DOTALL)
_BOUND = re.compile(r"^Expected `(\w+)` (of length )?(>=|<=|>|<) (-?\d+)")
_CODES: dict[tuple[str, bool], ErrorCode] = {
    ("str>", True): "too_short",
    ("str<", True): "too_long",
    ("array>", True): "too_few",
    ("array<", True): "too_many",
    ("object>", True): "too_few",
    ("object<", True): "too_many",
    ("int>", False): "too_small",
    ("int<", False): "too_large",
    ("float>", False): "too_small",
    ("float<", False): "too_large",
}

_WORDS: dict[str, ErrorCode] = {
    "Object missing required": "required",
    "Object contains unknown": "unknown",
    " matching regex ": "malformed",
    "Invalid enum value": "not_allowed",
    "Invalid value": "not_allowed",
    "Invalid ": "malformed",
    "Expected ": "wrong_type",
}


class FieldError(Struct, frozen=True):
    """What is wrong with one field."""

    field: str
    """Path of the field: `units`, `lines[0].units`; a query parameter or header by its own name."""
    detail: str
    """One sentence for a developer."""
    code: ErrorCode = "invalid"
    """What kind of fault: stable, so that a form can say it in its own words."""
    limit: int | None = None
    """The bound that was passed, for `too_short` and its like."""


def field_error(error: msgspec.ValidationError, *, prefix: str = "") -> FieldError:
    """Say in our words what msgspec said: `Expected int, got bool` about `lines[0].units`."""
    message, _, where = str(error).rpartition(" - at ")
    if not message:
        message, where = where, ""
    where = where.removeprefix("`").removesuffix("`")
    # A wrong key of a mapping is told as "key` in `$.data".
    where = where.rpartition("` in `")[2].removeprefix("$")
    path = f"{prefix}{where}" if prefix else where.removeprefix(".")
    code, limit = _code_of(message)
    if named := _NAMED.match(message):
        path = f"{path}.{named[1]}" if path else named[1]
        message = "This field is required" if code == "required" else "There is no such field here"
    elif code == "malformed":
        message = "Has characters, or a form, that this field does not take"
    shown = message.replace("`", "")[:MAX_ERROR_CHARACTERS]
    return FieldError(path[:MAX_ERROR_CHARACTERS] or WHOLE_BODY, shown, code, limit)


def _code_of(message: str) -> tuple[ErrorCode, int | None]:
    if bound := _BOUND.match(message):
        # `> 0` of whole numbers is `>= 1`.
        strict = 0 if "=" in bound[3] else 1 if bound[3] == ">" else -1
        return _CODES.get((bound[1] + bound[3][0], bound[2] is not None), "invalid"), int(bound[4]) + strict
    return next((code for words, code in _WORDS.items() if words in message), "invalid"), None


def all_errors(type_: Any, raw: bytes, first: FieldError) -> list[FieldError]:
    """Return what is wrong with each member of an object, at most `MAX_ERRORS`; `first` where it is no such object.

    The decoder stops at the first fault; whoever fills in a form wants to hear of all.
    """
    if not (isinstance(type_, type) and issubclass(type_, Struct)):
        return [first]
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [first]
    if not isinstance(told, dict):
        return [first]
    found = [error for error, _ in zip(_errors_in(type_, told), range(MAX_ERRORS), strict=False)]
    return found if any(one.field == first.field for one in found) else [first, *found][:MAX_ERRORS]


def _errors_in(type_: type[Struct], told: dict[str, Any]) -> Iterator[FieldError]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    config = type_.__struct_config__
    for name, field in fields.items():
        if name not in told:
            if field.required:
                yield FieldError(name, "This field is required", "required")
            continue
        try:
            msgspec.convert(told[name], field.type)
        except msgspec.ValidationError as error:
            yield field_error(error, prefix=name)
    if config.forbid_unknown_fields:
        for name in told.keys() - fields.keys() - {config.tag_field}:
            yield FieldError(name[:MAX_ERROR_CHARACTERS], "There is no such field here", "unknown")
