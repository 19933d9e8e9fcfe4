"""What the clock does to withdrawals: sends what is approved, asks for what is under way."""

import asyncio
from datetime import timedelta

from growth.plumbing.postgres.database import Database
from growth.plumbing.work.periodic import Turn
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency
from growth.rewards.withdrawal.model import FIRST_LOOK, next_look
from growth.rewards.withdrawal.payout.calls import look, send
from growth.rewards.withdrawal.payout.model import Payout
from growth.rewards.withdrawal.service import give_back
from growth.rewards.withdrawal.store import withdrawals as store

SEND_BATCH = 20
"""Withdrawals sent at once; and asked for."""
PRUNE_BATCH = 1_000
DAYS_KEPT = timedelta(days=60)


class WithdrawalKeeper:
    """Tasks for the schedule. With a payout by hand there is nothing to send and nobody to ask."""

    def __init__(self, database: Database, payout: Payout) -> None:
        self._database = database
        self._payout = payout

    async def send_approved(self, turn: Turn) -> int:
        """Send approved withdrawals, each after `paying` was committed. Who came to owe meanwhile gets nothing."""
        if self._payout.is_by_hand:
            return 0
        async with turn.transaction(everyone=True) as tx:
            approved = await store.lock_approved(tx, self._payout.name, SEND_BATCH)
            covered = []
            for one in approved:
                balance = (await ledger.balances(tx, one.user_id))[Currency.COMMISSION]
                if balance.available >= 0:
                    covered.append(one)
                    await store.begin_paying(tx, one.withdrawal_id, turn.now, turn.now + FIRST_LOOK)
                    continue
                rejected = await store.end(tx, one.withdrawal_id, ["approved"], "rejected", turn.now, reason="owed")
                assert rejected is not None, "locked, so nobody else moved it"
                await give_back(tx, rejected, turn.now)
        await asyncio.gather(*[send(self._database, self._payout, one, turn.now) for one in covered])
        return len(approved)

    async def look_at_paying(self, turn: Turn) -> int:
        """Ask the payout service for withdrawals in `paying`. The next look is set first: a process may die."""
        if self._payout.is_by_hand:
            return 0
        async with turn.transaction() as tx:
            due = await store.lock_to_look_at(tx, self._payout.name, turn.now, SEND_BATCH)
            for one in due:
                await store.look_later(tx, one.withdrawal_id, next_look(one.looks, turn.now), None)
        await asyncio.gather(*[look(self._database, self._payout, one, turn.now) for one in due])
        return len(due)

    async def forget_days(self, turn: Turn) -> int:
        """Forget the counts of days long past."""
        async with turn.transaction() as tx:
            return await store.prune_days(tx, (turn.now - DAYS_KEPT).date(), PRUNE_BATCH)
