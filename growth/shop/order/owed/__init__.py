"""What the shop must pay back: one row and one event for each order line, whoever found it out.

    nothing ──a room finds a reason──▶ open ⇄ settled (paid back, or no longer owed)
                                       └─ another reason, more money ─▶ open, told again

Rooms find out in two places. While an order is settled they say so of its lines, for as long as it is so; the shop's
service hands all they said to `service.judge`, which knows then that it is all there is. Elsewhere (a team fails at
night) they tell `service.owe` what they found. Money of several reasons is added up and never exceeds what the line
cost. `shop.refund_required` is told when a line comes to owe more than was told before; paying back is told by nobody
but the shop.
"""
