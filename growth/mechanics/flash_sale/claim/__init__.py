"""A claim: units of one sale that a shopper holds, pays for, gives back or loses. States are drawn in the room above.

Steps of a claim, and what is true if the process dies right after each:

1. `stock.claim` admits it in Redis. Dies: Redis holds units Postgres never heard of; `reconcile` gives them back.
2. `store.win` writes it in Postgres, with its event, and commits. Dies: the claim stands; a retry with the same
   Idempotency-Key has the same claim id and is told so.
3. The shopper is answered.

Steps of giving back, by whomever: Postgres first (claim, holding and `taken` in one transaction), then Redis. Dies
between: Redis holds units that are free; `reconcile` gives them back.
"""
