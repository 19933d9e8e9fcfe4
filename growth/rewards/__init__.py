"""Rewards: what a shopper can hold. `granting` is the one door in; `ledger` and `coupon` keep what came through it."""
