"""Operators' HTTP of granting: give, take back, look."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    REPLAYED_HEADER,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUserId,
    PathUuid,
    idempotency_key,
)
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.listing import listed
from growth.plumbing.http.operators import act_of, requires
from growth.rewards.granting.model import GrantRecord
from growth.rewards.granting.service import Granting
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN
from growth.vocabulary.rewards import Reward
from growth.vocabulary.text import Reason

UserFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this shopper.")]


class GrantRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What to give, and why; the reason is kept in the audit."""

    reward: Reward
    reason: Reason


class RevokeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Why it is taken back; kept in the audit."""

    reason: Reason


@post(
    "/shoppers/{user_id:str}/grants",
    operation_id="admin_granting_grant_create",
    summary="Grant a reward",
    guards=[requires(Role.ADMIN)],
)
async def create_grant(
    user_id: PathUserId,
    data: JSONBody[GrantRequest],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    granting: NamedDependency[Granting],
) -> Response[GrantRecord]:
    """By hand, beside every campaign and budget. 409 `grant.coupon_gone` if there is no coupon to give."""
    made = await granting.give(
        act_of(request, operator, data.reason),
        user_id,
        data.reward,
        idempotency_key(request),
        fingerprint(msgspec.json.encode(data)),
    )
    headers = {REPLAYED_HEADER: "true"} if made.replayed else {}
    return JsonResponse(made.answer, status_code=201, headers=headers)


@post(
    "/grants/{grant_id:str}/revoke",
    status_code=200,
    operation_id="admin_granting_grant_revoke",
    summary="Revoke a grant",
    guards=[requires(Role.ADMIN)],
)
async def revoke_grant(
    grant_id: PathUuid,
    data: JSONBody[RevokeRequest],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    granting: NamedDependency[Granting],
) -> GrantRecord:
    """What was spent is owed; a coupon is voided, one that an order has as soon as the order gives it back."""
    return await granting.take_back(act_of(request, operator, data.reason), grant_id)


@get("/grants", operation_id="admin_granting_grant_list", summary="List grants", guards=[requires(Role.VIEWER)])
async def list_grants(
    request: Request[Any, Any, Any],
    granting: NamedDependency[Granting],
    user_id: UserFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[GrantRecord]]:
    """Newest first; also what a budget or a quota could not pay. With `Accept: text/csv` all of it as a file."""

    async def read(before: str | None, most: int) -> Sequence[GrantRecord]:
        return await granting.page(user_id, before, most)

    return await listed(request, cursor, limit, GrantRecord, "grant_id", read)


router = Router(path="/admin/v1", route_handlers=[create_grant, revoke_grant, list_grants], tags=["Operators: rewards"])
