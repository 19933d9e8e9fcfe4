"""Shoppers' HTTP of flash sales: pages."""

from datetime import datetime
from itertools import groupby
from typing import Annotated, Any

from litestar import Request, Response, Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct

from growth.kit.campaign.model import PageState
from growth.mechanics.flash_sale import model
from growth.mechanics.flash_sale.board import SaleBoard
from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.model import SalePage
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
    is_not_modified,
    page_of,
)
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid

StateFilter = Annotated[PageState | None, QueryParameter(name="state", description="Only sales in this state.")]


class SaleRound(Struct, frozen=True):
    """Sales of one series (or one alone) that share a window (场次)."""

    series_id: str | None
    opens_at: datetime
    closes_at: datetime
    sales: list[SalePage]


class SaleRounds(Struct, frozen=True):
    """All visible rounds, soonest first."""

    items: list[SaleRound]


@get("/flash-sales", operation_id="flash_sale_list", summary="List flash sales")
async def list_sales(
    shopper: NamedDependency[Shopper],  # noqa: ARG001 - being signed in is all it takes
    board: NamedDependency[SaleBoard],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[SalePage]:
    """Published and paused sales, and those that ended within a day. From memory, at most 300 ms old."""
    position = decode_cursor(cursor, tuple[str, Uuid])
    shown = sorted(await board.visible(), key=_place)
    found = [sale for sale in shown if (only is None or sale.state == only)]
    if position is not None:
        found = [sale for sale in found if _place(sale) > position]
    return page_of(found[: limit + 1], limit, _place)


def _place(sale: SalePage) -> tuple[str, str]:
    return (sale.opens_at.isoformat(), sale.sale_id)


@get("/flash-sale-rounds", operation_id="flash_sale_round_list", summary="List rounds of flash sales")
async def list_rounds(shopper: NamedDependency[Shopper], board: NamedDependency[SaleBoard]) -> SaleRounds:  # noqa: ARG001
    """Group all visible sales by window and series, soonest first."""
    shown = sorted(await board.visible(), key=_round)
    return SaleRounds([SaleRound(key[2], key[0], key[1], list(sales)) for key, sales in groupby(shown, key=_round_key)])


def _round_key(sale: SalePage) -> tuple[datetime, datetime, str | None]:
    return (sale.opens_at, sale.closes_at, sale.series_id)


def _round(sale: SalePage) -> tuple[datetime, datetime, str, str]:
    return (sale.opens_at, sale.closes_at, sale.series_id or "", sale.sale_id)


@get("/flash-sales/{sale_id:str}", operation_id="flash_sale_get", summary="Get a flash sale")
async def get_sale(
    sale_id: PathUuid,
    request: Request[Any, Any, Any],
    shopper: NamedDependency[Shopper],  # noqa: ARG001 - being signed in is all it takes
    board: NamedDependency[SaleBoard],
    claims: NamedDependency[Claims],
) -> Response[SalePage]:
    """From memory, at most 300 ms old; with an ETag that changes with state, stock and edits."""
    if sale_id in board.entries:
        await board.fresh(sale_id)
    entry = board.entries.get(sale_id)
    if entry is not None and entry.page is not None:
        tag = entry.etag.decode()
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if is_not_modified(request, tag):
            return JsonResponse(b"", status_code=304, headers=headers)
        return JsonResponse(entry.page, headers=headers)
    # Published a moment ago on another process, or ended more than a day ago.
    sale = await claims.sale(sale_id)
    return JsonResponse(model.page(sale, sale.units_left, board.now()))


router = Router(path="/v1", route_handlers=[list_sales, list_rounds, get_sale], tags=["Flash sales"])
