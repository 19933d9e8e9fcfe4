"""Operators' HTTP of claims."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.claim.service import Claims
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
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, UUID_PATTERN
from growth.vocabulary.text import Reason

SaleFilter = Annotated[str | None, QueryParameter(pattern=UUID_PATTERN, description="Only of this sale.")]
UserFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this shopper.")]
OrderFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this order.")]
StateFilter = Annotated[
    Literal["held", "paid", "released", "refunded"] | None,
    QueryParameter(name="state", description="Only in this state."),
]


class Release(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator takes a held claim back; kept in the audit."""

    reason: Reason


@get(
    "/claims",
    operation_id="admin_flash_sale_claim_list",
    summary="List claims in flash sales",
    guards=[requires(Role.VIEWER)],
)
async def list_claims(
    request: Request[Any, Any, Any],
    claims: NamedDependency[Claims],
    sale_id: SaleFilter = None,
    user_id: UserFilter = None,
    only: StateFilter = None,
    order_id: OrderFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[Claim]]:
    """In the order of their ids. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""

    async def read(after: str | None, most: int) -> Sequence[Claim]:
        return await claims.page(after, most, sale_id=sale_id, user_id=user_id, state=only, order_id=order_id)

    return await listed(request, cursor, limit, Claim, "claim_id", read)


@post(
    "/claims/{claim_id:str}/release",
    status_code=200,
    operation_id="admin_flash_sale_claim_release",
    summary="Release a shopper's claim",
    guards=[requires(Role.EDITOR)],
)
async def release_claim(
    claim_id: PathUuid,
    data: JSONBody[Release],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    claims: NamedDependency[Claims],
) -> Claim:
    """Its units go back on sale at once. 409 unless it is held."""
    return await claims.release(act_of(request, operator, data.reason), claim_id)


router = Router(path="/admin/v1", route_handlers=[list_claims, release_claim], tags=["Operators: flash sales"])
