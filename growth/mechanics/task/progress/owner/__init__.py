"""Whose progress it is: all of one shopper, and what becomes of it when two ids are one person."""
