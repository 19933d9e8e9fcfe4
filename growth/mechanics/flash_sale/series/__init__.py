"""Series: sales by a timetable. "Every Wednesday 20:00, 100 units at ¥1": each round, one sale for each item.

The series, as operators run it::

    draft ──publish──▶ published ⇄ paused
                           │          │
                           └──end─────┴──▶ ended        (by an operator, or once the last round has closed)

- Publishing plans the rounds of the next `plan_ahead_days` at once, as sales that shoppers see; the schedule goes on.
- An edit is about rounds not planned yet: those that open after `planned_until`. Planned ones are sales like any other,
  and are changed one by one.
- Pausing stops planning and pauses the planned sales that have not opened; resuming resumes just these, and passes over
  rounds that would have opened meanwhile. Ending ends those that have not opened. What is open goes on to its close.
- Each sale is planned once: UNIQUE (series_id, opens_at, sku), and `planned_until` moves in the same transaction.
- Where another live sale has the SKU, the round's sale is skipped: noted in `skipped_rounds`, the audit and the log,
  and planned after all if that other sale goes before the round opens. The round's other sales are not held up.

Time (`timetable.py`): a round opens when the clock on the wall in `zone` first shows `start_time` on its day. If a
change of the clocks leaves that time out, at the first instant after the gap; if it comes twice, the first time. Its
length is elapsed time, so a round may pass midnight and any change of the clocks.
"""
