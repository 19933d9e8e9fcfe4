"""The document as its readers need it: answers whose fields are always there, and a part for each kind of caller."""

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

JSON: TypeAlias = dict[str, Any]
Part: TypeAlias = Literal["shopper", "shop", "admin"]

PREFIXES: dict[str, str] = {"shopper": "/v1/", "shop": "/shop/v1/", "admin": "/admin/v1/"}
COMPONENTS = "#/components/"
OK = ("2",)


def part_of(document: JSON, part: Part) -> JSON:
    """Return what one kind of caller calls, with the components that this refers to and no others."""
    paths = {path: item for path, item in document["paths"].items() if path.startswith(PREFIXES[part])}
    needed = _reached(paths, document)
    components = {
        kind: kept
        for kind, named in document["components"].items()
        if (kept := {name: one for name, one in named.items() if kind == "securitySchemes" or (kind, name) in needed})
    }
    schemes = {name for operations in paths.values() for call in operations.values() for name in _schemes(call)}
    components["securitySchemes"] = {name: document["components"]["securitySchemes"][name] for name in sorted(schemes)}
    about = {key: document[key] for key in document.keys() - {"webhooks"}}
    return {**about, "paths": paths, "components": components}


def always_sent(document: JSON) -> None:
    """Mark every field of what only answers hold as required: a default is sent like any other value."""
    answers, asked = set[tuple[str, str]](), set[tuple[str, str]]()
    for operations in document["paths"].values():
        for call in operations.values():
            asked |= _reached({"body": call.get("requestBody"), "parameters": call.get("parameters")}, document)
            answers |= _reached(
                [response for status, response in call["responses"].items() if status.startswith(OK)], document
            )
    for kind, name in answers - asked:
        schema = document["components"][kind][name]
        if kind == "schemas" and "properties" in schema:
            schema["required"] = sorted(schema["properties"])


def _schemes(call: JSON) -> Iterator[str]:
    for scheme in call.get("security", ()):
        yield from scheme


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
