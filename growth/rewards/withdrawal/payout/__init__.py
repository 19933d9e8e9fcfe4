"""Payout: a payment provider that brings money to a shopper, behind two calls.

`manual` is a person: nothing is called, and an operator says what became of it. `sandbox` stands in for a platform in
tests and development: it records what it was asked, pays one number once, and times out, answers late, twice or wrongly
when the amount says so.
"""
