"""What the last release's OpenAPI document promised, as far as callers lean on it, beside what today's says."""

from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]

MAX_DEPTH = 6
"""Of fields in fields: schemas may lead back to themselves."""


def promises(document: JSON) -> dict[str, list[str]]:
    """Return, by call: its operationId, what may be sent and must be, what is answered, and how it is refused."""
    return {
        f"{method.upper()} {path}": sorted(_of_call(document, operation))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def _of_call(document: JSON, operation: JSON) -> Iterator[str]:
    yield f"id {operation['operationId']}"
    for parameter in operation.get("parameters", []):
        yield f"{parameter['in']} {parameter['name']}{' required' if parameter.get('required') else ''}"
    for media in operation.get("requestBody", {}).get("content", {}).values():
        yield from (f"body {name}" for name in _fields(document, media["schema"], "", 0))
    for status, told in operation["responses"].items():
        answer = _resolved(document, told)
        yield f"status {status}"
        for media_type, media in answer.get("content", {}).items():
            if media_type == "application/problem+json":
                yield from (f"code {code}" for code in media.get("examples", {}))
            elif media_type.endswith("json"):
                yield from (f"answer {status} {name}" for name in _fields(document, media["schema"], "", 0))


def _resolved(document: JSON, node: JSON) -> JSON:
    while "$ref" in node:
        _, _, kind, name = node["$ref"].split("/")
        node = document["components"][kind][name]
    return node


def _fields(document: JSON, schema: JSON, path: str, depth: int) -> Iterator[str]:
    schema = _resolved(document, schema)
    if depth > MAX_DEPTH:
        return
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from _fields(document, inner, f"{path}{name}.", depth + 1)
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _fields(document, inner, path, depth + 1)
    if isinstance(schema.get("items"), dict):
        yield from _fields(document, schema["items"], f"{path}[].", depth + 1)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _fields(document, schema["additionalProperties"], f"{path}*.", depth + 1)
