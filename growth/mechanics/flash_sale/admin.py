"""Operators' HTTP of flash sales."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.mechanics.flash_sale.model import MAX_UNITS_PER_SHOPPER, Sale, SaleDraft
from growth.mechanics.flash_sale.service import ClaimDryRun, Sales, SaleStats
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
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.operators import act_of, requires
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import UUID_PATTERN, ShopperId, Uuid

MAX_INVITED_AT_ONCE = 1_000

StateFilter = Annotated[
    Literal["draft", "published", "paused", "ended"] | None,
    QueryParameter(name="state", description="Only sales in this state."),
]
SeriesFilter = Annotated[str | None, QueryParameter(pattern=UUID_PATTERN, description="Only the sales of this series.")]


class ClaimDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose claim to try, and when."""

    user_id: ShopperId
    units: Annotated[int, Meta(ge=1, le=MAX_UNITS_PER_SHOPPER)] = 1
    now: Instant | None = None
    """The moment to try; now, if left out."""


class Invitation(Struct, frozen=True, forbid_unknown_fields=True):
    """Shoppers to add to the allow-list."""

    user_ids: Annotated[list[ShopperId], Meta(min_length=1, max_length=MAX_INVITED_AT_ONCE)]


class Invited(Struct, frozen=True):
    """How many of them were new."""

    added: int


@post("", operation_id="admin_flash_sales_create", summary="Draft a sale", guards=[requires(Role.EDITOR)])
async def create_sale(
    data: JSONBody[SaleDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    sales: NamedDependency[Sales],
) -> Response[Sale]:
    """Nobody sees a draft; publish it when it is right."""
    content = fingerprint(msgspec.json.encode(data))
    made = await sales.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made.answer, 201, replayed=made.replayed)


@get("", operation_id="admin_flash_sales_list", summary="List sales, newest first", guards=[requires(Role.VIEWER)])
async def list_sales(
    sales: NamedDependency[Sales],
    only: StateFilter = None,
    series_id: SeriesFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[Sale]:
    """Sales in any state."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await sales.page(state=only, series_id=series_id, before=before, limit=limit + 1)
    return page_of(found, limit, lambda sale: (sale.sale_id,))


@get("/{sale_id:str}", operation_id="admin_flash_sales_get", summary="Get a sale", guards=[requires(Role.VIEWER)])
async def get_sale(sale_id: PathUuid, sales: NamedDependency[Sales]) -> Response[Sale]:
    """The ETag is the version that PUT asks for in If-Match."""
    return versioned(await sales.find(sale_id))


@put("/{sale_id:str}", operation_id="admin_flash_sales_change", summary="Edit", guards=[requires(Role.EDITOR)])
async def change_sale(
    sale_id: PathUuid,
    data: JSONBody[SaleDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    sales: NamedDependency[Sales],
) -> Response[Sale]:
    """Replaces all fields. Once open, price, SKU, opening and policies are fixed, and stock never drops below taken."""
    return versioned(await sales.change(act_of(request, operator), sale_id, if_match(request), data))


def _step(name: Literal["publish", "pause", "resume", "end"], told: str) -> Any:
    @post(
        f"/{{sale_id:str}}/{name}",
        status_code=200,
        operation_id=f"admin_flash_sales_{name}",
        summary=told,
        guards=[requires(Role.EDITOR)],
        name=f"admin_flash_sales_{name}",
    )
    async def take_step(
        sale_id: PathUuid,
        request: Request[Any, Any, Any],
        operator: NamedDependency[Operator],
        sales: NamedDependency[Sales],
    ) -> Response[Sale]:
        act = act_of(request, operator)
        steps = {"publish": sales.publish, "pause": sales.pause, "resume": sales.resume, "end": sales.end}
        return versioned(await steps[name](act, sale_id))

    return take_step


@post(
    "/{sale_id:str}/dry-run",
    status_code=200,
    operation_id="admin_flash_sales_dry_run",
    summary="See what a claim would get, and why",
    guards=[requires(Role.VIEWER)],
)
async def dry_run(sale_id: PathUuid, data: JSONBody[ClaimDryRunRequest], sales: NamedDependency[Sales]) -> ClaimDryRun:
    """Changes nothing."""
    return await sales.dry_run(sale_id, data.user_id, data.units, data.now or clock.now())


@get("/{sale_id:str}/stats", operation_id="admin_flash_sales_stats", summary="Numbers", guards=[requires(Role.VIEWER)])
async def get_stats(sale_id: PathUuid, sales: NamedDependency[Sales]) -> SaleStats:
    """Units, claims by state, refusals by reason, claims a second, time to sell out."""
    return await sales.stats(sale_id, clock.now())


@post(
    "/{sale_id:str}/allow-list",
    status_code=200,
    operation_id="admin_flash_sales_invite",
    summary="Add shoppers to the allow-list",
    guards=[requires(Role.EDITOR)],
)
async def invite(
    sale_id: PathUuid,
    data: JSONBody[Invitation],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    sales: NamedDependency[Sales],
) -> Invited:
    """Up to 1,000 a call; twice is harmless. Counts where the sale has `allow_list_only`."""
    return Invited(await sales.invite(act_of(request, operator), sale_id, data.user_ids))


router = Router(
    path="/admin/v1/flash-sales",
    route_handlers=[
        create_sale,
        list_sales,
        get_sale,
        change_sale,
        _step("publish", "Show a draft to shoppers"),
        _step("pause", "Stop claims for now"),
        _step("resume", "Let claims go on"),
        _step("end", "End for good"),
        dry_run,
        get_stats,
        invite,
    ],
    tags=["Operators: flash sales"],
)
