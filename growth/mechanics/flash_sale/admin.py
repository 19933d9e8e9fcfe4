"""Operators' HTTP of flash sales."""

from typing import Annotated, Any

from litestar import Request, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.kit.campaign.admin import StateFilter, TitleSearch, campaign_routes
from growth.mechanics.flash_sale import model
from growth.mechanics.flash_sale.model import MAX_UNITS_PER_SHOPPER, SALES, Sale
from growth.mechanics.flash_sale.service import ClaimDryRun, Sales, SaleStats
from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, Limit, Page, PathUuid, decode_cursor, page_of
from growth.plumbing.http.operators import act_of, requires
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import UUID_PATTERN, ShopperId, Uuid

MAX_INVITED_AT_ONCE = 1_000

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


@get("", operation_id="admin_flash_sale_list", summary="List flash sales", guards=[requires(Role.VIEWER)])
async def list_sales(
    sales: NamedDependency[Sales],
    only: StateFilter = None,
    q: TitleSearch = None,
    series_id: SeriesFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[Sale]:
    """Sales in any state."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await sales.page(state=only, series_id=series_id, before=before, q=q, limit=limit + 1)
    return page_of(found, limit, lambda sale: (sale.sale_id,))


@post(
    "/{sale_id:str}/dry-run",
    status_code=200,
    operation_id="admin_flash_sale_dry_run",
    summary="See what a claim would get, and why",
    guards=[requires(Role.VIEWER)],
)
async def dry_run(sale_id: PathUuid, data: JSONBody[ClaimDryRunRequest], sales: NamedDependency[Sales]) -> ClaimDryRun:
    """Changes nothing."""
    return await sales.dry_run(sale_id, data.user_id, data.units, data.now or clock.now())


@get(
    "/{sale_id:str}/stats",
    operation_id="admin_flash_sale_stats_get",
    summary="Get the numbers of a flash sale",
    guards=[requires(Role.VIEWER)],
)
async def get_stats(sale_id: PathUuid, sales: NamedDependency[Sales]) -> SaleStats:
    """Units, claims by state, refusals by reason, claims a second, time to sell out."""
    return await sales.stats(sale_id, clock.now())


@post(
    "/{sale_id:str}/allow-list",
    status_code=200,
    operation_id="admin_flash_sale_shoppers_invite",
    summary="Add shoppers to the allow-list of a flash sale",
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
        list_sales,
        *campaign_routes(
            SALES,
            Sales,
            "sales",
            "admin_flash_sale",
            told={
                "create": "Nobody sees a draft; publish it when it is right.",
                "change": "Replaces all fields. Once open, price, SKU, opening and policies are fixed, and"
                " stock never drops below taken.",
                "publish": "From now on shoppers see it.",
                "pause": "No claims are taken meanwhile. What is held stays held and can be paid.",
                "resume": "Claims are taken again.",
                "end": "What is held can still be paid until its hold lapses.",
            },
            raises={"change": [model.SKU_ON_SALE], "publish": [model.SKU_ON_SALE]},
            without=["list"],
        ),
        dry_run,
        get_stats,
        invite,
    ],
    tags=["Operators: flash sales"],
)
