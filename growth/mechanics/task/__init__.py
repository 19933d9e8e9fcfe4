"""Task (任务): do something so often, and get a reward. Progress is counted from what other rooms and callers tell.

The task, as operators run it::

    draft ──publish──▶ published ⇄ paused
                           │          │
                           └──end─────┴──▶ ended        (by an operator, or when the window has closed)

One shopper's progress in one period (the room `progress/`)::

            ┌────────────── an order's refund takes back what had counted ──────────────┐
            ▼                                                                           │
    (nothing yet) ──▶ open ── the count is reached ──┬─ something was granted ──▶ rewarded ┤
                                                     └─ the budget was spent ───▶ done ────┘

What counts: an occurrence, an event with an id of its own that names a shopper, whose type and data the task asks for,
and whose own time lies in the task's window, from its publication on. It falls into the period of its own time, however
late it comes (up to `MAX_LATE`) and in whatever order. Its id, or the distinct value it brings, is unique for each
shopper, task and period: told again it changes nothing. A pause leaves out what is handled while it lasts.

Who decides: Postgres. Rows of `counted` are the facts; `progress` is recomputed from them for whom something changed,
the reward is granted or taken back in the same transaction, and that transaction moves the cursor of the log read.

A refund takes back what its order had brought, also when it is heard of first. If the count is no longer reached, the
reward is taken back; reached again by other orders, it is granted again, under a key of its own. Of a reward that could
not be taken back (a coupon already used) no second is granted: buying and returning in turns earns one, not many.
Where two ids that were rewarded become one, one row stays and knows the grants of both; a refund leaves as many rewards
as what counts bears. Who was erased and is back does nothing again that was done in the same period.

A correction of an order (`shop.order_corrected`) lets what the order counts be decided anew, by the same rules: what
counts now and did not is counted, what had counted and does not any more is taken back, also where no refund takes
anything back.

What must hold is in `invariants.sql`.
"""
