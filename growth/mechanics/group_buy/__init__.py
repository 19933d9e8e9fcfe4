"""Group buy (拼团): a price for those who buy together. A seat is held before money moves.

The campaign, as operators run it::

    draft ──publish──▶ published ⇄ paused
                           │          │
                           └──end─────┴──▶ ended        (by an operator, or when the window has closed)

A team and its seats (the room `team/`)::

    forming ─┬─ all seats paid ──────────────────▶ complete (full)
             ├─ time over, threshold paid ───────▶ complete (threshold)
             ├─ an operator, somebody paid ──────▶ complete (operator)
             └─ time over │ leader left, none paid │ operator ──▶ failed

             ┌─ shopper, lapsed, order_closed, team_complete, team_failed ─▶ released ──paid late──▶ paid again, or
    (taken) ▶ held                                                                     refund_required, once
             └─ order.paid ─▶ paid ─┬─ team complete ─▶ confirmed ──refunded──▶ refunded (the team stays complete)
                                    ├─ team failed ───▶ refund_due ──refunded─▶ refunded
                                    ├─ refunded ──────▶ refunded (the seat is free again)
                                    └─ newcomers_only ▶ released, refund_required: had bought before, as was told later

Who decides: Postgres, and under one lock: whatever happens to a team first locks its row. `seats_taken` is raised only
under `seats_taken < team_size` while the team is `forming`, together with the seat, `campaigns.taken` under
`taken < units_total`, and the shopper's holding under the limit. So a full team is told before anyone pays, and of
expiry and payment one comes first and the other sees what it did. This process's memory (`team/board.py`) only says no.

Every payer ends in a complete team (`confirmed`), or is owed a refund by a row and an event of its own, once.

What must hold is in `invariants.sql`.
"""
