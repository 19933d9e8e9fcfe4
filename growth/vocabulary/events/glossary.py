"""What fields mean that many events have. A field that means something else says so below itself."""

from collections.abc import Mapping

GLOSSARY: Mapping[str, str] = {
    "claim_id": "The claim.",
    "closes_at": "When the window closes, UTC.",
    "coupon_id": "The coupon.",
    "endpoint_id": "The endpoint.",
    "expires_at": "When its time is over, UTC.",
    "group_buy_id": "The group-buy campaign.",
    "held_until": "When the hold lapses unless it is paid, UTC.",
    "line_id": "The order's line, by the shop's own id.",
    "opens_at": "When the window opens, UTC.",
    "order_id": "The order, by the shop's own id.",
    "program_id": "The campaign.",
    "reason": "Why, as a code.",
    "refund_id": "The refund, by the shop's own id.",
    "sale_id": "The flash sale.",
    "seat_id": "The seat.",
    "sku": "What is sold, by the shop's own id.",
    "task_id": "The task.",
    "team_id": "The team.",
    "team_size": "Seats of the team.",
    "template_id": "The coupon template.",
    "units": "How many.",
    "units_taken": "How many of them were held or sold.",
    "units_total": "How many there were to be sold.",
    "user_id": "The shopper, by the shop's own id.",
    "user_ids": "The shoppers, by the shop's own ids.",
}
