"""Shoppers' HTTP of printed codes."""

from typing import Annotated, ClassVar

from litestar import Router, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from growth.rewards.coupon.code.service import Codes
from growth.rewards.coupon.model import CouponPage, show
from growth.vocabulary.actors import Shopper
from growth.vocabulary.names import MAX_TYPED_CHARACTERS


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


router = Router(path="/v1", route_handlers=[redeem_code], tags=["Coupons"])
