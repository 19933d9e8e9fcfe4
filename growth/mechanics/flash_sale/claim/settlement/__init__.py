"""What the shop's orders make of claims: bound, sold, given back, refunded, or owed back to the shopper, once.

The facts of an order are read in one sequence, however they arrived: placed, closed unless paid, paid, refunded.
States of a claim are drawn two rooms above; `refunds_required` has one row for each order line that is owed back, with
the reason; what is sold after all, since lines were mended or two shoppers are one, has none any more.
"""
