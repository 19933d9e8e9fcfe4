"""The outbox: events leave in the transaction of what happened, and reach every reader once, in order."""
