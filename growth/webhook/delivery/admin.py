"""Operators' HTTP of deliveries."""

from typing import Annotated, Any, Literal

from litestar import Request, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
    encode_cursor,
    page_of,
)
from growth.plumbing.http.listing import instant_of
from growth.plumbing.http.operators import act_of, requires
from growth.plumbing.strict_json import Instant, invalid
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import Uuid
from growth.webhook.delivery.service import Deliveries, ProbeAnswer, Redelivery, RedeliveryAsked
from growth.webhook.model import Delivery

StateFilter = Annotated[
    Literal["pending", "delivered", "exhausted"] | None,
    QueryParameter(name="state", description="Only deliveries in this state."),
]
TypeFilter = Annotated[
    str | None,
    QueryParameter(name="type", pattern=r"^[a-z_.]{1,101}$(?!\n)", description="Only events of this name."),
]
From = Annotated[
    str | None,
    QueryParameter(name="from", format="date-time", description="Events at this instant or later, RFC 3339."),
]
To = Annotated[str | None, QueryParameter(name="to", format="date-time", description="Events before this instant.")]


@get(
    "/{endpoint_id:str}/deliveries",
    operation_id="admin_webhook_delivery_list",
    summary="List deliveries of a webhook endpoint",
    guards=[requires(Role.VIEWER)],
)
async def list_deliveries(
    endpoint_id: PathUuid,
    deliveries: NamedDependency[Deliveries],
    only: StateFilter = None,
    type_: TypeFilter = None,
    since: From = None,
    until: To = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[Delivery]:
    """Newest event first; kept for 14 days."""
    found = await deliveries.page(
        endpoint_id,
        state=only,
        type_=type_,
        since=instant_of("from", since),
        until=instant_of("to", until),
        before=decode_cursor(cursor, tuple[Instant, Uuid]),
        limit=limit + 1,
    )
    return page_of(found, limit, lambda delivery: (delivery.event_at, delivery.event_id))


@post(
    "/{endpoint_id:str}/redeliver",
    status_code=200,
    operation_id="admin_webhook_delivery_resend",
    summary="Resend a delivery",
    guards=[requires(Role.EDITOR)],
)
async def redeliver(
    endpoint_id: PathUuid,
    data: JSONBody[RedeliveryAsked],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    deliveries: NamedDependency[Deliveries],
) -> Redelivery:
    """One delivery, or all events of a range that the endpoint asks for, also those from before it was made.

    They keep their ids: a receiver that drops what it has seen loses nothing and gets nothing twice. A range goes back
    as far as the outbox keeps events, seven days.
    """
    act = act_of(request, operator)
    if (data.delivery_id is None) == (data.from_ is None) or (data.from_ is None) != (data.to is None):
        raise invalid(FieldError("delivery_id", "Say delivery_id, or from and to"))
    if data.delivery_id is not None:
        return await deliveries.redeliver_one(act, endpoint_id, data.delivery_id)
    assert data.from_ is not None
    assert data.to is not None
    after = decode_cursor(data.cursor, tuple[Instant, Uuid])
    events, queued, position = await deliveries.redeliver_range(
        act, endpoint_id, data.from_, data.to, data.types, after
    )
    return Redelivery(events=events, queued=queued, next_cursor=None if position is None else encode_cursor(*position))


@post(
    "/{endpoint_id:str}/test",
    status_code=200,
    operation_id="admin_webhook_endpoint_test",
    summary="Send a test event",
    guards=[requires(Role.EDITOR)],
)
async def test_endpoint(
    endpoint_id: PathUuid,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    deliveries: NamedDependency[Deliveries],
) -> ProbeAnswer:
    """Sent at once, signed like any other, whatever the endpoint asks for; answered when the receiver has answered."""
    return await deliveries.test(act_of(request, operator), endpoint_id)


router = Router(
    path="/admin/v1/webhooks",
    route_handlers=[list_deliveries, redeliver, test_endpoint],
    tags=["Operators: webhooks"],
)
