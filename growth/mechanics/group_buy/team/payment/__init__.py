"""What the shop's orders make of seats: `settlement.py` takes part in orders. States are drawn in `group_buy/`.

A late payment takes the seat again if its team still forms and has room; if not, it leads a new team or is owed back,
as the campaign says. Who turns out to be no newcomer while the team forms makes room for one, and is owed back.
"""
