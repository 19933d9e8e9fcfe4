"""Walks over all shoppers: at day's end who missed it, and before it who might.

Shoppers are walked in the order of their ids, so many in a transaction, which also moves the walk's cursor (`walks`):
whoever dies on the way goes on from there and does nothing twice. No index helps to find the few that matter: it would
be written by every check-in of the day to save one walk a night.
"""
