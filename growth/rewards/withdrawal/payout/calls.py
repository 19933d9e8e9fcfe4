"""Calls the payout service, and draws the conclusion of what it says: each withdrawal ends once."""

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from typing import Literal

import structlog
from prometheus_client import Counter

from growth.plumbing.postgres.database import Database
from growth.rewards.withdrawal import model
from growth.rewards.withdrawal.model import PayoutDecision, Said, Withdrawal
from growth.rewards.withdrawal.payout.model import Payout, PayoutOrder
from growth.rewards.withdrawal.service import give_back, pay_out
from growth.rewards.withdrawal.store import withdrawals as store

log = structlog.get_logger("withdrawal")

ANSWER_SECONDS = 10.0
"""For one call of the payout service; then it counts as unanswered."""

_verdicts = Counter("growth_payout_verdicts_total", "What followed from answers of the payout service.", ["verdict"])


async def send(database: Database, payout: Payout, withdrawal: Withdrawal, now: datetime) -> None:
    """Send a withdrawal in `paying`, and draw the conclusion. May be called again: the number is the same."""
    payee = withdrawal.payee
    order = PayoutOrder(
        number=withdrawal.withdrawal_id,
        user_id=withdrawal.user_id,
        account=None if payee is None else (payee.kind, payee.account, payee.name),
        amount_fen=withdrawal.payout_fen,
    )
    said = await _answer(payout.send(order), withdrawal, "send")
    await conclude(database, withdrawal, model.verdict_on(withdrawal, said, asked="send"), now)


async def look(database: Database, payout: Payout, withdrawal: Withdrawal, now: datetime) -> PayoutDecision:
    """Ask what became of a withdrawal in `paying`, and draw the conclusion; return it."""
    said = await _answer(payout.query(withdrawal.withdrawal_id), withdrawal, "query")
    verdict = model.verdict_on(withdrawal, said, asked="query")
    if verdict.then == "send_again":
        await send(database, payout, withdrawal, now)
    else:
        await conclude(database, withdrawal, verdict, now)
    return verdict


async def _answer(call: Awaitable[Said], withdrawal: Withdrawal, asked: Literal["send", "query"]) -> Said | None:
    """Return the answer; None if there was none, or none that could be read."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await call
    except Exception as error:  # noqa: BLE001 - whatever it is, it says nothing of the money
        log.warning("withdrawal.payout_silent", id=withdrawal.withdrawal_id, asked=asked, error=repr(error))
        return None


async def conclude(database: Database, withdrawal: Withdrawal, verdict: PayoutDecision, now: datetime) -> None:
    """Write down what follows, if the withdrawal is still in `paying`: an answer told twice is told in vain."""
    _verdicts.labels(verdict.then).inc()
    async with database.transaction(everyone=True) as tx:
        one, said = withdrawal.withdrawal_id, verdict.said
        if verdict.then == "paid":
            if paid := await store.end(tx, one, ["paying"], "paid", now, reference=verdict.reference, said=said):
                await pay_out(tx, paid, now)
        elif verdict.then == "failed":
            if failed := await store.end(tx, one, ["paying"], "failed", now, reason="payout_failed", said=said):
                await give_back(tx, failed, now)
        else:
            await store.look_later(tx, one, model.next_look(withdrawal.looks, now), said)
