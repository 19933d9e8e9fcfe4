"""Lucky bags: a campaign with so many bags, of which each shopper opens one, and each holds the same points.

::

    (none) ──open──▶ opened       final; kept under an alias when the shopper is erased

A bag is scarce: `taken + 1 <= units_total` holds in the statement that takes it. Opening again tells the same.
"""
