"""Ends: unused coupons are told of n days before theirs, and expire, in bounded batches; stale templates end.

Each batch is one transaction: a worker that dies in between has either done it, events and all, or nothing of it. What
an order has does not expire; given back, it does.
"""
