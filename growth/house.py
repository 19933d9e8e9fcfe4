"""The house: the one list of its rooms. Whoever adds a room adds its line here; the roof reads it and names none."""

from growth.listeners.retention.room import room as retention
from growth.mechanics.checkin.room import room as checkin
from growth.mechanics.flash_sale.room import room as flash_sale
from growth.mechanics.group_buy.room import room as group_buy
from growth.mechanics.referral.room import room as referral
from growth.mechanics.task.room import room as task
from growth.privacy.room import room as privacy
from growth.rewards.coupon.room import room as coupon
from growth.rewards.granting.room import room as granting
from growth.rewards.ledger.room import room as ledger
from growth.rewards.pack.room import room as pack
from growth.rewards.withdrawal.room import room as withdrawal
from growth.shop.order.room import room as order
from growth.shopper.activity.room import room as activity
from growth.webhook.room import room as webhook

ROOMS = (
    order,
    activity,
    ledger,
    coupon,
    granting,
    pack,
    withdrawal,
    webhook,
    flash_sale,
    group_buy,
    checkin,
    task,
    referral,
    retention,
    privacy,
)
"""From the bottom up: each is made with those before it."""

WALK = (
    "flash_sale",
    "group_buy",
    "coupon",
    "withdrawal",
    "referral",
    "commission",
    "shop",
    "checkin",
    "task",
    "pack",
    "granting",
    "ledger",
    "events",
    "retention",
)
"""In which order one transaction goes through rooms: an order that is settled, a shopper who is merged or erased. Locks
are taken in it (see `decisions/scarcity.md`): who may refuse comes first, money after what it hangs on. A room that is
not named comes before all of these."""
