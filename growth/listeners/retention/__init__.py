"""Retention: who comes back. One activity, fed by clients, the shop and every mechanic, counted as it comes.

::

    outbox, activity log ──▶ sighting.py ──▶ sightings ──▶ service.py, one batch a transaction
                             (what counts)                    │  model.py: what changes, which counters move
                                                              ▼
              shoppers · active_days · steps  (the facts, one row a shopper, a day, a step)
              cells · returns · funnel_steps  (the counters, moved in the same transaction)
                                                              │
                                     report/ ◀────────────────┘   reads counters alone

Words. A shopper's *first day* is the earliest day, in the merchant's zone, that anything was done; it may still move
back when something comes late. *Day n* of a shopper is n days after the first. A *cohort* are those with the same first
day, week or month; day n is always counted from each member's own first day.

*On day n*: active on just that day. *On or after day n*: active on that day or any later one so far.

A number is *ripe* when it can only change through what comes late: day n of every member is over. That is so when day n
after the cohort's last day (for a week, its Sunday) is over, by the merchant's clock. Unripe numbers are null, never
low.

Exactness. All counters are sums over shoppers of what `model.Counts` says of one, a function of the facts alone; and
the facts are minima, maxima and unions of what was seen, so neither order, repetition nor lateness matters. A change of
one shopper takes the old contribution away and adds the new one, in one transaction, under the room's one lock.

Accounts that turn out to be one person are merged: facts are united, counters move with them, and what comes late under
the old id is the new one's. Erasure puts an alias in the place of the id; no count changes.

No table here is ever pruned: a cohort is never over. A day of a shopper is one row of some 40 bytes, and no counter
grows with the number of events.

What must hold is in `invariants.sql`.
"""
