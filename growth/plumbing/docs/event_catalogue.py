"""The catalogue: every event the service emits, when, with which fields, and an example. Made from the code alone.

It is what `growth events` prints, the `webhooks` part of the OpenAPI document, and what filters are checked against.
"""

import inspect
from functools import cache
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.inspect import StructType

from growth.plumbing.docs.examples import EVENT_ID, example_of, type_in_words
from growth.plumbing.docs.field_docs import field_docs
from growth.plumbing.outbox.cloud_events import MEDIA_TYPE, cloud_event
from growth.plumbing.outbox.outbox import Envelope, events_below
from growth.vocabulary.events import Event
from growth.vocabulary.events.glossary import GLOSSARY

JSON: TypeAlias = dict[str, Any]

SCHEMAS = "#/components/schemas/"
SOURCE = "growth"

OF_THE_ENVELOPE = ("type", "at")
"""Told by attributes of the CloudEvent, `type` and `time`, and not again in its data."""


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
    info = msgspec.inspect.type_info(event)
    assert isinstance(info, StructType)
    told = _told(event)
    sample = msgspec.convert(example_of(info, told=told), event)
    return EventDescription(
        name=name,
        event=event,
        when=inspect.cleandoc(event.__doc__ or ""),
        fields=tuple(
            CatalogueField(field.encode_name, type_in_words(field.type), told.get(field.name, ""))
            for field in info.fields
            if field.name not in OF_THE_ENVELOPE
        ),
        example=msgspec.json.decode(cloud_event(Envelope(EVENT_ID, sample), SOURCE)),
    )


def _told(event: type[Event]) -> dict[str, str]:
    """Return what is said about each field: by the event, by what it derives from, or for all events."""
    told = dict(GLOSSARY)
    for base in reversed(event.__mro__):
        if base.__module__.startswith("growth."):
            told |= field_docs(base)
    return told


# --- the document ---------------------------------------------------------------------------------------------------

HEADERS = {
    "webhook-id": "The event's id, the same at every attempt and redelivery: what was seen before may be dropped.",
    "webhook-timestamp": "When this attempt was signed, whole seconds since 1970.",
    "webhook-signature": (
        "`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; several, separated by blanks, while a secret "
        "is rotated."
    ),
}


def document_webhooks(schemas: JSON) -> JSON:
    """Return the `webhooks` part of an OpenAPI 3.1 document; the shapes it refers to are added to `schemas`."""
    return {entry.name: {"post": _operation(entry, schemas)} for entry in catalogue()}


def _operation(entry: EventDescription, schemas: JSON) -> JSON:
    name = f"Event{entry.event.__name__}"
    schemas[name] = _data_schema(entry, schemas)
    return {
        "operationId": "on_" + entry.name.replace(".", "_"),
        "summary": entry.name,
        "description": entry.when,
        "tags": [f"Events: {entry.name.partition('.')[0].replace('_', ' ')}"],
        "parameters": [
            {"name": header, "in": "header", "required": True, "description": told, "schema": {"type": "string"}}
            for header, told in HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": _envelope_schema(entry, name), "example": entry.example}},
        },
        "responses": {
            "2XX": {"description": "Taken; it is not sent again."},
            "410": {"description": "Gone: the endpoint is disabled."},
            "default": {"description": "Sent again later, by and by up to a day apart. Retry-After is heeded."},
        },
    }


def _envelope_schema(entry: EventDescription, data: str) -> JSON:
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "A CloudEvent, version 1.0.",
        "required": list(entry.example),
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**text, "description": "The event's id; also in webhook-id."},
            "source": {**text, "description": "The deployment that tells: GROWTH_EVENT_SOURCE."},
            "type": {"const": entry.name},
            "time": {**text, "format": "date-time", "description": "When it happened, UTC."},
            "subject": {**text, "description": "The id of what it is about."},
            "datacontenttype": {"const": "application/json"},
            "data": {"$ref": SCHEMAS + data},
        },
    }


def _data_schema(entry: EventDescription, schemas: JSON) -> JSON:
    (reference,), components = msgspec.json.schema_components([entry.event], ref_template=SCHEMAS + "{name}")
    own: JSON = components.pop(reference["$ref"].removeprefix(SCHEMAS))
    for name, schema in components.items():
        schemas.setdefault(name, schema)
    told = {field.name: field.told for field in entry.fields}
    return {
        "type": "object",
        "description": entry.when,
        "required": [name for name in own.get("required", []) if name not in OF_THE_ENVELOPE],
        "properties": {
            name: schema | ({"description": told[name]} if told.get(name) else {})
            for name, schema in own["properties"].items()
            if name not in OF_THE_ENVELOPE
        },
    }
