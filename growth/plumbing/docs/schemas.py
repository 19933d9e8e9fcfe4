"""JSON schemas of our types, as the document holds them: each Struct once, by name."""

from typing import Any, TypeAlias

import msgspec

JSON: TypeAlias = dict[str, Any]

SCHEMAS = "#/components/schemas/"
BY_HAND = "by_hand"
"""Under it the `opt` of a route has what is documented by hand, of bodies that are read raw: a function that returns
this part of the operation, and is given one that returns a type's schema."""


def schema_of(type_: Any, schemas: JSON) -> JSON:
    """Return the JSON schema of a type; those of the Structs that it refers to are added to `schemas`."""
    (schema,), found = msgspec.json.schema_components([type_], ref_template=SCHEMAS + "{name}")
    for name, one in found.items():
        schemas.setdefault(name, one)
    return schema
