"""Repairs: a missed day that a make-up card fills, a tap that arrives after the next day's, two ids of one person.

Each changes days that lie behind, so all of the shopper's days are folded anew. What the days earn by their new places
in the table, and did not earn before, is given then.
"""
