"""Taking: a shopper takes a coupon by hand. Concurrent takes of one process become one transaction.

A batch locks its templates, so that what it sees of them and of their takings stays true until it commits; the
statement that writes guards every limit all the same. With an Idempotency-Key the coupon's id follows from it, and
asking again finds the same coupon. What an erased shopper took who is back counts against the limits too.
"""
