"""Reminders: a shopper asks to be told before a sale opens, and is told once.

::

    (asked, before opening) ─▶ waiting ──opens_at - lead──▶ sent
                                  │
                                  └──taken back──▶ (gone)

- The event `flash_sale.reminder_due` and `sent_at` are written in one transaction: once for each, whoever dies when.
- Sent ones are kept, so that asking again after it tells nobody twice.
- A sale that is paused when its time comes reminds when it is resumed; one that was ended reminds nobody. Nor does one
  that opened more than `MAX_LATE` ago, should no worker have run.
- A shopper has at most `MAX_WAITING` waiting reminders; those of sales that opened or ended do not count.
"""
