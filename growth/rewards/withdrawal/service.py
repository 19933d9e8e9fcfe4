"""What shoppers do with withdrawals, and how each ends. Money is set aside, leaves or comes back in the same step."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from growth.plumbing.http.idempotency import Once, fingerprint, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.rewards.ledger import model as ledger_model
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency
from growth.rewards.withdrawal import model
from growth.rewards.withdrawal.model import Payee, Withdrawal, WithdrawalFilter, WithdrawalRules
from growth.rewards.withdrawal.store import payees
from growth.rewards.withdrawal.store import rules as rules_store
from growth.rewards.withdrawal.store import withdrawals as store
from growth.vocabulary.alike import alike
from growth.vocabulary.events.commission import (
    WithdrawalCancelled,
    WithdrawalEvent,
    WithdrawalFailed,
    WithdrawalPaid,
    WithdrawalRejected,
    WithdrawalRequested,
)
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal

_ENDS: Mapping[str, type[WithdrawalEvent]] = {
    "cancelled": WithdrawalCancelled,
    "failed": WithdrawalFailed,
    "rejected": WithdrawalRejected,
}
"""What is told of a withdrawal that ended, and was not paid."""


class Withdrawals:
    """The shoppers' side of withdrawals."""

    def __init__(self, database: Database, zone: ZoneInfo) -> None:
        self._database = database
        self._zone = zone

    async def request(self, user_id: str, amount_fen: int, key: str | None, now: datetime) -> Once[Withdrawal]:
        """Set money aside and ask for it.

        Raises `Refusal` 409: `withdrawal.below_minimum` (`min_fen`), `.one_open` (`withdrawal_id`), `.day_limit`,
        `.insufficient` (`available_fen`), `.owed` (`owed_fen`); nothing is set aside then.
        """
        try:
            async with self._database.transaction(people=[user_id]) as tx:
                return await once(
                    tx,
                    scope="POST withdrawals",
                    person=user_id,
                    key=key,
                    content=fingerprint(str(amount_fen)),
                    answer_type=Withdrawal,
                    work=partial(self._request, tx, user_id, amount_fen, now),
                    now=now,
                )
        except Refusal as refusal:
            if refusal.kind is not ledger_model.INSUFFICIENT:
                raise
        # Asked once more when nothing of the try is left: what is told is what there is.
        available = (await ledger.balances(self._database, user_id))[Currency.COMMISSION].available
        if available < 0:
            raise Refusal(model.OWED, f"{-available} fen are owed.", owed_fen=-available)
        raise Refusal(model.INSUFFICIENT, f"{available} fen are available.", available_fen=available)

    async def _request(self, tx: Tx, user_id: str, amount_fen: int, now: datetime) -> Withdrawal:
        _, rules = await rules_store.find(tx)
        if amount_fen < rules.min_fen:
            raise Refusal(model.BELOW_MINIMUM, f"At least {rules.min_fen} fen.", min_fen=rules.min_fen)
        withdrawal = Withdrawal(
            withdrawal_id=new_id(now),
            user_id=user_id,
            amount_fen=amount_fen,
            fee_fen=model.fee_of(amount_fen, rules.fee_fen),
            payee=await payees.find(tx, user_id),
            state="requested",
            requested_at=now,
        )
        day = now.astimezone(self._zone).date()
        if not await store.add(tx, withdrawal, day):
            is_open = await store.find_open(tx, user_id)
            raise Refusal(model.ONE_OPEN, withdrawal_id=None if is_open is None else is_open.withdrawal_id)
        if not await store.take_day(tx, user_id, day, amount_fen, rules):
            raise Refusal(
                model.DAY_LIMIT,
                f"At most {rules.max_per_day} a day, of {rules.max_fen_per_day} fen together.",
                max_per_day=rules.max_per_day,
                max_fen_per_day=rules.max_fen_per_day,
            )
        await ledger.transfer(tx, model.holds_of(withdrawal), now)
        await emit(tx, alike(WithdrawalRequested, withdrawal, at=now))
        return withdrawal

    async def find(self, withdrawal_id: str, user_id: str) -> Withdrawal:
        """Return one of a shopper's withdrawals. Raises `Refusal` 404, also for another's."""
        found = await store.find(self._database, withdrawal_id)
        if found is None or found.user_id != user_id:
            raise Refusal(model.NOT_FOUND)
        return found

    async def page(self, user_id: str, before: str | None, limit: int) -> list[Withdrawal]:
        """Return a shopper's withdrawals, newest first."""
        return await store.page(self._database, WithdrawalFilter(user_id=user_id), before=before, limit=limit)

    async def cancel(self, withdrawal_id: str, user_id: str, now: datetime) -> Withdrawal:
        """Take back what nobody has approved; again: the same. Raises `Refusal` 404, or 409 when it is too late."""
        found = await self.find(withdrawal_id, user_id)
        async with self._database.transaction(people=[user_id]) as tx:
            ended = await store.end(tx, withdrawal_id, ["requested"], "cancelled", now)
            if ended is not None:
                await give_back(tx, ended, now)
                return ended
        found = await self.find(withdrawal_id, user_id)
        if found.state != "cancelled":
            raise Refusal(model.WRONG_STATE, f"It is {found.state}.", state=found.state)
        return found

    async def payee(self, user_id: str) -> Payee:
        """Return where a shopper's money goes. Raises `Refusal` 404 if they named no account."""
        payee = await payees.find(self._database, user_id)
        if payee is None:
            raise Refusal(model.NO_PAYEE)
        return payee

    async def change_payee(self, user_id: str, payee: Payee, now: datetime) -> Payee:
        """Send what is withdrawn from now on there; what was asked for before keeps its account."""
        async with self._database.transaction(people=[user_id]) as tx:
            await payees.keep(tx, user_id, payee, now)
        return payee


async def rules_of(reader: Reader) -> WithdrawalRules:
    """Return the rules in force."""
    _, rules = await rules_store.find(reader)
    return rules


async def accounts_of(reader: Reader, user_ids: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Return the kind and number of the account that each shopper's money goes to; who named none is missing."""
    return await payees.accounts(reader, user_ids)


async def withdrawn_fen(reader: Reader, user_id: str) -> int:
    """Return what a shopper was ever paid, fees included."""
    return await store.withdrawn_fen(reader, user_id)


async def pay_out(tx: Tx, paid: Withdrawal, now: datetime) -> None:
    """Let the money leave of a withdrawal that has just become `paid`, and tell."""
    await ledger.post(tx, {hold.transfer_id: None for hold in model.holds_of(paid)}, now)
    await emit(tx, alike(WithdrawalPaid, paid, at=now))


async def give_back(tx: Tx, ended: Withdrawal, now: datetime) -> None:
    """Give the money back of a withdrawal that has just ended otherwise, and tell."""
    await store.give_day_back(tx, ended.withdrawal_id)
    await ledger.void(tx, [hold.transfer_id for hold in model.holds_of(ended)], now)
    await emit(tx, alike(_ENDS[ended.state], ended, at=now))
