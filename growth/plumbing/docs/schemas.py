"""JSON schemas of Structs, whole: for bodies that are read raw, and so are documented by hand."""

from collections.abc import Sequence
from typing import Any

import msgspec


def schemas_of(types: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the JSON schema of each of `types`, with each reference replaced by what it refers to."""
    schemas, components = msgspec.json.schema_components(types, ref_template="{name}")
    return [_inlined(schema, components) for schema in schemas]


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, components) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        return _inlined(components[reference], components)
    return {key: _inlined(value, components) for key, value in schema.items() if key != "discriminator"}
