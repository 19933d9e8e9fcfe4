"""Operators' HTTP of commissions."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.referral.commission.model import (
    Commission,
    CommissionFilter,
    ReleaseReason,
    ShownState,
    VoidReason,
)
from growth.mechanics.referral.commission.service import CommissionExplained, Commissions, InReview
from growth.mechanics.referral.review.model import Reason
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Page,
    PathUuid,
)
from growth.plumbing.http.listing import listed
from growth.plumbing.http.operators import act_of, requires
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN

StateFilter = Annotated[
    ShownState | None,
    QueryParameter(name="state", description="Only in this state; `refunded` are those of which nothing is left."),
]
InviterFilter = Annotated[
    str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only what this shopper earns.")
]
InviteeFilter = Annotated[
    str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of orders that this shopper paid.")
]
OrderFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this order.")]
ReasonFilter = Annotated[Reason | None, QueryParameter(description="Only what this reason put to review.")]


class CommissionRelease(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a commission may go on."""

    reason: ReleaseReason


class CommissionVoid(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a commission is taken back."""

    reason: VoidReason


@get(
    "/commissions",
    operation_id="admin_referral_commission_list",
    summary="List commissions",
    guards=[requires(Role.VIEWER)],
)
async def list_all(
    request: Request[Any, Any, Any],
    commissions: NamedDependency[Commissions],
    only: StateFilter = None,
    inviter_id: InviterFilter = None,
    invitee_id: InviteeFilter = None,
    order_id: OrderFilter = None,
    reason: ReasonFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[Commission]]:
    """Newest first. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""
    filters = CommissionFilter(
        state=only, inviter_id=inviter_id, invitee_id=invitee_id, order_id=order_id, reason=reason
    )

    async def read(after: str | None, most: int) -> Sequence[Commission]:
        return await commissions.page(filters, before=after, limit=most)

    return await listed(request, cursor, limit, Commission, "commission_id", read)


@get(
    "/commissions/review",
    operation_id="admin_referral_commission_review_get",
    summary="Summarize commissions that wait for review",
    guards=[requires(Role.VIEWER)],
)
async def get_review(commissions: NamedDependency[Commissions]) -> list[InReview]:
    """By reason. One commission may have several; `GET /admin/v1/commissions?state=review` is the queue."""
    return await commissions.in_review()


@get(
    "/commissions/{commission_id:str}",
    operation_id="admin_referral_commission_get",
    summary="Get a commission",
    guards=[requires(Role.VIEWER)],
)
async def get_commission(commission_id: PathUuid, commissions: NamedDependency[Commissions]) -> Commission:
    """With the lines of its order as last told."""
    return await commissions.find(commission_id)


@get(
    "/commissions/{commission_id:str}/explain",
    operation_id="admin_referral_commission_explain",
    summary="Explain a commission",
    guards=[requires(Role.VIEWER)],
)
async def explain(commission_id: PathUuid, commissions: NamedDependency[Commissions]) -> CommissionExplained:
    """The terms, each line with what was paid back of it, the cap, and every movement with the ledger's transfer."""
    return await commissions.explain(commission_id)


@post(
    "/commissions/{commission_id:str}/release",
    status_code=200,
    operation_id="admin_referral_commission_release",
    summary="Release a commission from review",
    guards=[requires(Role.ADMIN)],
)
async def release(
    commission_id: PathUuid,
    data: JSONBody[CommissionRelease],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    commissions: NamedDependency[Commissions],
) -> Commission:
    """It goes on as if nothing had been found, and is not put to review again. 409 unless it is in review."""
    return await commissions.release(act_of(request, operator), commission_id, data.reason)


@post(
    "/commissions/{commission_id:str}/void",
    status_code=200,
    operation_id="admin_referral_commission_void",
    summary="Void a commission",
    guards=[requires(Role.ADMIN)],
)
async def void(
    commission_id: PathUuid,
    data: JSONBody[CommissionVoid],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    commissions: NamedDependency[Commissions],
) -> Commission:
    """In any state; what was withdrawn of it is owed. 409 if it is void already."""
    return await commissions.void(act_of(request, operator), commission_id, data.reason)


router = Router(
    path="/admin/v1",
    route_handlers=[list_all, get_review, get_commission, explain, release, void],
    tags=["Operators: commissions"],
)
