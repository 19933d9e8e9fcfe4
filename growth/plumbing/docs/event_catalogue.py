"""The catalogue: every event the service emits, when, with which fields, and an example. Made from the code alone.

It is what `growth events` prints, the `webhooks` part of the OpenAPI document, and what filters are checked against.
"""

import inspect
import re
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias, get_args

import msgspec
from msgspec import Struct, structs

from growth.plumbing.docs.examples import EVENT_ID, INSTANT, example_of, type_in_words
from growth.plumbing.docs.field_docs import field_docs
from growth.plumbing.docs.schemas import SCHEMAS, schema_of
from growth.plumbing.outbox.cloud_events import MEDIA_TYPE, cloud_event
from growth.plumbing.outbox.outbox import Envelope, events_below
from growth.vocabulary.events import Event
from growth.vocabulary.events.glossary import GLOSSARY

JSON: TypeAlias = dict[str, Any]

SOURCE = "growth"

OF_THE_ENVELOPE = ("type", "at")
"""Told by attributes of the CloudEvent, `type` and `time`, and not again in its data."""

DEPRECATED = "Deprecated: "
"""How the docstring of an event begins to which nobody should listen any more."""


class CatalogueField(Struct, frozen=True):
    """One field of an event's data."""

    name: str
    type: str
    told: str
    """What it is; nothing where nobody has said."""


class EventDescription(Struct, frozen=True):
    """One event."""

    name: str
    event: type[Event]
    when: str
    fields: tuple[CatalogueField, ...]
    data: JSON
    """The JSON schema of its data."""
    schemas: JSON
    """What that refers to."""
    example: JSON
    """The whole CloudEvent."""


@cache
def catalogue() -> tuple[EventDescription, ...]:
    """Return every event there is, by name."""
    ours = list(events_below(Event))
    return tuple(_entry(name, event) for name, event in sorted(ours))


@cache
def event_names() -> frozenset[str]:
    """Return the names of all events."""
    return frozenset(entry.name for entry in catalogue())


def _entry(name: str, event: type[Event]) -> EventDescription:
    when = inspect.cleandoc(event.__doc__ or "")
    # By the event, by what it derives from, or for all events.
    told, schemas = {**GLOSSARY, **field_docs(event)}, JSON()
    own = schemas.pop(schema_of(event, schemas)["$ref"].removeprefix(SCHEMAS))
    properties: JSON = {field: one for field, one in own["properties"].items() if field not in OF_THE_ENVELOPE}
    for info in structs.fields(event):
        if (schema := properties.get(info.name)) and told.get(info.name):
            schema["description"] = told[info.name]
        if schema and datetime in (info.type, *get_args(info.type)):
            # msgspec does not say so of those that may have any zone.
            schema.get("anyOf", [schema])[0]["format"] = "date-time"
    required = [field for field in own.get("required", ()) if field in properties]
    data = {"type": "object", "description": when, "required": required, "properties": properties}
    sample = msgspec.convert(example_of(data, schemas) | {"type": name, "at": INSTANT}, event)
    return EventDescription(
        name=name,
        event=event,
        when=when,
        fields=tuple(
            CatalogueField(field, type_in_words(schema), told.get(field, "")) for field, schema in properties.items()
        ),
        data=data,
        schemas=schemas,
        example=msgspec.json.decode(cloud_event(Envelope(EVENT_ID, sample), SOURCE)),
    )


# --- the document ---------------------------------------------------------------------------------------------------

HEADERS = {
    "webhook-id": "The event's id, the same at every attempt and redelivery: what was seen before may be dropped.",
    "webhook-timestamp": "When this attempt was signed, whole seconds since 1970.",
    "webhook-signature": (
        "`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; several, separated by blanks, while a secret "
        "is rotated."
    ),
}
ANSWERS = {
    "2XX": ("EventTaken", "Taken; it is not sent again."),
    "410": ("EventGone", "Gone: the endpoint is disabled."),
    "default": ("EventLater", "Sent again later, by and by up to a day apart. Retry-After is heeded."),
}
TEXT = {"type": "string"}
CLOUD_EVENT: JSON = {
    "type": "object",
    "description": "A CloudEvent, version 1.0.",
    "required": ["specversion", "id", "source", "time", "subject", "datacontenttype"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {**TEXT, "description": "The event's id; also in webhook-id."},
        "source": {**TEXT, "description": "The deployment that tells: GROWTH_EVENT_SOURCE."},
        "time": {**TEXT, "format": "date-time", "description": "When it happened, UTC."},
        "subject": {**TEXT, "description": "The id of what it is about."},
        "datacontenttype": {"const": "application/json"},
    },
}


def document_webhooks(components: JSON) -> JSON:
    """Return the `webhooks` part of an OpenAPI 3.1 document; what it refers to is added to `components`."""
    components["parameters"] = {
        name: {"name": name, "in": "header", "required": True, "description": told, "schema": TEXT}
        for name, told in HEADERS.items()
    }
    components["responses"] |= {name: {"description": told} for name, told in ANSWERS.values()}
    components["schemas"]["CloudEvent"] = CLOUD_EVENT
    for entry in catalogue():
        for name, schema in {**entry.schemas, _name(entry): entry.data}.items():
            components["schemas"].setdefault(name, schema)
    return {entry.name: {"post": _operation(entry)} for entry in catalogue()}


def _name(entry: EventDescription) -> str:
    return f"Event{entry.event.__name__}"


def _operation(entry: EventDescription) -> JSON:
    deprecated = entry.when.startswith(DEPRECATED)
    said = entry.when.split("\n\n")[1 if deprecated else 0].replace("\n", " ")
    schema = {
        "allOf": [{"$ref": f"{SCHEMAS}CloudEvent"}],
        "type": "object",
        "required": ["type", "data"],
        "properties": {"type": {"const": entry.name}, "data": {"$ref": SCHEMAS + _name(entry)}},
    }
    return {
        "operationId": "on_" + entry.name.replace(".", "_"),
        "summary": re.split(r"[.:] ", said)[0].rstrip("."),
        "description": entry.when,
        "deprecated": deprecated,
        "tags": [f"Events: {entry.name.partition('.')[0].replace('_', ' ')}"],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in HEADERS],
        "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": schema, "example": entry.example}}},
        "responses": {status: {"$ref": f"#/components/responses/{name}"} for status, (name, _) in ANSWERS.items()},
    }
