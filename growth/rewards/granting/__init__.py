"""Granting: the one door through which a shopper is given anything.

    grant ──► granted ──► revoked
          └─► budget_spent, coupon_gone          final, as is `granted`: a key is answered once and for all

- A key is granted once, ever: whoever gives a reward names what it is for (`checkin:<program>:<user>:<day>`).
- A campaign's budget is guarded like stock: never a grant, never a point more. What is revoked does not return to it.
- It happens in the transaction of what earned it: a check-in without its reward does not exist.
"""
