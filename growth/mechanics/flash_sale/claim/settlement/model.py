"""Which lines of an order pay for a claim: decisions without I/O."""

from collections.abc import Sequence

from growth.mechanics.flash_sale.claim.model import Claim
from growth.vocabulary.orders import Order, OrderLine

OF_OTHER_SHOPPER = "flash_sale.claim_of_other_shopper"
OTHER_SKU = "flash_sale.other_sku"
OF_OTHER_LINE = "flash_sale.claim_of_other_line"
OTHER_UNITS = "flash_sale.other_units"
OF_WHAT_IS_SAID = frozenset({OF_OTHER_SHOPPER, OTHER_SKU, OF_OTHER_LINE, OTHER_UNITS})
"""Why `split` turns lines away: true for as long as lines and shopper are what they are, not when lines were mended or
two shoppers turn out to be one. Any other reason is what was found when the claim was to be sold: that stays."""


def split(
    order: Order, lines: Sequence[OrderLine], claim: Claim
) -> tuple[list[OrderLine], list[tuple[OrderLine, str]]]:
    """Divide the lines of an order that name a claim into those that pay for it, and the others with why not.

    One line with all its units pays; else the first lines that add up to them do. Too few units pay for nothing.
    """
    fitting = [line for line in lines if line.sku == claim.sku]
    whole = [line for line in fitting if line.units == claim.units][:1]
    paying = whole or _adding_up_to(claim.units, fitting)
    if order.user_id != claim.user_id:
        return [], [(line, OF_OTHER_SHOPPER) for line in lines]
    wrong = []
    for line in lines:
        if line not in fitting:
            wrong.append((line, OTHER_SKU))
        elif line not in paying:
            wrong.append((line, OF_OTHER_LINE if paying else OTHER_UNITS))
    return paying, wrong


def _adding_up_to(units: int, lines: Sequence[OrderLine]) -> list[OrderLine]:
    paying, missing = [], units
    for line in lines:
        if line.units <= missing:
            paying.append(line)
            missing -= line.units
    return [] if missing else paying


def is_in_time(claim: Claim, order: Order) -> bool:
    """Say whether an order pays within the hold of a claim that it lost because another order was closed.

    A shop that splits an order at payment closes the one that was placed: before or after, the payment is not late.
    """
    return claim.release_reason == "order_closed" and order.paid_at is not None and order.paid_at < claim.held_until
