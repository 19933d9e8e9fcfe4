"""Operators' HTTP of claims."""

from functools import partial
from typing import Annotated, Literal

from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.claim.service import Claims
from growth.plumbing.http.answers import Page, PathUuid
from growth.plumbing.http.listing import Listing
from growth.plumbing.http.operators import for_operators
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Role
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


@for_operators(get, "/claims", "admin_flash_sale_claim_list", "List claims in flash sales", Role.VIEWER)
async def list_claims(
    listing: NamedDependency[Listing],
    claims: NamedDependency[Claims],
    sale_id: SaleFilter = None,
    user_id: UserFilter = None,
    only: StateFilter = None,
    order_id: OrderFilter = None,
) -> Response[Page[Claim]]:
    """In the order of their ids. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""
    read = partial(claims.page, sale_id=sale_id, user_id=user_id, state=only, order_id=order_id)
    return await listing.listed(Claim, "claim_id", read)


@for_operators(
    post, "/claims/{claim_id:str}/release", "admin_flash_sale_claim_release", "Release a shopper's claim", Role.EDITOR
)
async def release_claim(
    claim_id: PathUuid,
    data: JSONBody[Release],
    act: NamedDependency[Act],
    claims: NamedDependency[Claims],
) -> Claim:
    """Its units go back on sale at once. 409 unless it is held."""
    return await claims.release(act.why(data.reason), claim_id)


router = Router(path="/admin/v1", route_handlers=[list_claims, release_claim], tags=["Operators: flash sales"])
