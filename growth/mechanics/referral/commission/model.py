"""What an order earns its inviters, and how the ledger is moved to it: decisions without I/O."""

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from growth.mechanics.referral.model import CommissionRule, FixedRule, PercentRule
from growth.mechanics.referral.relation.model import Relation
from growth.rewards.ledger.model import Currency, Transfer
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import derived_id, new_id
from growth.vocabulary.orders import Order
from growth.vocabulary.refusals import Kind

NOT_FOUND = Kind("commission.not_found", "There is no such commission.", 404)
WRONG_STATE = Kind("commission.wrong_state", "The commission's state does not allow this.")

HOUSE = "house/referral"
"""Where commissions come from, and go back to."""
EARNED = "commission.earned"
TAKEN_BACK = "commission.taken_back"
BASIS_POINTS = 10_000
"""Make a whole."""

State = Literal["pending", "review", "available", "void"]
ShownState = Literal["pending", "review", "available", "void", "refunded"]
Why = Literal["paid", "refunded", "other_first_order", "first_order", "voided"]
Rule = Literal["percent", "fixed"]
Level = Literal[1, 2]
ReleaseReason = Literal["checked", "household", "shared_network", "known_partner", "false_alarm"]
VoidReason = Literal["self_dealing", "fake_orders", "fake_accounts", "terms_breached", "granted_by_mistake"]


class CommissionLine(Struct, frozen=True, kw_only=True):
    """One line of an order, and what it earns."""

    line_id: str
    sku: str
    units: int
    amount_fen: int
    """What was paid for it in money: less than it cost where a balance or a gift card paid the rest."""
    refunded_units: int
    refunded_fen: int
    is_in_scope: bool
    """Whether the program covers its SKU."""
    kept_fen: int
    """What the house keeps of it: nothing once all its units, or all its money, came back."""
    commission_fen: int
    """`kept_fen * basis_points // 10_000`; 0 where a fixed sum is earned."""


class Commission(Struct, frozen=True, kw_only=True):
    """What one order earns one inviter, as Postgres knows it."""

    commission_id: str
    order_id: str
    level: Level
    """1: who invited the payer; 2: who invited that one."""
    inviter_id: str
    invitee_id: str
    """Who paid the order."""
    relation_id: str
    program_id: str
    terms_version: int
    kind: Rule
    """`fixed`: for the invitee's first order that was kept."""
    basis_points: int
    fixed_fen: int
    available_after_days: int
    cap_fen: int | None = None
    """What the inviter may earn by orders paid on one day; None for no limit."""
    granted_fen: int | None = None
    """The most it may be worth: what the cap of the day left when a fact of its order was last heard. None for no cap,
    and before it first earned. What it no longer is worth, the day has room for again."""
    paid_at: datetime
    month: date
    """First day of the payment's month in the merchant's zone."""
    lines: list[CommissionLine]
    is_kept: bool
    """Whether enough in scope was not paid back: something, and no less than the program asks of an order."""
    amount_fen: int
    revision: int
    state: State
    received_at: datetime | None = None
    due_at: datetime | None = None
    """When it becomes available; unknown until the order is received."""
    available_at: datetime | None = None
    judged_at: datetime | None = None
    review_reasons: list[str] = []
    is_cleared: bool = False
    decision: str | None = None
    created_at: datetime

    @property
    def shown_state(self) -> ShownState:
        """What people are told: one of which nothing is left says so."""
        return "refunded" if self.amount_fen == 0 and self.state != "void" else self.state

    @property
    def counted_fen(self) -> int:
        """What the leaderboard counts of it: what nobody doubts."""
        return self.amount_fen if self.state in {"pending", "available"} else 0


class CommissionStep(Struct, frozen=True, kw_only=True):
    """One change of what a commission is worth."""

    commission_id: str
    revision: int
    at: datetime
    from_fen: int
    to_fen: int
    state: State
    why: Why


class CommissionFilter(Struct, frozen=True, kw_only=True):
    """Which commissions; None for all."""

    state: ShownState | None = None
    """As shown: `refunded` are those of which nothing is left."""
    inviter_id: str | None = None
    invitee_id: str | None = None
    order_id: str | None = None
    reason: str | None = None
    """One of those that put it to review."""


class Moves(Struct, frozen=True, kw_only=True):
    """What the ledger is to do, in this order."""

    voids: list[str]
    """Pending transfers to give up."""
    debits: list[Transfer]
    """From shoppers."""
    credits: list[Transfer]
    """To shoppers. Apart from debits, for one shopper may be on both sides."""


