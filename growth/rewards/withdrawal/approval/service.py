"""What operators do with withdrawals. Each act is one transaction with its audit entry."""

from collections.abc import Sequence

from msgspec.structs import replace

from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency
from growth.rewards.withdrawal import model
from growth.rewards.withdrawal.model import (
    FailReason,
    RejectReason,
    State,
    Withdrawal,
    WithdrawalFilter,
    WithdrawalRules,
)
from growth.rewards.withdrawal.payout.calls import look
from growth.rewards.withdrawal.payout.model import Payout
from growth.rewards.withdrawal.service import give_back, pay_out
from growth.rewards.withdrawal.store import rules as rules_store
from growth.rewards.withdrawal.store import withdrawals as store
from growth.vocabulary.alike import alike
from growth.vocabulary.events.commission import WithdrawalApproved
from growth.vocabulary.refusals import Refusal


class Approvals:
    """The operators' side of withdrawals."""

    def __init__(self, database: Database, payout: Payout) -> None:
        self._database = database
        self._payout = payout

    async def find(self, withdrawal_id: str) -> Withdrawal:
        """Return a withdrawal. Raises `Refusal` 404."""
        return await _find(self._database, withdrawal_id)

    async def page(self, which: WithdrawalFilter, before: str | None, limit: int) -> list[Withdrawal]:
        """Return withdrawals, newest first."""
        return await store.page(self._database, which, before=before, limit=limit)

    async def approve(self, act: Act, withdrawal_id: str) -> Withdrawal:
        """Approve a withdrawal: it will be paid. Raises `Refusal` 409 in another state, or if its shopper owes."""
        async with self._database.transaction(everyone=True) as tx:
            before = await _find(tx, withdrawal_id)
            after = await store.approve(tx, withdrawal_id, self._payout.name, act.now)
            if after is None:
                raise await _wrong_state(tx, withdrawal_id)
            owed_fen = -(await ledger.balances(tx, after.user_id))[Currency.COMMISSION].available
            if owed_fen > 0:
                raise Refusal(model.OWED, f"{owed_fen} fen were taken back since; reject it.", owed_fen=owed_fen)
            await _audit(tx, act, "approve", before, after)
            await emit(tx, alike(WithdrawalApproved, after, at=act.now))
        return after

    async def reject(self, act: Act, withdrawal_id: str, reason: RejectReason) -> Withdrawal:
        """Reject a withdrawal, and give the money back. Raises `Refusal` 409 once it may have been sent."""
        return await self._end(act, withdrawal_id, "reject", ("requested", "approved"), "rejected", reason=reason)

    async def mark_paid(self, act: Act, withdrawal_id: str, reference: str | None) -> Withdrawal:
        """Mark a withdrawal as paid: by hand, or as the payout service's own records show.

        Raises `Refusal` 409 in another state.
        """
        by_hand = (await self.find(withdrawal_id)).payout == "manual"
        states = ("approved", "paying") if by_hand else ("paying",)
        return await self._end(act, withdrawal_id, "mark_paid", states, "paid", reference=reference)

    async def mark_failed(self, act: Act, withdrawal_id: str, reason: FailReason) -> Withdrawal:
        """Mark a withdrawal as failed, and give the money back.

        Of one that a payout service was asked to pay, only that service knows: it is asked, and unless it says
        "failed", the answer is `Refusal` `withdrawal.payout_unknown` 409. Raises `Refusal` 409 in another state.
        """
        before = await self.find(withdrawal_id)
        if before.payout != "manual":
            return await self._ask_whether_failed(act, before)
        return await self._end(act, withdrawal_id, "mark_failed", ("approved",), "failed", reason=reason)

    async def _end(
        self, act: Act, withdrawal_id: str, action: str, from_states: Sequence[str], state: State, **told: str | None
    ) -> Withdrawal:
        """End a withdrawal that is in one of `from_states`: the money leaves, or is given back."""
        async with self._database.transaction(everyone=True) as tx:
            before = await _find(tx, withdrawal_id)
            after = await store.end(tx, withdrawal_id, from_states, state, act.now, **told)
            if after is None:
                raise await _wrong_state(tx, withdrawal_id)
            await (pay_out if state == "paid" else give_back)(tx, after, act.now)
            await _audit(tx, act, action, before, after)
        return after

    async def _ask_whether_failed(self, act: Act, before: Withdrawal) -> Withdrawal:
        if before.state != "paying" or before.payout != self._payout.name:
            raise Refusal(model.WRONG_STATE, f"It is {before.state}.", state=before.state)
        verdict = await look(self._database, self._payout, before, act.now)
        after = await self.find(before.withdrawal_id)
        if after.state != "failed":
            raise Refusal(model.PAYOUT_UNKNOWN, f"It says: {verdict.said}.", state=after.state, said=verdict.said)
        async with self._database.transaction(everyone=True) as tx:
            await _audit(tx, act, "mark_failed", before, after)
        return after

    async def rules(self) -> tuple[int, WithdrawalRules]:
        """Return the version of the rules, and the rules."""
        return await rules_store.find(self._database)

    async def change_rules(self, act: Act, version: int, rules: WithdrawalRules) -> int:
        """Write rules over those at `version`; return the new one. Raises `Refusal`: 400; 412 if somebody else has."""
        if found := model.faults(rules):
            raise invalid(*found)
        async with self._database.transaction() as tx:
            _, before = await rules_store.find(tx)
            if not await rules_store.change(tx, version, rules):
                raise Refusal(model.RULES_CHANGED)
            await audit.record(tx, act, "withdrawal_rules.change", "withdrawal", before=before, after=rules)
        return version + 1


async def _find(reader: Reader, withdrawal_id: str) -> Withdrawal:
    found = await store.find(reader, withdrawal_id)
    if found is None:
        raise Refusal(model.NOT_FOUND)
    return found


async def _wrong_state(tx: Tx, withdrawal_id: str) -> Refusal:
    """Read in the caller's transaction: with a second connection a crowd would wait for each other's."""
    found = await _find(tx, withdrawal_id)
    return Refusal(model.WRONG_STATE, f"It is {found.state}.", state=found.state)


async def _audit(tx: Tx, act: Act, action: str, before: Withdrawal, after: Withdrawal) -> None:
    """Write the audit entry, without the account: the audit is kept for good, and an account may have to be erased."""
    await audit.record(
        tx,
        act,
        f"withdrawal.{action}",
        after.withdrawal_id,
        before=replace(before, payee=None),
        after=replace(after, payee=None),
        reason=after.reason or act.reason,
    )
