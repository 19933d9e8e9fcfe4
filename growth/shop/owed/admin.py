"""Operators' HTTP of what must be paid back."""

from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Request, Response, Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from growth.plumbing.http import (
    DEFAULT_PAGE,
    MAX_CSV_ROWS,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    listed,
    wants_csv,
)
from growth.plumbing.operators import requires
from growth.shop.owed.model import RefundRequired
from growth.shop.owed.service import RefundsRequired
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN

StateFilter = Annotated[
    Literal["open", "settled"] | None, QueryParameter(name="state", description="Only in this state.")
]
OrderFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this order.")]
UserFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this shopper.")]


@get(
    "/refunds-required",
    operation_id="admin_refunds_required_list",
    summary="List order lines that must be paid back",
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

    With `Accept: text/csv` up to 10,000 rows as a file that spreadsheets open safely.
    """
    as_csv = wants_csv(request)
    found = await refunds_required.page(
        state=only,
        order_id=order_id,
        user_id=user_id,
        before=decode_cursor(cursor, tuple[datetime, str, str]),
        limit=MAX_CSV_ROWS if as_csv else limit + 1,
    )
    return listed(found, RefundRequired, limit, lambda one: (one.found_at, one.order_id, one.line_id), as_csv=as_csv)


router = Router(path="/admin/v1", route_handlers=[list_refunds_required], tags=["Operators: orders"])
