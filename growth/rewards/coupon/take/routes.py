"""Shoppers' HTTP of taking coupons."""

from typing import Any

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency

from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    REPLAYED_HEADER,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
    idempotency_key,
    page_of,
)
from growth.rewards.coupon.model import CouponPage, show
from growth.rewards.coupon.take.model import TemplatePage
from growth.rewards.coupon.take.service import Takes
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid


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
    template_id: PathUuid,
    request: Request[Any, Any, Any],
    shopper: NamedDependency[Shopper],
    coupon_takes: NamedDependency[Takes],
) -> Response[CouponPage]:
    """201: the coupon is this shopper's.

    Send an Idempotency-Key and repeat the call with it after a time-out or a 503: the same key is the same coupon.
    """
    taken = await coupon_takes.take(template_id, shopper.user_id, idempotency_key(request), shopper.token_id)
    headers = {REPLAYED_HEADER: "true"} if taken.replayed else {}
    return JsonResponse(show(taken.coupon, taken.template, taken.at), status_code=201, headers=headers)


router = Router(path="/v1", route_handlers=[list_templates, get_template, take_coupon], tags=["Coupons"])
