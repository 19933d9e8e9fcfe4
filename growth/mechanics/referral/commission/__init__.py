"""Commission (返佣): what inviters earn by what those they invited pay for.

One row for each order and level. Its amount is a function of facts alone: of the lines paid, what was paid back of
them, and the terms and the relation at the payment. So hooks may come in any order and any number of times; each time
the row is brought to what the facts say, and the ledger is moved by the difference, under an id made of the commission
and its revision, once::

    (paid) ─▶ pending ──n days after receipt──▶ available ──withdrawal/──▶ paid out
                │  ▲                                │
        suspicious  released                        └─ refund: taken back, and owed where it is gone already
                ▼  │
              review ──voided──▶ void            (pending and available ones may be voided too)

- Percent: of each line in scope `(amount - refunded) * basis_points // 10_000`, and nothing of one whose units all came
  back. So each refund takes back exactly its share, and a full one all, in whatever steps.
- First order: the fixed sum belongs to the invitee's first order that was not wholly paid back, by time of payment. If
  it comes back whole, the next one that was kept earns it, if there is one. It is worth nothing while the invitee is
  known to have been no newcomer when bound, and is worth something again once that turns out to be wrong.
- While pending, the ledger has it as pending; a change replaces that transfer. Once available, a change is a transfer
  of the difference, and the inviter may come to owe it: the next commission pays that first.
- A cap on an inviter's day leaves to each order, as it first earns, what was not granted before; it keeps that.
- Nothing is earned for recruiting, nothing by an order that was not paid, nothing available before it was received.

What must hold is in `invariants.sql`.
"""
