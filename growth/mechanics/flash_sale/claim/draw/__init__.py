"""The draw: who claims in the first `draw_seconds` of a sale enters, and winners are picked by lot.

An entry::

    (claim while the sale draws) ─▶ entered ──drawn──▶ won     it has a claim, held as if claimed at that moment
                                        │
                                        └──────────────▶ lost   once the sale is drawn (or ended undrawn) without it

`lost` is written nowhere: it follows from the sale. One entry for each shopper of a sale, however often they claim.

Time, by the clock of Redis for entries and of Postgres for the draw::

    opens_at ──entries──▶ draw_at ──no entries──▶ draw_at + DRAW_DELAY: drawn ──▶ the units left are open to all

- An acknowledged entry is in the draw. It is inserted under a share lock of the sale's row that finds it not drawn; the
  draw locks the same row against it. So an insert comes wholly before the draw, or is refused.
- The draw is one transaction: killed anywhere, nothing happened and it is done again. Two workers make one draw.
- The order is that of SHA-256 over `seed:user_id`, by a secret made when entries are over; the event tells it, so
  anyone can check. Winners are the first of that order whose units, added up, are no more than the units left.
- Redis follows the commit: first the winners' claims, then the end of the draw. Whatever of it is lost, the periodic
  task says the end again and the reconciler brings the claims.
"""
