"""What a coupon takes off, and off which lines: arithmetic in whole fen, without I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from growth.rewards.coupon.model import Coupon
from growth.rewards.coupon.template.model import CouponDraft, CouponTemplate, FixedOff
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import LineId, Sku, Uuid
from growth.vocabulary.money import Fen
from growth.vocabulary.orders import spread

MAX_LINES = 100
MAX_LINE_UNITS = 1_000_000

PERCENT = 100

OUT_OF_SCOPE = "coupon.out_of_scope"
THRESHOLD_NOT_REACHED = "coupon.threshold_not_reached"


class QuoteLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a cart."""

    line_id: LineId
    sku: Sku
    units: Annotated[int, Meta(ge=1, le=MAX_LINE_UNITS)]
    amount_fen: Fen
    """For all units together, before any coupon."""


class LineOff(Struct, frozen=True):
    """What one line becomes cheaper by."""

    line_id: str
    off_fen: int


class Quote(Struct, frozen=True, kw_only=True):
    """What one coupon would take off."""

    coupon_id: Uuid
    template_id: Uuid
    title: str
    valid_until: datetime
    applies: bool
    code: str | None
    """Why it does not apply: `coupon.out_of_scope` or `coupon.threshold_not_reached`."""
    missing_fen: int
    """What lines in scope would have to cost more; 0 where it applies, or has no line."""
    off_fen: int
    """The sum over the lines; never more than they cost."""
    lines: list[LineOff]
    """Of lines in scope."""


def off_of(terms: CouponDraft, amount_fen: int) -> int:
    """Return what the discount is for lines in scope that cost so much together; the threshold aside."""
    discount = terms.discount
    if isinstance(discount, FixedOff):
        return min(discount.off_fen, amount_fen)
    off_fen = amount_fen * discount.percent_off // PERCENT
    return off_fen if discount.max_off_fen is None else min(off_fen, discount.max_off_fen)


def quote(coupon: Coupon, template: CouponTemplate, lines: Sequence[QuoteLine]) -> Quote:
    """Say what a coupon would take off a cart."""
    scope = set(template.skus)
    inside = [line for line in lines if not scope or line.sku in scope]
    amount_fen = sum(line.amount_fen for line in inside)
    missing_fen = max(0, template.threshold_fen - amount_fen)
    code = OUT_OF_SCOPE if not inside else THRESHOLD_NOT_REACHED if missing_fen else None
    off_fen = 0 if code else off_of(template, amount_fen)
    shares = spread(off_fen, [line.amount_fen for line in inside])
    return alike(
        Quote,
        coupon,
        template,
        applies=code is None,
        code=code,
        missing_fen=missing_fen if inside else 0,
        off_fen=off_fen,
        lines=[LineOff(line.line_id, share) for line, share in zip(inside, shares, strict=True)],
    )
