"""What values look like that a JSON schema describes, and what a schema is in words. No two runs differ."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

INSTANT = "2026-11-21T12:00:00.000Z"
DAY = "2026-11-21"
UUID = "0199c0de-0000-7000-8000-000000000001"
EVENT_ID = "019c0de0-0000-7000-8000-00000000000e"
PRICE_FEN = 990

BY_NAME: Mapping[str, Any] = {
    # What a field of this name looks like; without an entry, its type says.
    "day": DAY,
    "invitee_id": "shopper-2",
    "inviter_id": "shopper-1",
    "line_id": "line-1",
    "order_id": "order-1",
    "refund_id": "refund-1",
    "seed": "5f0c2a9be1",
    "sku": "tea",
    "url": "https://crm.example.com/hooks",
    "user_id": "shopper-1",
    "user_ids": ["shopper-1", "shopper-2"],
    "zone": "Asia/Shanghai",
}
BY_TYPE: Mapping[str, tuple[str, Any]] = {
    # Format, or else type → what it is in words, and what it looks like.
    "date-time": ("time", INSTANT),
    "date": ("day", DAY),
    "uuid": ("id", UUID),
    "string": ("text", "text"),
    "boolean": ("true or false", False),
    "integer": ("whole number", 1),
    "number": ("number", 0.5),
    "null": ("nothing", None),
    "object": ("object", {}),
}

_CODE = re.compile(r"^(?:A code: )?`([a-z_.]+)`")


def example_of(schema: JSON, schemas: JSON, name: str = "") -> Any:
    """Return what a value looks like; `name` is the field's. A text whose description begins with a code is that code.

    `schemas` are those that this one refers to.
    """
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    if "anyOf" in schema:
        return example_of(next(one for one in schema["anyOf"] if one.get("type") != "null"), schemas, name)
    if "properties" in schema:
        return {field: example_of(one, schemas, field) for field, one in schema["properties"].items()}
    if schema.get("type") == "array" and name not in BY_NAME:
        return [example_of(schema["items"], schemas, name.removesuffix("s"))]
    return schema["enum"][0] if "enum" in schema else _plain(schema, name)


def _plain(schema: JSON, name: str) -> Any:
    type_ = schema["type"]
    if type_ == "string" and (code := _CODE.match(schema.get("description", ""))):
        return code[1]
    if name in BY_NAME:
        return BY_NAME[name]
    if type_ == "integer":
        return max(PRICE_FEN if name.endswith("_fen") else 1, schema.get("minimum", 1))
    is_id = type_ == "string" and (name.endswith("_id") or "{8}-" in schema.get("pattern", ""))
    return UUID if is_id else BY_TYPE[str(schema.get("format", type_))][1]


def type_in_words(schema: JSON) -> str:
    """Return what a schema is, in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_in_words(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(f'"{value}"' for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {type_in_words(schema['items'])}"
    words, _ = BY_TYPE[str(schema.get("format", schema["type"]))]
    return words
