"""Operators' HTTP of coupons in the hands of shoppers."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Page,
    PathUuid,
)
from growth.plumbing.http.listing import listed
from growth.plumbing.http.operators import act_of, requires
from growth.rewards.coupon.model import Coupon, CouponState
from growth.rewards.coupon.service import Coupons
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, UUID_PATTERN
from growth.vocabulary.text import Reason

TemplateFilter = Annotated[str | None, QueryParameter(pattern=UUID_PATTERN, description="Only of this template.")]
UserFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this shopper.")]
OrderFilter = Annotated[
    str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only what this order has, locked or used.")
]
StateFilter = Annotated[CouponState | None, QueryParameter(name="state", description="Only in this state.")]


class Voiding(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator takes a coupon back; kept in the audit."""

    reason: Reason


@get("/coupons", operation_id="admin_coupon_list", summary="List coupons", guards=[requires(Role.VIEWER)])
async def list_coupons(
    request: Request[Any, Any, Any],
    coupons: NamedDependency[Coupons],
    template_id: TemplateFilter = None,
    user_id: UserFilter = None,
    only: StateFilter = None,
    order_id: OrderFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[Coupon]]:
    """In the order of their ids. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""

    async def read(after: str | None, most: int) -> Sequence[Coupon]:
        return await coupons.page(
            template_id=template_id, user_id=user_id, state=only, order_id=order_id, after=after, limit=most
        )

    return await listed(request, cursor, limit, Coupon, "coupon_id", read)


@post(
    "/coupons/{coupon_id:str}/void",
    status_code=200,
    operation_id="admin_coupon_void",
    summary="Void a coupon",
    guards=[requires(Role.EDITOR)],
)
async def void_coupon(
    coupon_id: PathUuid,
    data: JSONBody[Voiding],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    coupons: NamedDependency[Coupons],
) -> Coupon:
    """An unused one is void at once; one that an order has, if the order gives it back. 409 for an expired one."""
    return await coupons.void(act_of(request, operator, data.reason), coupon_id)


router = Router(path="/admin/v1", route_handlers=[list_coupons, void_coupon], tags=["Operators: coupons"])
