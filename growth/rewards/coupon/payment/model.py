"""What the facts of an order ask of a coupon: decisions without I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.rewards.coupon.model import Coupon
from growth.vocabulary.orders import Order, OrderLine

NOT_FOUND = "coupon.not_found"
OF_OTHER_ORDER = "coupon.of_other_order"
OF_OTHER_SHOPPER = "coupon.of_other_shopper"
VOIDED = "coupon.voided"
NOT_YET_VALID = "coupon.not_yet_valid"
EXPIRED = "coupon.expired"
LOCK_LAPSED = "coupon.lock_lapsed"


class CouponInOrder(Struct, frozen=True):
    """A coupon, and what its template says of refunds."""

    coupon: Coupon
    stays_used: bool
    lapsed_order_id: str | None = None
    """The order that last had it, and lost it for it was neither paid nor closed for days."""


class CouponDecision(Struct, frozen=True):
    """The step to take, or why the lines cannot have the coupon."""

    step: Literal["nothing", "lock", "use", "give_back"] = "nothing"
    code: str = ""


NOTHING = CouponDecision()
GIVE_BACK = CouponDecision("give_back")


def decide(
    order: Order, lines: Sequence[OrderLine], standing: CouponInOrder | None, owed: Mapping[str, str], now: datetime
) -> CouponDecision:
    """Say what `order` asks of one coupon; `lines` are those that name it, none if the order only has it.

    `owed` says which lines of the order are to be paid back, and why. That another order was first stays, though it
    gives the coupon back; whose the coupon is, and that it was taken back, is looked at anew.
    """
    if standing is None:
        return CouponDecision(code=NOT_FOUND)
    has = standing.coupon.order_id == order.order_id
    if order.is_paid:
        keeps = bool(lines) and (standing.stays_used or not all(line.is_refunded for line in lines))
        return _paid(order, lines, standing.coupon, owed) if keeps else GIVE_BACK if has else NOTHING
    if order.closed_at is not None:
        return GIVE_BACK if has else NOTHING
    if has:
        return NOTHING
    return (
        CouponDecision(code=LOCK_LAPSED)
        if standing.lapsed_order_id == order.order_id
        else _placed(order, standing.coupon, now)
    )


def _paid(order: Order, lines: Sequence[OrderLine], coupon: Coupon, owed: Mapping[str, str]) -> CouponDecision:
    for line in lines:
        if owed.get(line.line_id) == OF_OTHER_ORDER:
            return CouponDecision(code=OF_OTHER_ORDER)
    if coupon.order_id == order.order_id:
        return NOTHING if coupon.state == "used" else CouponDecision("use")
    if coupon.state == "locked" and coupon.user_id == order.user_id:
        # By an order that is not paid: whoever pays has the coupon. A shop that splits an order at payment pays the
        # parts before it closes the order that was placed, or after.
        return CouponDecision("use")
    return CouponDecision(code=code) if (code := _not_to_be_had(order, coupon)) else CouponDecision("use")


def _placed(order: Order, coupon: Coupon, now: datetime) -> CouponDecision:
    assert order.placed_at is not None, "an order with lines is placed or paid"
    if code := _not_to_be_had(order, coupon):
        return CouponDecision(code=code)
    # Not by the shop's clock: it may be behind, and the coupon taken a second before.
    if coupon.valid_from > now:
        return CouponDecision(code=NOT_YET_VALID)
    return CouponDecision(code=EXPIRED) if order.placed_at >= coupon.valid_until else CouponDecision("lock")


def _not_to_be_had(order: Order, coupon: Coupon) -> str:
    if coupon.user_id != order.user_id:
        return OF_OTHER_SHOPPER
    return {"voided": VOIDED, "locked": OF_OTHER_ORDER, "used": OF_OTHER_ORDER}.get(coupon.state, "")
