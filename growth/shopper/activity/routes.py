"""Shoppers' HTTP of events in."""

from dataclasses import dataclass
from typing import Any

from litestar import Request, Router, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody

from growth.plumbing.docs.schemas import schemas_of
from growth.plumbing.http.answers import MAX_BODY_BYTES, raw_body, require_json
from growth.shopper.activity.model import EventsTold
from growth.shopper.activity.service import BatchTaken, Events
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper


@dataclass
class ActivityOperation(Operation):
    """The body is read event by event, so that one bad event spares the others; so it is documented by hand."""

    def __post_init__(self) -> None:
        """Add the body, from the Struct that it is read with."""
        (schema,) = schemas_of([EventsTold])
        shown: Any = schema
        self.request_body = RequestBody(content={"application/json": OpenAPIMediaType(schema=shown)}, required=True)


@post(
    "/events",
    status_code=202,
    operation_class=ActivityOperation,
    operation_id="events_report",
    summary="Report what the shopper did",
    request_max_body_size=MAX_BODY_BYTES,
)
async def take_events(
    request: Request[Any, Any, Any], shopper: NamedDependency[Shopper], events: NamedDependency[Events]
) -> BatchTaken:
    """Durable before the answer. An event counts once by its `id` on the UTC day of its `at`, however often it is sent.

    A bad event is rejected with a code, and its neighbours are taken. After 429, 503 or silence, send the same batch
    again: with the same ids and times.
    """
    require_json(request)
    raw = await raw_body(request)
    return await events.take(shopper.user_id, raw, clock.now())


router = Router(path="/v1", route_handlers=[take_events], tags=["Events"])
