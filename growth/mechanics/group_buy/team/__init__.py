"""Teams and their seats, as drawn in the room above.

Locks are taken in one order everywhere: teams (by id), their seats, holdings (by campaign and shopper), campaigns (by
id). A team's row is the lock of all that is about the team: seats change only under it.

What is true if the process dies: each of joining, leaving, settling an order and ending a batch of teams is one
transaction, with its events. Before its commit nothing happened; after it, only an answer can be missing, and the same
Idempotency-Key (or the shop's redelivery) tells it again.
"""
