"""What the shop's orders make of coupons: `settlement.py` takes part in orders. States are drawn in `coupon/`.

Facts are read, not steps: an order that is paid uses its coupons unless all their lines were paid back, one that was
only placed locks them unless it was closed, and what an order has and no longer wants goes back to the shopper. So any
order of arrival ends alike, also where the lines paid for name other coupons than those placed. A lock keeps a coupon
from other orders that are placed, not from one that is paid: the shop may split an order at payment, and close the one
that was placed before or after. A coupon is one paid order's: of two parts whose lines name it the first to be paid
has it.

Why a coupon is not to be had is looked at with every hook, but for one reason: that another order was first stays.
"""
