"""Spending: points as a means of payment in the shop, by its own ids, each once.

    spent ──► returned, in any number of parts, never more than was spent

Points come back as they were, each with its own end, those first that end first. Who gets them back about their end or
later has them for a week: once. Points that came back already have, from then on, what was left of their time when they
were spent, so no ordering and cancelling makes points last that were to end.
"""
