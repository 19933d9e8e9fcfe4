"""TAGS: what calls and events are about, in the order in which a reader meets them, and how campaigns are run."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from growth.plumbing.docs.parts import PREFIXES, calls_of
from growth.plumbing.docs.words import words

JSON: TypeAlias = dict[str, Any]

RESOURCE = "resource"
"""Under it the `opt` of a route says which `Resource` it is a call of."""


class Resource(Struct, frozen=True):
    """A kind of campaign, as far as a console needs to know it to draw its lists and forms."""

    kind: str
    """The last part of its URL."""
    id: str
    """The field, and the parameter in paths, that is its id."""
    verbs: tuple[str, ...]
    """The steps of its life, in order."""
    word: str
    room: str
    operations: str
    """What operationIds of its calls begin with."""


def tags_of(document: JSON, resources: Mapping[str, Resource]) -> list[JSON]:
    """Return the tags: of shoppers' calls, the shop's, operators', others, then of events.

    Within each, rooms that have campaigns come first, else rooms from the bottom up. `resources` stand under their tag.
    """
    rooms = tuple(f"{one.room}_" for one in resources.values())
    prefixes = list(PREFIXES.values())
    places: dict[str, tuple[int, bool]] = {}
    for path, call in calls_of(document):
        place = next((place for place, prefix in enumerate(prefixes) if path.startswith(prefix)), len(prefixes))
        name = call["operationId"].removeprefix("admin_") + "_"
        places.setdefault(call["tags"][0], (place, not name.startswith(rooms)))
    events = [operation["post"]["tags"][0] for operation in document["webhooks"].values()]
    return [
        {"name": tag}
        | ({"description": word.en} if (word := words().get(("tag", tag))) else {})
        | ({"x-resource": _told(document, resources[tag])} if tag in resources else {})
        for tag in dict.fromkeys([*sorted(places, key=places.__getitem__), *events])
    ]


def _told(document: JSON, resource: Resource) -> JSON:
    url, begin = f"{PREFIXES['admin']}{resource.kind}/", f"{resource.operations}_"
    ids = [call["operationId"] for path, call in calls_of(document) if f"{path}/".startswith(url)]
    return {
        "kind": resource.kind,
        "id": resource.id,
        "verbs": list(resource.verbs),
        # What can be done, as `list` or `stats_get`, and the operationId of the call that does it.
        "calls": {one.removeprefix(begin): one for one in ids if one.startswith(begin)},
        "word": resource.word,
    }
