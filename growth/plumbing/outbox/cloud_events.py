"""An event as others get it: CloudEvents 1.0 in JSON (github.com/cloudevents/spec, json-format), wherever it goes."""

import msgspec

from growth.plumbing.outbox.outbox import Envelope
from growth.plumbing.strict_json import plain
from growth.vocabulary.clock import rfc3339

MEDIA_TYPE = "application/cloudevents+json"

_encode = msgspec.json.Encoder().encode


def cloud_event(envelope: Envelope, source: str) -> bytes:
    """Return the event as one JSON object; the same bytes however often it is told.

    `id` is the event's own, `source` names this deployment: together they are unique. `time` is when it happened,
    `subject` what it is about. `requestid`, an extension, is the X-Request-Id of the request that it came of, where
    that was one. `data` holds the event's other fields.
    """
    event = envelope.event
    data = plain(event)
    type_ = data.pop("type")
    del data["at"]
    whose = {"requestid": envelope.request_id} if envelope.request_id else {}
    return _encode(
        {
            "specversion": "1.0",
            "id": envelope.event_id,
            "source": source,
            "type": type_,
            "time": rfc3339(event.at),
            "subject": event.subject,
            **whose,
            "datacontenttype": "application/json",
            "data": data,
        }
    )
