"""Spending: points as a means of payment in the shop, by its own ids, each once.

    spent ──► returned, in any number of parts, never more than was spent

Points come back with the latest end of those that were taken, and with a week at least.
"""
