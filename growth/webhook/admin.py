"""Operators' HTTP of webhooks: endpoints and deliveries."""

from functools import partial
from typing import Annotated, Literal

import msgspec
from litestar import Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec.structs import replace

from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    AnyRequest,
    Cursor,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
    encode_cursor,
    idempotency_key,
    if_match,
    page_of,
    versioned,
)
from growth.plumbing.http.discretion import discreet_url
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.listing import Listing, instant_of
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import Instant, invalid
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import Uuid
from growth.webhook.delivery.service import Deliveries, ProbeAnswer, Redelivery, RedeliveryAsked
from growth.webhook.model import KEEP_HOURS, MAX_KEEP_HOURS, Delivery, DeliveryFilter, EndpointDraft, WebhookEndpoint
from growth.webhook.service import EndpointMade, SecretMade, Webhooks

StateFilter = Annotated[
    Literal["enabled", "disabled"] | None,
    QueryParameter(name="state", description="Only endpoints in this state."),
]
KeepHours = Annotated[
    int,
    QueryParameter(
        ge=0,
        le=MAX_KEEP_HOURS,
        description="So long is the secret before it told beside the new one; 0 ends all earlier ones at once.",
    ),
]


@for_operators(post, "", "admin_webhook_endpoint_create", "Create a webhook endpoint", Role.ADMIN, status_code=201)
async def create_endpoint(
    data: JSONBody[EndpointDraft], request: AnyRequest, act: NamedDependency[Act], webhooks: NamedDependency[Webhooks]
) -> Response[EndpointMade]:
    """Gets events from now on. The answer shows its secret, this once."""
    content = fingerprint(msgspec.json.encode(data))
    made, replayed = await webhooks.create(act, data, idempotency_key(request), content)
    return versioned(made, 201, replayed=replayed)


@for_operators(get, "", "admin_webhook_endpoint_list", "List webhook endpoints", Role.VIEWER)
async def list_endpoints(
    listing: NamedDependency[Listing],
    operator: NamedDependency[Operator],
    webhooks: NamedDependency[Webhooks],
    only: StateFilter = None,
) -> Page[WebhookEndpoint]:
    """Newest first. Of their URLs only admins see more than the host."""
    show = partial(_as_seen_by, operator.role)
    return await listing.paged("endpoint_id", partial(webhooks.page, only), show=show)


@for_operators(get, "/{endpoint_id:str}", "admin_webhook_endpoint_get", "Get a webhook endpoint", Role.VIEWER)
async def get_endpoint(
    endpoint_id: PathUuid, operator: NamedDependency[Operator], webhooks: NamedDependency[Webhooks]
) -> Response[WebhookEndpoint]:
    """The ETag is the version that PUT asks for in If-Match. Of the URL only admins see more than the host."""
    return versioned(_as_seen_by(operator.role, await webhooks.find(endpoint_id)))


