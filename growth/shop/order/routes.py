"""The order system's HTTP: `POST /shop/v1/events`."""

from collections.abc import Callable
from typing import Any

from litestar import Request, Router, post
from litestar.di import NamedDependency
from msgspec import Struct

from growth.plumbing.docs.schemas import BY_HAND
from growth.plumbing.http.answers import raw_body, require_json
from growth.shop.order.hooks import HOOKS, MAX_BODY_BYTES, MAX_EVENTS, MAX_LINES, OtherHook
from growth.shop.order.service import Result, ShopService
from growth.vocabulary import clock

CLOUD_EVENTS = "application/cloudevents+json"
CLOUD_EVENTS_BATCH = "application/cloudevents-batch+json"

HEADERS = {
    "webhook-id": "Names this hook; the sender keeps it when sending again.",
    "webhook-timestamp": "When it was signed, whole seconds since 1970.",
    "webhook-signature": "`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; several separated by blanks.",
}


class HookResults(Struct, frozen=True):
    """What became of the events of one hook, in their order."""

    results: list[Result]


def _documented(schema_of: Callable[[Any], Any]) -> dict[str, Any]:
    """Return headers and body: it is read raw, since its bytes are what is signed, and then with these Structs."""
    event = {"anyOf": [schema_of(hook) for hook in (*HOOKS.values(), OtherHook)]}
    batch = {"type": "array", "maxItems": MAX_EVENTS, "items": event}
    shapes = {"application/json": {"anyOf": [event, batch]}, CLOUD_EVENTS: event, CLOUD_EVENTS_BATCH: batch}
    return {
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": told, "schema": {"type": "string"}}
            for name, told in HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "description": "One event, or an array of them.",
            "content": {media_type: {"schema": shape} for media_type, shape in shapes.items()},
        },
    }


@post(
    "/events",
    status_code=200,
    operation_id="shop_events_receive",
    summary="Receive events from the order system",
    description=(
        "CloudEvents 1.0, signed after Standard Webhooks. Each event is applied once, on its own: a bad one is "
        "`rejected` and its neighbours are applied. They may come in any order, and again; after 503 or silence send "
        "the hook again. Types that nobody listens to are `ignored`. A line with `owed_fen` must be paid back, whole "
        "where it says `refund_required`; the event `shop.refund_required` tells it once, and "
        "`GET /admin/v1/refunds-required` lists it.\n\n"
        "Ids are the shop's own: 1 to 128 characters of any script, in NFC, without blanks at their ends, control "
        f"characters or bidirectional controls. An order or a refund has at most {MAX_LINES} lines. A line of "
        "`order.placed` or `order.paid` that cannot be read is `rejected` in `lines`, and the event with it, while the "
        "other lines stand; told again with that line mended, it is added.\n\n"
        "A time more than 5 minutes ahead of this service's clock is `rejected` as `shop.in_future`; what lies within "
        "is held to now. What was rejected may be told again, mended, under the same event id."
    ),
    request_max_body_size=MAX_BODY_BYTES,
    opt={BY_HAND: _documented},
)
async def take_events(request: Request[Any, Any, Any], shop: NamedDependency[ShopService]) -> HookResults:
    """Read the body raw and bounded, and hand it on."""
    require_json(request, CLOUD_EVENTS, CLOUD_EVENTS_BATCH)
    raw = await raw_body(request, max_bytes=MAX_BODY_BYTES)
    return HookResults(await shop.receive(request.headers, raw, clock.now()))


router = Router(path="/shop/v1", route_handlers=[take_events], tags=["Order system"])
