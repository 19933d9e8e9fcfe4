"""Making one Struct of another: an event, or what somebody is shown, has facts of the thing under the same names."""

from typing import Any, TypeVar

from msgspec import Struct

S = TypeVar("S", bound=Struct)


def alike(kind: type[S], thing: object, **more: Any) -> S:
    """Return a `kind` with the facts of `thing` that have the names of its fields, and `more` in place of those."""
    for name in kind.__struct_fields__:
        if name not in more:
            more[name] = getattr(thing, name)
    return kind(**more)
