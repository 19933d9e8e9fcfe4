"""What was refunded of an order: kept as it was told, and counted as far as the order goes.

A refund is a fact like the others: it is merged, never refused for its size. `shop.refunds` has each as it was told;
how much counts is a fold over all of them (`model.counted`), so that every order of arrival ends in the same lines.
"""
