"""Words of the ledger. No I/O."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from growth.vocabulary.ids import HOUSE
from growth.vocabulary.refusals import Kind

EXPIRED = HOUSE + "expired"
"""Where points go that nobody spent in time."""

INSUFFICIENT = Kind("ledger.insufficient", "The balance is too small.")


class Currency(StrEnum):
    """What is counted; one never becomes another."""

    POINTS = "points"
    COMMISSION = "commission"
    """Fen."""
    GROWTH = "growth"
    MAKE_UP_CARD = "make_up_card"
    FREEZE_CARD = "freeze_card"


class Transfer(Struct, frozen=True, kw_only=True):
    """One movement of `amount` from `debit` to `credit`."""

    transfer_id: str
    """A UUID of the caller's, derived from what it is for: asked for twice, it moves once."""
    debit: str
    credit: str
    currency: Currency
    amount: int
    """Whole units, fen of money; at least 1."""
    reason: str
    """A code, `room.what`."""
    subject: str = ""
    """The id of what it is about."""
    pending: bool = False
    """Set aside until `post` or `void`: neither side can spend it. Not of points."""
    expires_at: datetime | None = None
    """Of points that come in: when they end; never, if left out."""
    may_owe: bool = False
    """Whether the debited shopper's balance may fall below zero."""
    from_lot: str | None = None
    """Of points that go out: the lot to use up first, whatever ends sooner."""


class Balance(Struct, frozen=True):
    """What an account has."""

    posted: int = 0
    pending_in: int = 0
    """Will come, if it is posted."""
    pending_out: int = 0
    """Set aside to go."""

    @property
    def available(self) -> int:
        """What can be spent; below zero: what is owed."""
        return self.posted - self.pending_out


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """One line of a shopper's history."""

    position: int
    transfer_id: str
    amount: int
    """Came in; below zero: went out."""
    state: Literal["posted", "pending", "voided"]
    reason: str
    subject: str
    at: datetime
    expires_at: datetime | None


class Expiring(Struct, frozen=True):
    """Points that end at the same time."""

    points: int
    expires_at: datetime


class Points(Struct, frozen=True, kw_only=True):
    """What a shopper can spend, and what ends when."""

    points: int
    """To spend now."""
    owed: int
    """Spent before it was taken back: the next points pay this first."""
    expiring: list[Expiring]
    """Soonest first, at most 50 ends."""
    server_time: datetime


class Liability(Struct, frozen=True, kw_only=True):
    """What shoppers hold in one currency."""

    currency: Currency
    outstanding: int
    """In all shoppers' accounts, what is owed taken off."""
    pending_in: int
    """Will come in, if it is posted."""
    pending_out: int
    """Set aside to go out."""


class ExpiringMonth(Struct, frozen=True):
    """Points that end within one month of the merchant's."""

    month: str
    points: int


class Liabilities(Struct, frozen=True, kw_only=True):
    """What the house owes its shoppers."""

    currencies: list[Liability]
    expiring: list[ExpiringMonth]
    at: datetime
