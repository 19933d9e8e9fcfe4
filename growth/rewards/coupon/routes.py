"""Shoppers' HTTP of coupons they have."""

from typing import Annotated

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, Limit, Page, PathUuid, decode_cursor, page_of
from growth.plumbing.strict_json import Instant
from growth.rewards.coupon.model import CouponPage, CouponState
from growth.rewards.coupon.quote.model import MAX_LINES, Quote, QuoteLine
from growth.rewards.coupon.quote.service import Quotes
from growth.rewards.coupon.service import Coupons
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid

StateFilter = Annotated[CouponState | None, QueryParameter(name="state", description="Only coupons in this state.")]


class Cart(Struct, frozen=True, forbid_unknown_fields=True):
    """What the shopper is about to order."""

    lines: Annotated[list[QuoteLine], Meta(min_length=1, max_length=MAX_LINES)]


class Quoted(Struct, frozen=True):
    """What coupons would take off a cart; one order line takes one coupon."""

    quotes: list[Quote]
    """Of usable coupons, at most 100 (those that end first): what takes off most comes first."""


@get("/coupons", operation_id="coupon_list", summary="List my coupons")
async def list_coupons(
    shopper: NamedDependency[Shopper],
    coupons: NamedDependency[Coupons],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[CouponPage]:
    """Newest first. A coupon whose end has passed is `expired` from that instant on."""
    position = decode_cursor(cursor, tuple[Instant, Uuid])
    found = await coupons.mine(shopper.user_id, only, position, limit + 1, clock.now())
    return page_of(found, limit, lambda one: (one.issued_at.isoformat(), one.coupon_id))


@get("/coupons/{coupon_id:str}", operation_id="coupon_get", summary="Get one of my coupons")
async def get_coupon(
    coupon_id: PathUuid, shopper: NamedDependency[Shopper], coupons: NamedDependency[Coupons]
) -> CouponPage:
    """404 for what is not there and for what is somebody else's, alike."""
    return await coupons.find(coupon_id, shopper.user_id, clock.now())


@post("/coupons/quote", status_code=200, operation_id="coupon_cart_quote", summary="Price a cart with my coupons")
async def quote_cart(
    data: JSONBody[Cart], shopper: NamedDependency[Shopper], coupon_quotes: NamedDependency[Quotes]
) -> Quoted:
    """Changes nothing. Whole fen; what a coupon takes off is divided over its lines, none of which falls below 0."""
    return Quoted(await coupon_quotes.quote(shopper.user_id, data.lines, clock.now()))


router = Router(path="/v1", route_handlers=[list_coupons, get_coupon, quote_cart], tags=["Coupons"])
