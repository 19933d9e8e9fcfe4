"""WORDS: what fields, values, refusals, calls, events and tags are called in Chinese: `words.toml` beside each room.

English is what the code says of itself: docstrings, titles, summaries. No code is a tag, so words say that too.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import growth
from growth.plumbing.docs.parts import calls_of

JSON: TypeAlias = dict[str, Any]
Name: TypeAlias = tuple[str, str]
"""What is named, one of `KINDS`, and its name."""

KINDS = ("field", "value", "code", "call", "event", "tag")
CHINESE = "zh"
ASIDE = ("example", "examples", "default")
"""Keys of a document below which stands what is sent, and no word about it."""


AS_THEY_ARE = {"1.0", "application/json", "true"}
"""Values that standards name: nobody calls them otherwise."""


class Word(NamedTuple):
    """What something is called, and what else is to be said of it."""

    zh: str
    help: str = ""
    en: str = ""
    """Of tags."""


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
    for kind, entries in (kind for one in told for kind in one.items()):
        for name, entry in entries.items():
            word = Word(**entry)
            if found.setdefault((kind, name), word) != word:
                raise TwoWordsError(f"{kind} {name}: {found[kind, name]} and {word}")
    return found


def named(document: JSON) -> set[Name]:
    """Return all that a document names, and so needs words for."""
    codes, events = set(document["components"]["examples"]), set(document.get("webhooks", ()))
    calls = {call["operationId"] for _, call in calls_of(document)}
    fields = {name for node in _nodes(document) for name in _fields(node)}
    values = {value for node in _nodes(document) for value in _values(node)} - events - codes - AS_THEY_ARE
    tags = {tag["name"] for tag in document.get("tags", ())}
    all_names = zip(KINDS, (fields, values, codes, calls, events, tags), strict=True)
    return {(kind, name) for kind, names in all_names for name in names}


def translated(document: JSON, lang: str) -> JSON:
    """Return a complete document in a language: as it is, or with what is called in Chinese told in Chinese.

    What is sent over the wire stays: names, values, and titles in examples of refusals. So do names of tags, which
    calls refer to.
    """
    if lang != CHINESE:
        return document
    told: JSON = _translated(document)
    summarized = [
        *(("call", call["operationId"], call) for _, call in calls_of(told)),
        *(("event", event, item["post"]) for event, item in told.get("webhooks", {}).items()),
        *(("code", code, example) for code, example in told["components"].get("examples", {}).items()),
    ]
    for kind, name, node in summarized:
        if word := words().get((kind, name)):
            node["summary"] = word.zh
    for tag in told["tags"]:
        if word := words().get(("tag", tag["name"])):
            tag |= {"x-displayName": word.zh, "description": word.help}
            if resource := tag.get("x-resource"):
                resource["word"] = word.zh
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
    values = {
        value: word.zh
        for value in _values(node)
        if (word := words().get(("value", value)) or words().get(("event", value)))
    }
    return told | ({"x-enum-words": values} if values else {})


def _said(node: JSON, word: Word) -> JSON:
    """Return the description of a field: what is said of it in Chinese goes before the English there is."""
    said = "\n\n".join(filter(None, [word.help, node.get("description")]))
    return {"description": said} if said else {}


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
