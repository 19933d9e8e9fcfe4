"""Campaigns: what operators draft, publish, pause and end. The lifecycle is written here once, for every kind of them.

::

    draft ──publish──▶ published ⇄ paused
      │                    │          │
      └────────end─────────┴──end─────┴──▶ ended        (by an operator, or when its time is over)

Each write is one transaction with its audit entry and its event, and decides by the row that it has locked. An edit
names the version that was read (optimistic locking); a creation may name an Idempotency-Key.

A room says in a `CampaignKind` what its kind is, and adds what it alone knows by the hooks of `Campaigns`.
"""
