"""Withdrawal (提现): from what is available to money in the shopper's hand.

::

    requested ─approve─▶ approved ─send─▶ paying ─┬─▶ paid
        │                   │                      └─▶ failed      (the payout service says that it was never paid)
        ├─ shopper ──▶ cancelled
        └─ operator, approved too ──▶ rejected        manual: approved ─▶ paid | failed, by the operator's word

The amount is set aside in the ledger in the transaction that makes the row, and either leaves with `paid` or is given
back, once, with every other end.

A payout has one number for good: the withdrawal's id. `paying` is committed before the payout service hears of it, so
whoever finds a withdrawal in `paying` does not know whether it was paid and asks for it by that number. Only a plain
"failed" in answer to that question gives the money back; a time-out, an unclear or contradictory answer means asking
again, for as long as it takes; "never heard of it" means sending the same number again. The service is to pay one
number once at most; that is all it has to promise.

One open withdrawal for each shopper (a unique index), limits for each day (a guarded counter), and never more than
there is (the ledger). Minimum, fee and limits are the room's own rules, whatever earned the money. What must hold
is in `invariants.sql`.
"""
