"""Events: what happened, in the past tense, told to whoever listens. The one catalogue of all that the service emits.

An event's tag is its name, `room.what_happened`. Fields only grow: last year's listener still reads this year's.
"""

from growth.vocabulary.events import (
    checkin,
    commission,
    coupon,
    flash_sale,
    granting,
    group_buy,
    referral,
    shop,
    task,
    webhook,
)
from growth.vocabulary.events.base import Event

__all__ = [
    "Event",
    "checkin",
    "commission",
    "coupon",
    "flash_sale",
    "granting",
    "group_buy",
    "referral",
    "shop",
    "task",
    "webhook",
]
