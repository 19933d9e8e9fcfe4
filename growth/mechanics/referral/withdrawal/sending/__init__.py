"""Sending: brings approved withdrawals to the payout service, and finds out what became of them.

`paying` is committed first; only then is the service called, and it is always asked for the withdrawal's own number.
Dying before the call, during it, or before its answer is written down all look the same from here: a withdrawal in
`paying` whose time to look has come. So the next one asks.
"""
