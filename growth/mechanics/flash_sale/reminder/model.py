"""What a reminder is, and why there is none."""

from datetime import datetime, timedelta

from msgspec import Struct

from growth.kit.campaign.model import State
from growth.mechanics.flash_sale import model as sales
from growth.vocabulary.ids import SaleId
from growth.vocabulary.refusals import Kind, Refusal

MAX_WAITING = 200
"""Reminders that one shopper may wait for."""
MAX_LATE = timedelta(minutes=10)
"""After opening; later nobody wants to be told that it is about to open."""

ALREADY_OPEN = Kind("flash_sale.already_open", "The sale has opened; there is nothing left to remind of.")
TOO_MANY_REMINDERS = Kind("flash_sale.too_many_reminders", "This shopper already has as many reminders as are allowed.")


class Reminder(Struct, frozen=True, kw_only=True):
    """What there is of one shopper and one sale."""

    state: State
    opens_at: datetime
    lead_seconds: int
    asked_at: datetime | None
    """None if the shopper did not ask."""
    sent_at: datetime | None

    @property
    def remind_at(self) -> datetime:
        """When those who asked are told."""
        return self.opens_at - timedelta(seconds=self.lead_seconds)


class ReminderPage(Struct, frozen=True, kw_only=True):
    """A reminder as its shopper sees it."""

    sale_id: SaleId
    asked: bool
    remind_at: datetime
    """When those who asked are told; in the past, at once."""
    sent_at: datetime | None
    server_time: datetime


def refusal_of(found: Reminder, now: datetime) -> Refusal | None:
    """Say why a shopper cannot be reminded; None if nothing is in the way but the number of reminders."""
    if found.state == "ended":
        return Refusal(sales.ENDED, opens_at=found.opens_at, server_time=now)
    if now >= found.opens_at:
        return Refusal(ALREADY_OPEN, opens_at=found.opens_at, server_time=now)
    return None
