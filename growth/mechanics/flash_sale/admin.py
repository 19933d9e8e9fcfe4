"""Operators' HTTP of flash sales."""

from typing import Annotated

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.kit.campaign.admin import StateFilter, TitleSearch, campaign_routes
from growth.mechanics.flash_sale import model
from growth.mechanics.flash_sale.model import MAX_UNITS_PER_SHOPPER, SALES, Sale
from growth.mechanics.flash_sale.service import ClaimDryRun, Sales, SaleStats
from growth.plumbing.http.answers import Page, PathUuid
from growth.plumbing.http.listing import Listing
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import Instant
from growth.plumbing.watch.audit import Act
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import UUID_PATTERN, ShopperId

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


@for_operators(get, "", "admin_flash_sale_list", "List flash sales", Role.VIEWER)
async def list_sales(
    listing: NamedDependency[Listing],
    sales: NamedDependency[Sales],
    only: StateFilter = None,
    q: TitleSearch = None,
    series_id: SeriesFilter = None,
) -> Page[Sale]:
    """Sales in any state."""

    async def read(before: str | None, most: int) -> list[Sale]:
        return await sales.page(state=only, series_id=series_id, before=before, q=q, limit=most)

    return await listing.paged("sale_id", read)


@for_operators(
    post, "/{sale_id:str}/dry-run", "admin_flash_sale_dry_run", "See what a claim would get, and why", Role.VIEWER
)
async def dry_run(sale_id: PathUuid, data: JSONBody[ClaimDryRunRequest], sales: NamedDependency[Sales]) -> ClaimDryRun:
    """Changes nothing."""
    return await sales.dry_run(sale_id, data.user_id, data.units, data.now or clock.now())


@for_operators(
    get, "/{sale_id:str}/stats", "admin_flash_sale_stats_get", "Get the numbers of a flash sale", Role.VIEWER
)
async def get_stats(sale_id: PathUuid, sales: NamedDependency[Sales]) -> SaleStats:
    """Units, claims by state, refusals by reason, claims a second, time to sell out."""
    return await sales.stats(sale_id, clock.now())


@for_operators(
    post,
    "/{sale_id:str}/allow-list",
    "admin_flash_sale_shoppers_invite",
    "Add shoppers to the allow-list of a flash sale",
    Role.EDITOR,
)
async def invite(
    sale_id: PathUuid,
    data: JSONBody[Invitation],
    act: NamedDependency[Act],
    sales: NamedDependency[Sales],
) -> Invited:
    """Up to 1,000 a call; twice is harmless. Counts where the sale has `allow_list_only`."""
    return Invited(await sales.invite(act, sale_id, data.user_ids))


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
