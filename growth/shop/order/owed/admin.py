"""Operators' HTTP of what must be paid back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Request, Response, Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, Limit, Page
from growth.plumbing.http.listing import listed_by
from growth.plumbing.http.operators import requires
from growth.shop.order.owed.model import RefundRequired
from growth.shop.order.owed.service import RefundsRequired
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN

Position = tuple[datetime, str, str]
StateFilter = Annotated[
    Literal["open", "settled"] | None, QueryParameter(name="state", description="Only in this state.")
]
OrderFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this order.")]
UserFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this shopper.")]


@get(
    "/refunds-required",
    operation_id="admin_shop_required_refund_list",
    summary="List refunds that the shop owes",
    guards=[requires(Role.VIEWER)],
)
async def list_refunds_required(
    request: Request[Any, Any, Any],
    refunds_required: NamedDependency[RefundsRequired],
    only: StateFilter = None,
    order_id: OrderFilter = None,
    user_id: UserFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[RefundRequired]]:
    """One entry a line, whichever rooms found it out; found last first. `settled` once the shop told the refund.

    With `Accept: text/csv` all of it as a file that spreadsheets open safely.
    """

    async def read(before: Position | None, most: int) -> Sequence[RefundRequired]:
        return await refunds_required.page(state=only, order_id=order_id, user_id=user_id, before=before, limit=most)

    return await listed_by(request, cursor, limit, RefundRequired, ("found_at", "order_id", "line_id"), Position, read)


router = Router(path="/admin/v1", route_handlers=[list_refunds_required], tags=["Operators: orders"])
