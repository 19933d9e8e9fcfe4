"""Shoppers' HTTP of events in."""

from collections.abc import Callable
from typing import Any

from litestar import Request, Router, post
from litestar.di import NamedDependency

from growth.plumbing.docs.schemas import BY_HAND
from growth.plumbing.http.answers import MAX_BODY_BYTES, raw_body, require_json
from growth.shopper.activity.model import EventsTold
from growth.shopper.activity.service import BatchTaken, Events
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper


def _documented(schema_of: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the body: it is read event by event, so that one bad event spares the others."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema_of(EventsTold)}}}}


@post(
    "/events",
    status_code=202,
    operation_id="events_report",
    summary="Report what the shopper did",
    request_max_body_size=MAX_BODY_BYTES,
    opt={BY_HAND: _documented},
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


router = Router(path="/v1", route_handlers=[take_events], tags=["Activity"])
