"""The merchant's order system, as it tells its story in signed hooks.

What the shop tells are *facts*, and an order is the set of facts heard about it so far:

    nothing ──▶ placed · paid · closed · received · refunded (any number), each at most once, in any order of arrival

Facts are merged, never ordered: a fact adds to the row of its order and takes nothing away, so that every order of
arrival ends in the same row. What was paid for counts more than what was placed: lines of `order.paid` replace those
of `order.placed`, whichever came first. Refunds count from the moment the paid lines are known. Others take part as
`OrderParticipant`s: in the same transaction, and under the lock of the order, they bring their own objects to the
state that the facts imply. What a line pays for, or is paid with, is a `Use` of it: a participant says which kinds it
settles, and is asked for orders with such lines. What is owed back of a line, whoever found it out, is a row and an
event of `owed/`.

Events that wait together, of one hook or of many, are applied in one transaction (`batch.py`), those that share an
order, a shopper or an id one after the other; a batch that one event breaks is gone through one by one. A process that
dies in between has applied all of a batch or nothing; the shop delivers again.

Times that have not come are refused, see `hooks.held_to`. A registration is the earliest that was told; told anew,
that is news (`shop.registration_corrected`), for others decided on it; so is what makes untrue that was told of a paid
order (`shop.order_corrected`).

Invariants: an event id is applied at most once and answered alike ever after, unless it was rejected: then it is judged
by what is known when it is told again; lines that could not be read are added when they are told mended, and beyond
that a fact is never changed by a later contradiction; a refund is kept as it was told, and never counts beyond the
units and the amount of its line; what is owed back for a line is told once, and again only where it grows.
"""
