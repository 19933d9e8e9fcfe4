"""WORDS: what fields, values, refusals and calls are called in Chinese: `words.toml` of each room, and of this folder.

English is what the code says of itself: docstrings, titles, summaries.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import growth

JSON: TypeAlias = dict[str, Any]
Name: TypeAlias = tuple[str, str]
"""What is named, one of `KINDS`, and its name."""

KINDS = ("field", "value", "code", "call")
CHINESE = "zh"
ASIDE = ("example", "examples", "default")
"""Keys of a document below which stands what is sent, and no word about it."""


AS_THEY_ARE = {"1.0", "application/json", "true"}
"""Values that standards name: nobody calls them otherwise. Nor are names of events called otherwise."""


class Word(NamedTuple):
    """What something is called, and what else is to be said of it."""

    zh: str
    help: str = ""


class TwoWordsError(Exception):
    """Two rooms call one thing by different words."""


@cache
def words() -> Mapping[Name, Word]:
    """Return all words there are."""
    return merged(tomllib.loads(path.read_text(encoding="utf-8")) for path in files())


def files() -> list[Path]:
    """Return where words are told."""
    return sorted(Path(growth.__path__[0]).rglob("words.toml"))


def merged(told: Iterable[JSON]) -> dict[Name, Word]:
    """Return the words of several files as one."""
    found: dict[Name, Word] = {}
    for kind, name, word in ((kind, name, Word(**entry)) for one in told for kind, name, entry in _entries(one)):
        if found.setdefault((kind, name), word) != word:
            raise TwoWordsError(f"{kind} {name}: {found[kind, name]} and {word}")
    return found


def _entries(told: JSON) -> Iterator[tuple[str, str, JSON]]:
    for kind, entries in told.items():
        for name, entry in entries.items():
            yield kind, name, entry


def named(document: JSON) -> set[Name]:
    """Return all that a document names, and so needs words for."""
    codes = document["components"]["examples"]
    calls = {operation["operationId"] for operation in _operations(document)}
    fields = {name for node in _nodes(document) for name in _fields(node)}
    values = {value for node in _nodes(document) for value in _values(node)} - document.get("webhooks", {}).keys()
    return {
        (kind, name)
        for kind, names in zip(KINDS, (fields, values - codes.keys() - AS_THEY_ARE, codes, calls), strict=True)
        for name in names
    }


def translated(document: JSON, lang: str) -> JSON:
    """Return a complete document in a language: as it is, or with what is called in Chinese told in Chinese.

    What is sent over the wire stays: names, values, and titles in examples of refusals.
    """
    if lang != CHINESE:
        return document
    told: JSON = _translated(document)
    for operation in _operations(told):
        if word := words().get(("call", operation["operationId"])):
            operation["summary"] = word.zh
    for code, example in told["components"].get("examples", {}).items():
        if word := words().get(("code", code)):
            example["summary"] = word.zh
    return told


def _translated(node: Any) -> Any:
    if isinstance(node, list):
        return [_translated(item) for item in node]
    if not isinstance(node, dict):
        return node
    told = {key: value if key in ASIDE else _translated(value) for key, value in node.items()}
    if "components" in node:
        # What stands by name under `examples` here are refusals; their summaries are written anew.
        told["components"]["examples"] = {
            code: dict(example) for code, example in node["components"].get("examples", {}).items()
        }
    for name in _fields(node):
        if (word := words().get(("field", name))) is None:
            continue
        if name in told.get("properties", {}):
            told["properties"][name] |= _said(told["properties"][name], word) | {"title": word.zh}
        else:
            told["description"] = "\n\n".join([word.zh, *_said(told, word).values()])
    values = {value: words()["value", value].zh for value in _values(node) if ("value", value) in words()}
    return told | ({"x-enum-words": values} if values else {})


def _said(node: JSON, word: Word) -> JSON:
    """Return the description of a field: what is said of it in Chinese goes before the English there is."""
    said = "\n\n".join(filter(None, [word.help, node.get("description")]))
    return {"description": said} if said else {}


def _operations(document: JSON) -> Iterator[JSON]:
    for operations in document["paths"].values():
        yield from (operation for operation in operations.values() if "operationId" in operation)


def _nodes(node: Any) -> Iterator[JSON]:
    if isinstance(node, list):
        for item in node:
            yield from _nodes(item)
    elif isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ASIDE:
                yield from _nodes(value)


def _fields(node: JSON) -> list[str]:
    """Return the fields that a schema has, or the one that a parameter is."""
    if isinstance(properties := node.get("properties"), dict) and node.get("type") == "object":
        return list(properties)
    return [node["name"]] if node.get("in") in ("query", "path") and "schema" in node else []


def _values(node: JSON) -> list[str]:
    """Return what a schema lists as the values there are."""
    listed = node.get("enum", [])
    return [
        value for value in [*(listed if isinstance(listed, list) else []), node.get("const")] if isinstance(value, str)
    ]
