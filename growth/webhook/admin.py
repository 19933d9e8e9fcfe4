"""Operators' HTTP of endpoints."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec.structs import replace

from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
    idempotency_key,
    if_match,
    page_of,
    versioned,
)
from growth.plumbing.http.discretion import discreet_url
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.operators import act_of, requires, role_of
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import Uuid
from growth.webhook.model import KEEP_HOURS, MAX_KEEP_HOURS, EndpointDraft, WebhookEndpoint
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


@post(
    "", operation_id="admin_webhook_endpoint_create", summary="Create a webhook endpoint", guards=[requires(Role.ADMIN)]
)
async def create_endpoint(
    data: JSONBody[EndpointDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    webhooks: NamedDependency[Webhooks],
) -> Response[EndpointMade]:
    """Gets events from now on. The answer shows its secret, this once."""
    content = fingerprint(msgspec.json.encode(data))
    made, replayed = await webhooks.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made, 201, replayed=replayed)


@get("", operation_id="admin_webhook_endpoint_list", summary="List webhook endpoints", guards=[requires(Role.VIEWER)])
async def list_endpoints(
    request: Request[Any, Any, Any],
    webhooks: NamedDependency[Webhooks],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[WebhookEndpoint]:
    """Newest first. Of their URLs only admins see more than the host."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    role = role_of(request)
    found = [_as_seen_by(role, one) for one in await webhooks.page(state=only, before=before, limit=limit + 1)]
    return page_of(found, limit, lambda endpoint: (endpoint.endpoint_id,))


@get(
    "/{endpoint_id:str}",
    operation_id="admin_webhook_endpoint_get",
    summary="Get a webhook endpoint",
    guards=[requires(Role.VIEWER)],
)
async def get_endpoint(
    endpoint_id: PathUuid, request: Request[Any, Any, Any], webhooks: NamedDependency[Webhooks]
) -> Response[WebhookEndpoint]:
    """The ETag is the version that PUT asks for in If-Match. Of the URL only admins see more than the host."""
    return versioned(_as_seen_by(role_of(request), await webhooks.find(endpoint_id)))


def _as_seen_by(role: Role, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    return replace(endpoint, url=discreet_url(endpoint.url, role))


@put(
    "/{endpoint_id:str}",
    operation_id="admin_webhook_endpoint_change",
    summary="Change a webhook endpoint",
    guards=[requires(Role.ADMIN)],
)
async def change_endpoint(
    endpoint_id: PathUuid,
    data: JSONBody[EndpointDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    webhooks: NamedDependency[Webhooks],
) -> Response[WebhookEndpoint]:
    """Replaces all fields. What is on its way goes to the new address."""
    return versioned(await webhooks.change(act_of(request, operator), endpoint_id, if_match(request), data))


@delete(
    "/{endpoint_id:str}",
    operation_id="admin_webhook_endpoint_delete",
    summary="Delete a webhook endpoint",
    guards=[requires(Role.ADMIN)],
)
async def delete_endpoint(
    endpoint_id: PathUuid,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    webhooks: NamedDependency[Webhooks],
) -> None:
    """Nothing more is sent to it; its secrets and its log are gone."""
    await webhooks.delete(act_of(request, operator), endpoint_id)


@post(
    "/{endpoint_id:str}/enable",
    status_code=200,
    operation_id="admin_webhook_endpoint_enable",
    summary="Enable a webhook endpoint",
    guards=[requires(Role.ADMIN)],
)
async def enable_endpoint(
    endpoint_id: PathUuid,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    webhooks: NamedDependency[Webhooks],
) -> Response[WebhookEndpoint]:
    """What waited for it is sent. What happened while it was disabled was not queued: redeliver that range."""
    return versioned(await webhooks.enable(act_of(request, operator), endpoint_id))


@post(
    "/{endpoint_id:str}/disable",
    status_code=200,
    operation_id="admin_webhook_endpoint_disable",
    summary="Disable a webhook endpoint",
    guards=[requires(Role.ADMIN)],
)
async def disable_endpoint(
    endpoint_id: PathUuid,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    webhooks: NamedDependency[Webhooks],
) -> Response[WebhookEndpoint]:
    """What is on its way waits; what happens meanwhile is not queued."""
    return versioned(await webhooks.disable(act_of(request, operator), endpoint_id))


@post(
    "/{endpoint_id:str}/rotate-secret",
    status_code=200,
    operation_id="admin_webhook_secret_rotate",
    summary="Rotate the signing secret",
    guards=[requires(Role.ADMIN)],
)
async def rotate_secret(
    endpoint_id: PathUuid,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    webhooks: NamedDependency[Webhooks],
    keep_hours: KeepHours = KEEP_HOURS,
) -> SecretMade:
    """The answer shows it, this once. For `keep_hours` everything is signed with the old one as well."""
    return await webhooks.rotate_secret(act_of(request, operator), endpoint_id, keep_hours)


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
    ],
    tags=["Operators: webhooks"],
)
