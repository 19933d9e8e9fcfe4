"""What a withdrawal is, and what follows from what a payout service says: decisions without I/O."""

from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct

from growth.plumbing.field_errors import FieldError
from growth.rewards.ledger.model import Currency, Transfer
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import Uuid, derived_id
from growth.vocabulary.money import MAX_FEN, Fen
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Name

NOT_FOUND = Kind("withdrawal.not_found", "There is no such withdrawal.", 404)
BELOW_MINIMUM = Kind("withdrawal.below_minimum", "This is less than the smallest amount that can be withdrawn.")
INSUFFICIENT = Kind("withdrawal.insufficient", "The balance is too small for this withdrawal.")
OWED = Kind(
    "withdrawal.owed", "More was taken back than the balance holds; nothing can be withdrawn until that is earned."
)
ONE_OPEN = Kind("withdrawal.one_open", "Another withdrawal is still open.")
DAY_LIMIT = Kind("withdrawal.day_limit", "Today's withdrawal limit has been reached.")
WRONG_STATE = Kind("withdrawal.wrong_state", "The withdrawal's state does not allow this.")
PAYOUT_UNKNOWN = Kind("withdrawal.payout_unknown", "The payout service does not confirm that this was never paid.")
RULES_CHANGED = Kind("withdrawal_rules.version_mismatch", "Somebody else changed the withdrawal rules.", 412)
NO_PAYEE = Kind("payee.not_found", "This shopper has not named a payout account.", 404)

PAYOUT_ACCOUNT = "house/payout"
"""Where money goes that leaves the house."""
FEE_ACCOUNT = "house/withdrawal_fee"
REASON = "withdrawal.paid"
FEE_REASON = "withdrawal.fee"
FIRST_LOOK = timedelta(seconds=15)
MAX_BETWEEN_LOOKS = timedelta(hours=1)
MAX_DOUBLINGS = 10
MAX_PER_DAY = 1_000
MAX_REFERENCE_CHARACTERS = 64

State = Literal["requested", "approved", "paying", "paid", "failed", "rejected", "cancelled"]
PayoutName = Literal["manual", "sandbox"]
RejectReason = Literal["suspicious", "payee_wrong", "terms_breached", "shopper_asked", "owed", "merged"]
FailReason = Literal["payout_failed", "payee_wrong", "account_closed", "bounced"]
WithdrawalFen = Annotated[int, Meta(ge=1, le=MAX_FEN, description="Whole fen (1/100 yuan), with the fee.")]
Reference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_REFERENCE_CHARACTERS,
        pattern=r"^[!-~]+$(?!\n)",
        description="What the bank or the platform calls the payment: visible ASCII, 1 to 64.",
    ),
]


