"""Events of commissions and withdrawals."""

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Facts


class CommissionEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to what one order earns one inviter."""

    facts = Facts(by="inviter_id", counts_for="inviter_id")

    commission_id: str
    inviter_id: str
    order_id: str
    amount_fen: int
    """What it is worth now."""

    @property
    def subject(self) -> str:
        """The commission."""
        return self.commission_id


class CommissionPending(CommissionEvent, frozen=True, kw_only=True, tag="commission.pending"):
    """An order was paid, and its inviter earns by it once it is received and the time for returns is over."""

    invitee_id: str
    level: int


class CommissionChanged(CommissionEvent, frozen=True, kw_only=True, tag="commission.changed"):
    """What a commission is worth changed: something was paid back, or another order is the first now."""

    was_fen: int
    why: str
    """`refunded`, `other_first_order` or `first_order`."""


class CommissionAvailable(CommissionEvent, frozen=True, kw_only=True, tag="commission.available"):
    """A commission can be withdrawn."""


class CommissionUnderReview(CommissionEvent, frozen=True, kw_only=True, tag="commission.under_review"):
    """A commission waits for an operator's review before it becomes available."""

    reasons: list[str]
    """`same_device`, `same_address`, `same_payee`, `same_person`, `invitees_in_hour`, `invitees_in_day` or
    `shared_device`."""


class CommissionReleased(CommissionEvent, frozen=True, kw_only=True, tag="commission.released"):
    """An operator released a commission from review."""

    reason: str


class CommissionVoided(CommissionEvent, frozen=True, kw_only=True, tag="commission.voided"):
    """A commission was taken back for good: by an operator, or because two ids turned out to be one person's."""

    was_fen: int
    reason: str


class WithdrawalEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one withdrawal."""

    facts = Facts()

    withdrawal_id: str
    user_id: str
    amount_fen: int
    """With the fee."""
    fee_fen: int

    @property
    def subject(self) -> str:
        """The withdrawal."""
        return self.withdrawal_id


class WithdrawalRequested(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.requested"):
    """A shopper asked for money; it is set aside."""

    facts = Facts(visit="referral")


class WithdrawalApproved(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.approved"):
    """An operator approved a withdrawal."""


class WithdrawalPaid(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.paid"):
    """A withdrawal was paid: the shopper has the amount less the fee."""


class WithdrawalFailed(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.failed"):
    """A withdrawal could not be paid; the shopper has the amount to withdraw again."""

    reason: str


class WithdrawalRejected(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.rejected"):
    """An operator rejected a withdrawal; the shopper has the amount to withdraw again."""

    reason: str


class WithdrawalCancelled(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.cancelled"):
    """The shopper cancelled a withdrawal."""

    facts = Facts(visit="referral")