def _as_seen_by(role: Role, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    return replace(endpoint, url=discreet_url(endpoint.url, role))


@for_operators(put, "/{endpoint_id:str}", "admin_webhook_endpoint_change", "Change a webhook endpoint", Role.ADMIN)
async def change_endpoint(
    endpoint_id: PathUuid,
    data: JSONBody[EndpointDraft],
    request: AnyRequest,
    act: NamedDependency[Act],
    webhooks: NamedDependency[Webhooks],
) -> Response[WebhookEndpoint]:
    """Replaces all fields. What is on its way goes to the new address."""
    return versioned(await webhooks.change(act, endpoint_id, if_match(request), data))


@for_operators(
    delete,
    "/{endpoint_id:str}",
    "admin_webhook_endpoint_delete",
    "Delete a webhook endpoint",
    Role.ADMIN,
    status_code=204,
)
async def delete_endpoint(
    endpoint_id: PathUuid, act: NamedDependency[Act], webhooks: NamedDependency[Webhooks]
) -> None:
    """Nothing more is sent to it; its secrets and its log are gone."""
    await webhooks.delete(act, endpoint_id)


@for_operators(
    post, "/{endpoint_id:str}/enable", "admin_webhook_endpoint_enable", "Enable a webhook endpoint", Role.ADMIN
)
async def enable_endpoint(
    endpoint_id: PathUuid, act: NamedDependency[Act], webhooks: NamedDependency[Webhooks]
) -> Response[WebhookEndpoint]:
    """What waited for it is sent. What happened while it was disabled was not queued: redeliver that range."""
    return versioned(await webhooks.enable(act, endpoint_id))


@for_operators(
    post, "/{endpoint_id:str}/disable", "admin_webhook_endpoint_disable", "Disable a webhook endpoint", Role.ADMIN
)
async def disable_endpoint(
    endpoint_id: PathUuid, act: NamedDependency[Act], webhooks: NamedDependency[Webhooks]
) -> Response[WebhookEndpoint]:
    """What is on its way waits; what happens meanwhile is not queued."""
    return versioned(await webhooks.disable(act, endpoint_id))


@for_operators(
    post, "/{endpoint_id:str}/rotate-secret", "admin_webhook_secret_rotate", "Rotate the signing secret", Role.ADMIN
)
async def rotate_secret(
    endpoint_id: PathUuid,
    act: NamedDependency[Act],
    webhooks: NamedDependency[Webhooks],
    keep_hours: KeepHours = KEEP_HOURS,
) -> SecretMade:
    """The answer shows it, this once. For `keep_hours` everything is signed with the old one as well."""
    return await webhooks.rotate_secret(act, endpoint_id, keep_hours)


DeliveryStateFilter = Annotated[
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


@for_operators(
    get,
    "/{endpoint_id:str}/deliveries",
    "admin_webhook_delivery_list",
    "List deliveries of a webhook endpoint",
    Role.VIEWER,
)
async def list_deliveries(
    endpoint_id: PathUuid,
    deliveries: NamedDependency[Deliveries],
    only: DeliveryStateFilter = None,
    type_: TypeFilter = None,
    since: From = None,
    until: To = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[Delivery]:
    """Newest event first; kept for 14 days."""
    which = DeliveryFilter(state=only, type=type_, since=instant_of("from", since), until=instant_of("to", until))
    found = await deliveries.page(endpoint_id, which, decode_cursor(cursor, tuple[Instant, Uuid]), limit + 1)
    return page_of(found, limit, lambda delivery: (delivery.event_at, delivery.event_id))


@for_operators(post, "/{endpoint_id:str}/redeliver", "admin_webhook_delivery_resend", "Resend a delivery", Role.EDITOR)
async def redeliver(
    endpoint_id: PathUuid,
    data: JSONBody[RedeliveryAsked],
    act: NamedDependency[Act],
    deliveries: NamedDependency[Deliveries],
) -> Redelivery:
    """One delivery, or all events of a range that the endpoint asks for, also those from before it was made.

    They keep their ids: a receiver that drops what it has seen loses nothing and gets nothing twice. A range goes back
    as far as the outbox keeps events, seven days.
    """
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


@for_operators(post, "/{endpoint_id:str}/test", "admin_webhook_endpoint_test", "Send a test event", Role.EDITOR)
async def test_endpoint(
    endpoint_id: PathUuid, act: NamedDependency[Act], deliveries: NamedDependency[Deliveries]
) -> ProbeAnswer:
    """Sent at once, signed like any other, whatever the endpoint asks for; answered when the receiver has answered."""
    return await deliveries.test(act, endpoint_id)


router = Router(
    path="/admin/v1/webhooks",
    route_handlers=[
        create_endpoint,
        list_endpoints,
        get_endpoint,
        change_endpoint,
        delete_endpoint,
        enable_endpoint,
        disable_endpoint,
        rotate_secret,
        list_deliveries,
        redeliver,
        test_endpoint,
    ],
    tags=["Operators: webhooks"],
)
