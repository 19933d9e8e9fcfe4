"""The document as its readers need it: answers whose fields are always there, and a part for each kind of caller."""

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

JSON: TypeAlias = dict[str, Any]
Part: TypeAlias = Literal["shopper", "shop", "admin"]

PREFIXES: dict[str, str] = {"shopper": "/v1/", "shop": "/shop/v1/", "admin": "/admin/v1/"}
COMPONENTS = "#/components/"
OK = ("2",)


def calls_of(document: JSON) -> Iterator[tuple[str, JSON]]:
    """Return each call with its path."""
    for path, operations in document["paths"].items():
        yield from ((path, call) for call in operations.values())


def part_of(document: JSON, part: Part) -> JSON:
    """Return what one kind of caller calls, with the components that this refers to and no others."""
    paths = {path: item for path, item in document["paths"].items() if path.startswith(PREFIXES[part])}
    cut = {**{key: told for key, told in document.items() if key != "webhooks"}, "paths": paths}
    needed = _reached(paths, document)
    schemes = {name for _, call in calls_of(cut) for scheme in call.get("security", ()) for name in scheme}
    needed |= {("securitySchemes", name) for name in schemes}
    cut["components"] = {
        kind: kept
        for kind, named in document["components"].items()
        if (kept := {name: one for name, one in named.items() if (kind, name) in needed})
    }
    tags = {tag for _, call in calls_of(cut) for tag in call["tags"]}
    cut["tags"] = [tag for tag in document["tags"] if tag["name"] in tags]
    return cut


def always_sent(document: JSON) -> None:
    """Mark every field of what only answers hold as required: a default is sent like any other value."""
    answers, asked = set[tuple[str, str]](), set[tuple[str, str]]()
    for _, call in calls_of(document):
        asked |= _reached({"body": call.get("requestBody"), "parameters": call.get("parameters")}, document)
        answers |= _reached([told for status, told in call["responses"].items() if status.startswith(OK)], document)
    for kind, name in answers - asked:
        schema = document["components"][kind][name]
        if kind == "schemas" and "properties" in schema:
            schema["required"] = sorted(schema["properties"])


def _reached(node: Any, document: JSON) -> set[tuple[str, str]]:
    """Return the kind and name of each component that `node` leads to."""
    found: set[tuple[str, str]] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if isinstance(current, list):
            waiting += current
        elif isinstance(current, dict):
            reference = current.get("$ref")
            if isinstance(reference, str) and reference.startswith(COMPONENTS):
                kind, _, name = reference.removeprefix(COMPONENTS).partition("/")
                if (kind, name) not in found:
                    found.add((kind, name))
                    waiting.append(document["components"][kind][name])
            waiting += current.values()
    return found
