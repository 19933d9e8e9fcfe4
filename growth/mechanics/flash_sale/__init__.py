"""Flash sale (限时秒杀): a few units of one SKU, a price, a window, and far more shoppers than units.

The sale, as operators run it::

    draft ──publish──▶ published ⇄ paused
                           │          │
                           └──end─────┴──▶ ended        (by an operator, or when the window has closed)

The sale, as shoppers see it, is derived from that, the clock and the stock:
`scheduled` → `open` ⇄ `sold_out` → `ended`, and `paused` while it is.

A claim (the room `claim/`)::

                 ┌─ shopper, lapsed, order_closed, operator ─▶ released ──paid late, units left──▶ paid
    (won) ─▶ held┤                                                     └─none left─▶ released + refund_required, once
                 └─ order.paid ─▶ paid ──all units refunded──▶ refunded

Who decides: Postgres. `sales.taken` is raised and lowered only together with a claim, under `taken + n <= units_total`;
`holdings` does the same for the shopper's limit. Redis (`stock.py`) admits: it may lose everything, and then sells less
or asks Postgres in vain, never more. This process's memory (`board.py`) only ever says no.

What must hold is in `invariants.sql`.

Rooms inside: `claim/` units of shoppers, `claim/draw/` winners by lot · `series/` sales by schedule ·
`reminder/` before opening.
"""