def share_fen(fen: int, basis_points: int) -> int:
    """Return the share of `fen`, rounded down to the fen."""
    return fen * basis_points // BASIS_POINTS


def lines_of(order: Order, basis_points: int, scope: Collection[str]) -> list[CommissionLine]:
    """Return the lines of a paid order with what each earns; those in `scope`, by their ids, earn."""
    return [
        alike(
            CommissionLine,
            line,
            amount_fen=line.paid_fen,
            refunded_fen=min(line.refunded_fen, line.paid_fen),
            is_in_scope=line.line_id in scope,
            commission_fen=share_fen(line.kept_fen, basis_points) if line.line_id in scope else 0,
        )
        for line in order.lines
    ]


def begun(order: Order, relation: Relation, zone: ZoneInfo, now: datetime) -> list[Commission]:
    """Return what an order that was just paid may earn, worth nothing yet: one for each level that has a rule."""
    terms, paid_at, invitee_id = relation.terms, order.paid_at, order.user_id
    if terms is None or paid_at is None or invitee_id is None:
        return []
    draft = terms.draft
    scope = {line.line_id for line in order.lines if draft.covers(line.sku)}
    in_scope_fen = sum(line.paid_fen for line in order.lines if line.line_id in scope)
    found = []
    levels: tuple[tuple[Level, str | None, CommissionRule | None], ...] = (
        (1, relation.inviter_id, draft.level_1),
        (2, relation.grand_inviter_id, draft.level_2),
    )
    for level, inviter_id, rule in levels:
        if rule is None or inviter_id is None or inviter_id == invitee_id or draft.levels < level:
            continue
        basis_points = rule.basis_points if isinstance(rule, PercentRule) else 0
        fixed_fen = rule.amount_fen if isinstance(rule, FixedRule) else 0
        lines = lines_of(order, basis_points, scope)
        is_earning = in_scope_fen >= draft.min_order_fen if fixed_fen else gross_fen(lines, basis_points) > 0
        if is_earning:
            found.append(
                Commission(
                    commission_id=new_id(now),
                    order_id=order.order_id,
                    level=level,
                    inviter_id=inviter_id,
                    invitee_id=invitee_id,
                    relation_id=relation.relation_id,
                    program_id=terms.program_id,
                    terms_version=terms.version,
                    kind="fixed" if fixed_fen else "percent",
                    basis_points=basis_points,
                    fixed_fen=fixed_fen,
                    available_after_days=draft.available_after_days,
                    cap_fen=draft.caps.commission_fen_per_day,
                    paid_at=paid_at,
                    month=month_of(paid_at, zone),
                    lines=lines,
                    is_kept=False,
                    amount_fen=0,
                    revision=0,
                    state="pending",
                    created_at=now,
                )
            )
    return found


def gross_fen(lines: Sequence[CommissionLine], basis_points: int) -> int:
    """Return what lines would earn with nothing paid back."""
    return sum(share_fen(line.amount_fen, basis_points) for line in lines if line.is_in_scope)


def kept_and_paid_fen(lines: Sequence[CommissionLine]) -> tuple[int, int]:
    """Return what was kept of the lines in scope, and what was paid for them."""
    in_scope = [line for line in lines if line.is_in_scope]
    return sum(line.kept_fen for line in in_scope), sum(line.amount_fen for line in in_scope)


def with_facts(commission: Commission, order: Order, min_order_fen: int = 0) -> Commission:
    """Return the commission beside the facts of its order; the amount is not touched.

    `min_order_fen`: what the terms of a fixed sum ask of an order, and of what is kept of it.
    """
    scope = {line.line_id for line in commission.lines if line.is_in_scope}
    lines = lines_of(order, commission.basis_points, scope)
    received_at = order.received_at
    after = timedelta(days=commission.available_after_days)
    return replace(
        commission,
        lines=lines,
        is_kept=kept_and_paid_fen(lines)[0] >= max(1, min_order_fen),
        received_at=received_at,
        due_at=None if received_at is None else received_at + after,
    )


def earned_fen(commission: Commission, first_order_id: str | None) -> int:
    """Return what a commission beside its facts is worth. `first_order_id`: the invitee's first that was kept.

    A fixed sum follows the share that was kept: `fixed_fen * kept // paid`.
    """
    if commission.state == "void":
        return 0
    if commission.kind == "fixed":
        kept, paid = kept_and_paid_fen(commission.lines)
        is_first = commission.is_kept and commission.order_id == first_order_id
        earned = commission.fixed_fen * kept // paid if is_first else 0
    else:
        earned = sum(line.commission_fen for line in commission.lines)
    return earned if commission.granted_fen is None else min(earned, commission.granted_fen)


