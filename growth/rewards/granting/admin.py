"""Operators' HTTP of granting: give, take back, look."""

from functools import partial
from typing import Annotated

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.plumbing.http.answers import AnyRequest, Page, PathUserId, PathUuid, created, idempotency_key
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.listing import Listing
from growth.plumbing.http.operators import for_operators
from growth.plumbing.watch.audit import Act
from growth.rewards.granting.model import GrantRecord
from growth.rewards.granting.service import Granting
from growth.vocabulary.actors import Role
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


@for_operators(
    post, "/shoppers/{user_id:str}/grants", "admin_granting_grant_create", "Grant a reward", Role.ADMIN, status_code=201
)
async def create_grant(
    user_id: PathUserId,
    data: JSONBody[GrantRequest],
    request: AnyRequest,
    act: NamedDependency[Act],
    granting: NamedDependency[Granting],
) -> Response[GrantRecord]:
    """By hand, beside every campaign and budget. 409 `grant.coupon_gone` if there is no coupon to give."""
    content = fingerprint(msgspec.json.encode(data))
    made = await granting.give(act.why(data.reason), user_id, data.reward, idempotency_key(request), content)
    return created(made.answer, replayed=made.replayed)


@for_operators(post, "/grants/{grant_id:str}/revoke", "admin_granting_grant_revoke", "Revoke a grant", Role.ADMIN)
async def revoke_grant(
    grant_id: PathUuid, data: JSONBody[RevokeRequest], act: NamedDependency[Act], granting: NamedDependency[Granting]
) -> GrantRecord:
    """What was spent is owed; a coupon is voided, one that an order has as soon as the order gives it back."""
    return await granting.take_back(act.why(data.reason), grant_id)


@for_operators(get, "/grants", "admin_granting_grant_list", "List grants", Role.VIEWER)
async def list_grants(
    listing: NamedDependency[Listing], granting: NamedDependency[Granting], user_id: UserFilter = None
) -> Response[Page[GrantRecord]]:
    """Newest first; also what a budget or a quota could not pay. With `Accept: text/csv` all of it as a file."""
    return await listing.listed(GrantRecord, "grant_id", partial(granting.page, user_id))


router = Router(path="/admin/v1", route_handlers=[create_grant, revoke_grant, list_grants], tags=["Operators: rewards"])
