"""Quotes of all coupons that a shopper could use now."""

from collections.abc import Sequence
from datetime import datetime

from growth.plumbing.field_errors import FieldError
from growth.plumbing.postgres.database import Database
from growth.plumbing.strict_json import invalid
from growth.rewards.coupon.quote.model import Quote, QuoteLine, quote
from growth.rewards.coupon.store import listing as store
from growth.rewards.coupon.template import store as templates_store

MAX_QUOTED = 100
"""Coupons looked at: those that end first."""


class Quotes:
    """Says what coupons would take off."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def quote(self, user_id: str, lines: Sequence[QuoteLine], now: datetime) -> list[Quote]:
        """Return what each usable coupon of the shopper would take off: the most first, then the soonest to end.

        Raises `Refusal` 400 for a line that is there twice.
        """
        if len({line.line_id for line in lines}) != len(lines):
            raise invalid(FieldError("lines", "Has the same line_id twice"))
        coupons = await store.usable_coupons(self._database, user_id, now, MAX_QUOTED)
        templates = await templates_store.find_templates(self._database, sorted({one.template_id for one in coupons}))
        quotes = [quote(coupon, templates[coupon.template_id], lines) for coupon in coupons]
        return sorted(quotes, key=lambda one: (not one.applies, -one.off_fen, one.valid_until, one.coupon_id))