class Payee(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a shopper's money goes."""

    kind: Literal["wechat", "alipay", "bank"]
    account: Annotated[
        str, Meta(min_length=1, max_length=64, pattern=r"^[!-~]+$(?!\n)", description="Visible ASCII, 1 to 64.")
    ]
    name: Name
    """Of the account's holder."""


class WithdrawalRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How money is paid out, and how much one shopper may ask for on one day, in the merchant's zone."""

    min_fen: WithdrawalFen = 1_000
    """The least that is paid out at once."""
    fee_fen: Fen = 0
    """Kept of each withdrawal; less than `min_fen`."""
    max_per_day: Annotated[int, Meta(ge=1, le=MAX_PER_DAY)] = 3
    """Withdrawals, whatever becomes of them."""
    max_fen_per_day: WithdrawalFen = 2_000_000
    """Of withdrawals that were not given back."""


class Withdrawal(Struct, frozen=True, kw_only=True):
    """A withdrawal as Postgres knows it."""

    withdrawal_id: Uuid
    user_id: str
    amount_fen: int
    fee_fen: int
    payee: Payee | None
    state: State
    requested_at: datetime
    approved_at: datetime | None = None
    payout: PayoutName | None = None
    """Who pays it: decided when it is approved."""
    sent_at: datetime | None = None
    look_at: datetime | None = None
    """When the payout service is asked again."""
    looks: int = 0
    """How often it was asked."""
    said: str | None = None
    """What it said last."""
    ended_at: datetime | None = None
    reason: str | None = None
    reference: str | None = None

    @property
    def payout_fen(self) -> int:
        """What the shopper gets."""
        return self.amount_fen - self.fee_fen


class WithdrawalFilter(Struct, frozen=True, kw_only=True):
    """Which withdrawals; None for all."""

    state: State | None = None
    user_id: str | None = None
    day: date | None = None


class WithdrawalPage(Struct, frozen=True, kw_only=True):
    """A withdrawal as its shopper sees it."""

    withdrawal_id: Uuid
    amount_fen: int
    """Taken from the balance."""
    fee_fen: int
    payout_fen: int
    """What arrives."""
    state: State
    payee: str | None
    """The account, all but its end hidden."""
    requested_at: datetime
    ended_at: datetime | None
    reason: str | None
    server_time: datetime


def show(withdrawal: Withdrawal, now: datetime) -> WithdrawalPage:
    """Show a withdrawal to its shopper."""
    payee = None if withdrawal.payee is None else mask(withdrawal.payee.account)
    return alike(WithdrawalPage, withdrawal, payee=payee, server_time=now)


def mask(account: str) -> str:
    """Hide all of an account but its last characters: a third of it, four at most."""
    shown = min(4, len(account) // 3)
    return "*" * 4 + account[len(account) - shown :]


def faults(rules: WithdrawalRules) -> list[FieldError]:
    """Return what is wrong with rules."""
    return [FieldError("fee_fen", "Must be less than min_fen")] if rules.fee_fen >= rules.min_fen else []


def fee_of(amount_fen: int, fee_fen: int) -> int:
    """Return what the house keeps: the shopper gets one fen at least."""
    return min(fee_fen, amount_fen - 1)


def holds_of(withdrawal: Withdrawal) -> list[Transfer]:
    """Return what the ledger sets aside; the ids are the withdrawal's for good."""
    payout = _hold(withdrawal, "payout", PAYOUT_ACCOUNT, withdrawal.payout_fen, REASON)
    if not withdrawal.fee_fen:
        return [payout]
    return [payout, _hold(withdrawal, "fee", FEE_ACCOUNT, withdrawal.fee_fen, FEE_REASON)]


def _hold(withdrawal: Withdrawal, part: str, account: str, amount_fen: int, reason: str) -> Transfer:
    return Transfer(
        transfer_id=derived_id(withdrawal.withdrawal_id, part),
        debit=withdrawal.user_id,
        credit=account,
        currency=Currency.COMMISSION,
        amount=amount_fen,
        reason=reason,
        subject=withdrawal.withdrawal_id,
        pending=True,
    )


class Said(Struct, frozen=True, kw_only=True):
    """What a payout service says about one number."""

    number: str
    state: Literal["paid", "failed", "working", "never_heard"]
    """`failed`: it was not paid, and never will be under this number. `never_heard`: nothing is known of it."""
    amount_fen: int | None = None
    """What was paid."""
    reference: str | None = None
    code: str = ""
    """Why it failed, in the service's own word."""


class PayoutDecision(Struct, frozen=True):
    """What follows from what a payout service said."""

    then: Literal["paid", "failed", "send_again", "look_again"]
    said: str
    reference: str | None = None


def verdict_on(withdrawal: Withdrawal, said: Said | None, *, asked: Literal["send", "query"]) -> PayoutDecision:
    """Say what follows from an answer; None is no answer in time, or one that could not be read.

    A word on sending is never the last one about failing: what was sent may arrive after all, so it is asked for. And
    an answer about another number, or another amount, says nothing of this one.
    """
    if said is None:
        return PayoutDecision("look_again", f"{asked}: no answer")
    told = f"{asked}: {said.state} {said.code}".rstrip()
    if said.number != withdrawal.withdrawal_id:
        return PayoutDecision("look_again", f"{told}, about another number")
    if said.state == "paid":
        if said.amount_fen == withdrawal.payout_fen:
            return PayoutDecision("paid", told, said.reference)
        return PayoutDecision("look_again", f"{told}, another amount ({said.amount_fen} fen)")
    if asked == "query" and said.state == "failed":
        return PayoutDecision("failed", told)
    return PayoutDecision("send_again" if asked == "query" and said.state == "never_heard" else "look_again", told)


def next_look(looks: int, now: datetime) -> datetime:
    """Say when to ask again after so many looks: further and further apart, for as long as it takes."""
    return now + min(FIRST_LOOK * (1 << min(looks, MAX_DOUBLINGS)), MAX_BETWEEN_LOOKS)