def first_order(candidates: Iterable[Commission], old: Collection[str]) -> str | None:
    """Return which of the orders of one invitee is the first that was kept, by time of payment.

    `old`: relations whose invitee was no newcomer; they have no first order.
    """
    kept = [
        (one.paid_at, one.order_id)
        for one in candidates
        if one.is_kept and one.kind == "fixed" and one.relation_id not in old
    ]
    return min(kept)[1] if kept else None


def worth(commission: Commission, amount_fen: int) -> Commission:
    """Return the commission at another amount, one revision on if it differs."""
    if commission.amount_fen == amount_fen:
        return commission
    return replace(commission, amount_fen=amount_fen, revision=commission.revision + 1)


def priced(commissions: Sequence[Commission], old: Collection[str] = ()) -> list[Commission]:
    """Return each commission beside its facts at what it is worth. Of fixed ones, all that may be first are there."""
    first = {level: first_order((one for one in commissions if one.level == level), old) for level in (1, 2)}
    return [worth(one, earned_fen(one, first[one.level])) for one in commissions]


def wanted(commissions: Sequence[Commission], old: Collection[str]) -> list[int]:
    """Return what each commission beside its facts would be worth if no day had a cap."""
    return [one.amount_fen for one in priced([replace(one, granted_fen=None) for one in commissions], old)]


def why_changed(before: Commission, after: Commission) -> Why:
    """Say what changed the amount."""
    if after.state == "void":
        return "voided"
    if before.revision == 0:
        return "paid"
    if after.amount_fen > before.amount_fen:
        return "first_order"
    lost = after.kind == "fixed" and after.is_kept and after.amount_fen == 0
    return "other_first_order" if lost else "refunded"


def step_of(before: Commission, after: Commission, at: datetime) -> CommissionStep:
    """Return what is to be remembered of a change of the amount."""
    changed = {"from_fen": before.amount_fen, "to_fen": after.amount_fen, "why": why_changed(before, after)}
    return alike(CommissionStep, after, at=at, state=before.state, **changed)


def pending_id(commission_id: str, revision: int) -> str:
    """Name the ledger's pending transfer of one revision."""
    return derived_id(commission_id, "pending", str(revision))


def change_id(commission_id: str, revision: int) -> str:
    """Name the ledger's transfer of a change after the commission was available."""
    return derived_id(commission_id, "change", str(revision))


def moves_of(changes: Sequence[tuple[Commission, Commission]]) -> Moves:
    """Return how the ledger gets from each commission's amount before to the one after.

    While pending, the transfer is replaced; once available, the difference moves. Every id is made of the commission
    and its new revision, so what is asked for twice moves once.
    """
    moves = Moves(voids=[], debits=[], credits=[])
    for before, after in changes:
        if before.state == "available":
            _move_difference(moves, before, after)
            continue
        assert before.state != "void", "a void commission is worth nothing for good"
        if before.amount_fen:
            moves.voids.append(pending_id(before.commission_id, before.revision))
        if after.amount_fen:
            moves.credits.append(_transfer(after, pending_id(after.commission_id, after.revision), after.amount_fen))
    return moves


def _move_difference(moves: Moves, before: Commission, after: Commission) -> None:
    difference = after.amount_fen - before.amount_fen
    transfer_id = change_id(after.commission_id, after.revision)
    if difference > 0:
        moves.credits.append(replace(_transfer(after, transfer_id, difference), pending=False))
        return
    moves.debits.append(
        Transfer(
            transfer_id=transfer_id,
            debit=after.inviter_id,
            credit=HOUSE,
            currency=Currency.COMMISSION,
            amount=-difference,
            reason=TAKEN_BACK,
            subject=after.commission_id,
            may_owe=True,
        )
    )


def _transfer(commission: Commission, transfer_id: str, amount_fen: int) -> Transfer:
    return Transfer(
        transfer_id=transfer_id,
        debit=HOUSE,
        credit=commission.inviter_id,
        currency=Currency.COMMISSION,
        amount=amount_fen,
        reason=EARNED,
        subject=commission.commission_id,
        pending=True,
    )


def month_of(at: datetime, zone: ZoneInfo) -> date:
    """Return the first day of the month that `at` is in, in the merchant's zone."""
    return at.astimezone(zone).date().replace(day=1)


def transfer_of(step: CommissionStep) -> str | None:
    """Name the ledger's transfer of one step; None where a hold was given up and nothing took its place."""
    if step.state == "available":
        return change_id(step.commission_id, step.revision)
    return pending_id(step.commission_id, step.revision) if step.to_fen else None
