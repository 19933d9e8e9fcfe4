"""Deliveries: events on their way to endpoints. Queued by a projection, sent by senders, kept as a log.

`queue.py` turns events into rows, `sender.py` takes those that are due and writes down what came of them, `courier.py`
makes the one request. The states are drawn in the room above.
"""
