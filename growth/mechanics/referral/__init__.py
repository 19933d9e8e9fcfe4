"""Referral (邀请): shoppers bring shoppers, and both gain by what those then buy and receive.

The program, as operators run it; one at a time is live::

    draft ──publish──▶ published ⇄ paused ──end──▶ ended        (by an operator, or at `closes_at`)

Its *terms* are versioned: an edit of a live program begins a version, and an order keeps the terms of the moment it was
paid at. Paused, nobody new is bound and what is bound goes on earning; ended, orders paid from then on earn nothing.

A relation, who brought whom (the room `relation/`), and what became of the invitee's first order (`reward/`)::

             ┌──────── first order paid back whole, or no longer it ──────┐
             ▼                                                            │
    (none) ▶ bound ──first order paid──▶ bought ──received──▶ valid ──────┘
             └─ ends by itself after `relation_days`, or by an operator; a shopper who is still new may be bound again

First touch wins: a shopper has one current relation, never to oneself, never in a ring. A ring is looked for among the
current relations, expired ones too, so that no clock decides. All that writes relations does so under one lock of the
transaction, and requests that come together are bound in one.

Nothing is earned by recruiting: rewards (`reward/`) are granted when the invitee's first order is paid *and* received,
and taken back when it is paid back whole. Money is the rooms' beside: `commission/`, `review/`.
It leaves by `rewards/withdrawal/`.

What must hold is in `invariants.sql`.
"""
