"""Nudges: members are told that one seat is left, and that time is running out; once each for each team.

The mark on the team is written in the transaction of the event.
"""
