"""What values of our types look like, and what a type is in words. Made from the types; no two runs differ."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.inspect import (
    BoolType,
    DateTimeType,
    DateType,
    DictType,
    EnumType,
    FloatType,
    IntType,
    ListType,
    LiteralType,
    Metadata,
    NoneType,
    SetType,
    StrType,
    StructType,
    TupleType,
    Type,
    UnionType,
    UUIDType,
    VarTupleType,
)

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

_CODE = re.compile(r"^(?:A code: )?`([a-z_.]+)`")


def example_of(type_: Any, name: str = "", told: Mapping[str, str] | None = None) -> Any:
    """Return, as JSON knows it, what a value of this type of `msgspec.inspect` looks like; `name` is the field's.

    `told` says, for the fields of a Struct, what they are: a text whose description begins with a code is that code.
    """
    if isinstance(type_, Metadata):
        return example_of(type_.type, name, told)
    if isinstance(type_, UnionType):
        return example_of(next(one for one in type_.types if not isinstance(one, NoneType)), name, told)
    if isinstance(type_, StructType):
        return _struct(type_, told or {})
    if name in BY_NAME:
        return BY_NAME[name]
    maker = _MAKERS.get(type(type_))
    return None if maker is None else maker(type_, name)


def _struct(type_: StructType, told: Mapping[str, str]) -> dict[str, Any]:
    made = {} if type_.tag_field is None else {type_.tag_field: type_.tag}
    for field in type_.fields:
        code = _CODE.match(told.get(field.name, ""))
        is_text = code is not None and isinstance(field.type, StrType)
        made[field.encode_name] = code[1] if code and is_text else example_of(field.type, field.name)
    return made


def _text(type_: StrType, name: str) -> str:
    return UUID if name.endswith("_id") or "{8}-" in (type_.pattern or "") else "text"[: type_.max_length]


def _whole(type_: IntType, name: str) -> int:
    return max(type_.ge if type_.ge is not None else 1, PRICE_FEN if name.endswith("_fen") else 1)


def _list(type_: Any, name: str) -> list[Any]:
    return [example_of(type_.item_type, name.removesuffix("s"))]


_MAKERS: Mapping[type[Type], Callable[[Any, str], Any]] = {
    StrType: _text,
    IntType: _whole,
    BoolType: lambda _type, _name: False,
    FloatType: lambda _type, _name: 0.5,
    DateTimeType: lambda _type, _name: INSTANT,
    DateType: lambda _type, _name: DAY,
    UUIDType: lambda _type, _name: UUID,
    LiteralType: lambda type_, _name: type_.values[0],
    EnumType: lambda type_, _name: next(iter(type_.cls)).value,
    ListType: _list,
    VarTupleType: _list,
    SetType: _list,
    TupleType: lambda type_, name: [example_of(one, name) for one in type_.item_types],
    DictType: lambda type_, _name: {"key": example_of(type_.value_type)},
}


def type_in_words(type_: Any) -> str:
    """Return what a type of `msgspec.inspect` is, in a word or two."""
    words = _WORDS.get(type(type_), "any value")
    return words if isinstance(words, str) else words(type_)


def _list_in_words(type_: Any) -> str:
    return f"list of {type_in_words(type_.item_type)}"


_WORDS: Mapping[type[Type], str | Callable[[Any], str]] = {
    StrType: "text",
    IntType: "whole number",
    BoolType: "true or false",
    FloatType: "number",
    DateTimeType: "time",
    DateType: "day",
    UUIDType: "id",
    NoneType: "nothing",
    DictType: "object",
    Metadata: lambda type_: type_in_words(type_.type),
    UnionType: lambda type_: " or ".join(dict.fromkeys(type_in_words(one) for one in type_.types)),
    StructType: lambda type_: str(type_.tag or type_.cls.__name__),
    LiteralType: lambda type_: " | ".join(f'"{value}"' for value in type_.values),
    EnumType: lambda type_: " | ".join(f'"{member.value}"' for member in type_.cls),
    ListType: _list_in_words,
    VarTupleType: _list_in_words,
    SetType: _list_in_words,
    TupleType: lambda type_: ", ".join(type_in_words(one) for one in type_.item_types),
}
