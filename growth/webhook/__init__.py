"""Webhooks: every event is sent to the endpoints that asked for its type, at least once and in no promised order.

An *endpoint* is where events go: an address, filters, and secrets that only it and we know.

    enabled ──▶ disabled (operator · gone: it answered 410 · failing: nothing came through for a day) ──▶ enabled

A *delivery* is one event on its way to one endpoint, and the log of what came of it:

    pending ──▶ delivered (2xx) · exhausted (every try failed)
    delivered, exhausted ──▶ pending, by an operator's redelivery alone

The projection `shop.webhook_queue` turns events into pending deliveries, once each, in the transaction of its cursor.
Senders, any number of them, take what is due under a lease that is only a later `next_try_at`, send with no
transaction open, and write down what came of it, which counts only while the lease is still theirs (`fence`). Whoever
dies in between leaves a delivery that falls due again when the lease is over, under the same `webhook-id`.

Each endpoint has slots of its own, and none are shared: one that hangs holds up nobody else. What was queued before an
endpoint was disabled waits until it is enabled; what happened meanwhile is not queued, and can be redelivered for as
long as the outbox keeps it. Receivers are never inside the house: `addresses.py` says what may be called, asked when
an endpoint is made and again of every socket before it connects; nothing is redirected and no proxy is asked. Secrets
rest readable in `webhook.secrets`, since signing needs them; no answer but the one that made them, no log and no
audit entry shows one.

Invariants: an event and an endpoint have one delivery; what is pending has a time; what is delivered was answered 2xx;
an endpoint has one current secret; what is disabled says since when and why.
"""
