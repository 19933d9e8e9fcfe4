"""Check-in (签到): a shopper taps once a day, and days in a row earn more.

The program, as operators run it::

    draft ──publish──▶ published ⇄ paused
                           │          │
                           └──end─────┴──▶ ended        (by an operator, or when its last day is over)

At most one program is live on any day. A shopper's day::

    (open) ─┬─ POST /v1/check-ins ────────────────────────────────────────▶ checked_in
            └─ the day ends ─┬─ a freeze card, if the program takes them ─▶ frozen
                             └─▶ missed ──a make-up card, within n days───▶ made_up

A day that counts (checked_in, made_up) adds one to the streak; a frozen one keeps it. A missed day breaks it, but only
if the program was open from that day's first moment to its last: planned pauses, days on which an operator paused,
published or ended the program, and days without any program break nothing (`streak.model.History`). Streaks go on from
one program to the next; the table of rewards and the milestones begin anew with each.

Who decides: Postgres, under the lock of the shopper's row in `states`. The day is the merchant's zone's, at the moment
when the request arrived, by Postgres' clock: no other clock or zone takes part. One day is one row (`days`, by its
primary key), whatever the taps, devices and zones; it commits with what it earns and its event. A day that counted
before a shopper was erased is checked in, should the id come back, and a milestone reached then is not given again.

What follows from a shopper's days is a pure function of them (`streak.model.replay`). `states` keeps its value, so that
checking in folds in one day at the same cost after ten years as after one; a repair recomputes it from the days.

The room `streak/` has shoppers' days: check-ins of a moment in one transaction; `streak/repair/` mends them (make-ups,
late requests, two ids of one person); `streak/night/` walks over all shoppers: frozen, broken, at risk.

What must hold is in `invariants.sql`.
"""
