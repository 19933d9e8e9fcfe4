"""Shoppers' HTTP of coupons: those they have, take and redeem."""

from typing import Annotated, ClassVar

from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    AnyRequest,
    Cursor,
    Limit,
    Page,
    PathUuid,
    created,
    decode_cursor,
    idempotency_key,
    page_of,
)
from growth.plumbing.strict_json import Instant
from growth.rewards.coupon.code.service import Codes
from growth.rewards.coupon.model import CouponPage, CouponState, show
from growth.rewards.coupon.quote.model import MAX_LINES, Quote, QuoteLine
from growth.rewards.coupon.quote.service import Quotes
from growth.rewards.coupon.service import Coupons
from growth.rewards.coupon.take.model import TemplatePage
from growth.rewards.coupon.take.service import Takes
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid
from growth.vocabulary.names import MAX_TYPED_CHARACTERS

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


@get("/coupon-templates", operation_id="coupon_template_list", summary="List coupons I can take")
async def list_templates(
    shopper: NamedDependency[Shopper],
    coupon_takes: NamedDependency[Takes],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[TemplatePage]:
    """Newest first; those that open later and those that are all taken are among them."""
    position = decode_cursor(cursor, tuple[Uuid])
    found = await coupon_takes.on_offer(shopper.user_id, clock.now())
    if position is not None:
        found = [one for one in found if one.template_id < position[0]]
    return page_of(found[: limit + 1], limit, lambda one: (one.template_id,))


@get("/coupon-templates/{template_id:str}", operation_id="coupon_template_get", summary="Get a coupon I can take")
async def get_template(
    template_id: PathUuid, shopper: NamedDependency[Shopper], coupon_takes: NamedDependency[Takes]
) -> TemplatePage:
    """404 for what cannot be taken by shoppers."""
    return await coupon_takes.find(template_id, shopper.user_id, clock.now())


@post("/coupon-templates/{template_id:str}/coupons", operation_id="coupon_take", summary="Take a coupon")
async def take_coupon(
    template_id: PathUuid, request: AnyRequest, shopper: NamedDependency[Shopper], coupon_takes: NamedDependency[Takes]
) -> Response[CouponPage]:
    """201: the coupon is this shopper's.

    Send an Idempotency-Key and repeat the call with it after a time-out or a 503: the same key is the same coupon.
    """
    taken = await coupon_takes.take(template_id, shopper.user_id, idempotency_key(request), shopper.token_id)
    return created(show(taken.coupon, taken.template, taken.at), replayed=taken.replayed)


class CodeTyped(Struct, frozen=True, forbid_unknown_fields=True):
    """What a shopper typed in, or scanned."""

    mends_text: ClassVar[bool] = True
    code: Annotated[
        str, Meta(min_length=1, max_length=MAX_TYPED_CHARACTERS, description="In any case, width and grouping.")
    ]


@post("/coupons/redeem", status_code=200, operation_id="coupon_code_redeem", summary="Redeem a printed code")
async def redeem_code(
    data: JSONBody[CodeTyped], shopper: NamedDependency[Shopper], coupon_codes: NamedDependency[Codes]
) -> CouponPage:
    """The coupon is this shopper's; the same code again, by the same shopper: the same coupon.

    404 for whatever is no good, whether it never was, was revoked, or is somebody else's by now. Ten tries at once,
    then one in six seconds.
    """
    taken = await coupon_codes.redeem(data.code, shopper.user_id)
    return show(taken.coupon, taken.template, taken.at)


router = Router(
    path="/v1",
    route_handlers=[list_coupons, get_coupon, quote_cart, list_templates, get_template, take_coupon, redeem_code],
    tags=["Coupons"],
)
