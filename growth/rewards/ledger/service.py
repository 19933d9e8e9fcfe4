"""Moves what shoppers hold. Whatever is asked here happens in the caller's transaction, and happens once."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.work.periodic import Turn
from growth.rewards.ledger.model import (
    INSUFFICIENT,
    Balance,
    Currency,
    LedgerEntry,
    Liabilities,
    Points,
    Transfer,
)
from growth.rewards.ledger.store import entries as store
from growth.rewards.ledger.store import lots
from growth.vocabulary.ids import HOUSE
from growth.vocabulary.refusals import Refusal

log = structlog.get_logger("ledger")

EXPIRE_BATCH = 1_000
"""Shoppers whose points are looked at in one transaction."""
FOLD_BATCH = 5_000
"""Moves of the house folded in one transaction."""


async def transfer(tx: Tx, transfers: Sequence[Transfer], now: datetime) -> frozenset[str]:
    """Move what was not moved before; return those ids. One round trip, two more where points are spent.

    Raises `Refusal` `ledger.insufficient` if a shopper has not enough; the transaction must be given up then.
    """
    if not transfers:
        return frozenset()
    _check(transfers)
    spending = [one for one in transfers if one.currency is Currency.POINTS and not one.debit.startswith(HOUSE)]
    if spending:
        owners = sorted({one.debit for one in spending})
        await lots.lock_accounts(tx, owners)
        await lots.expire(tx, owners, now)
    moved = await store.move(tx, transfers, now)
    if not moved.is_covered:
        raise Refusal(INSUFFICIENT)
    spent = [one for one in spending if one.transfer_id in moved.fresh]
    if spent:
        await lots.use_up(tx, spent)
    return moved.fresh


async def ended(tx: Tx, lots_of: Mapping[str, str], now: datetime) -> Mapping[str, int]:
    """Return how many points have ended unspent of what transfers brought; `lots_of`: transfer → whom it brought them.

    The shoppers' points are locked, and what is over is moved away first. Transfers of which nothing ended are missing.
    """
    if not lots_of:
        return {}
    owners = sorted(set(lots_of.values()))
    await lots.lock_accounts(tx, owners)
    await lots.expire(tx, owners, now)
    return await lots.ended(tx, list(lots_of))


async def post(tx: Tx, amounts: Mapping[str, int | None], now: datetime) -> frozenset[str]:
    """Post pending transfers, whole (None) or in part (the rest goes back); return the ids of those that ended now.

    Those that had ended before, by `post` or `void`, stay as they are.
    """
    assert all(amount is None or amount > 0 for amount in amounts.values())
    return await store.resolve(tx, amounts, now) if amounts else frozenset()


async def void(tx: Tx, pending_ids: Sequence[str], now: datetime) -> frozenset[str]:
    """Give pending transfers up; return the ids of those that ended now."""
    return await store.resolve(tx, dict.fromkeys(pending_ids, 0), now) if pending_ids else frozenset()


async def balances(reader: Reader, owner: str) -> Mapping[Currency, Balance]:
    """Return what a shopper has, every currency."""
    return {currency: Balance() for currency in Currency} | dict(await store.balances(reader, owner))


async def available(reader: Reader, owners: Sequence[str], currency: Currency) -> Mapping[str, int]:
    """Return what shoppers can spend in one currency; those who never had any are missing."""
    return await store.available(reader, owners, currency)


async def entries(reader: Reader, owner: str, currency: Currency, before: int | None, limit: int) -> list[LedgerEntry]:
    """Return a shopper's history, newest first; `before` is the position of the last entry seen."""
    return await store.entries(reader, owner, currency, before, limit)


async def points(reader: Reader, owner: str, now: datetime) -> Points:
    """Return the points of a shopper as they are at `now`: what is over does not count, moved away or not."""
    available = (await balances(reader, owner))[Currency.POINTS].available
    if available > 0:
        available -= await lots.over(reader, owner, now)
    return Points(
        points=max(available, 0),
        owed=max(-available, 0),
        expiring=await lots.expiring(reader, owner, now),
        server_time=now,
    )


class Ledger:
    """What the routes and the clock ask of the ledger."""

    def __init__(self, database: Database, replica: Reader, zone: str) -> None:
        """`replica` answers reports, and may be a moment behind; `zone` is the merchant's, whose months count."""
        self._database = database
        self._replica = replica
        self._zone = zone

    async def points(self, user_id: str, now: datetime) -> Points:
        """Return the points of a shopper."""
        return await points(self._database, user_id, now)

    async def entries(self, user_id: str, currency: Currency, before: int | None, limit: int) -> list[LedgerEntry]:
        """Return a shopper's history, newest first."""
        return await entries(self._database, user_id, currency, before, limit)

    async def liabilities(self, now: datetime) -> Liabilities:
        """Return what the house owes its shoppers."""
        return Liabilities(
            currencies=await store.liabilities(self._replica),
            expiring=await lots.expiring_by_month(self._replica, now, self._zone),
            at=now,
        )

    async def expire_due(self, turn: Turn) -> int:
        """Move points that are over to the house, a batch of shoppers at a time; return how many shoppers."""
        async with turn.transaction(everyone=True) as tx:
            owners = await lots.lock_due(tx, turn.now, EXPIRE_BATCH)
            if not owners:
                return 0
            ended = await lots.expire(tx, owners, turn.now)
        log.info("ledger.points_expired", shoppers=len(owners), lots=ended)
        return len(owners)

    async def fold_house(self, turn: Turn) -> int:
        """Fold the house's moves into its accounts; return how many."""
        async with turn.transaction() as tx:
            return await store.fold_house(tx, FOLD_BATCH)


def _check(transfers: Sequence[Transfer]) -> None:
    """Hold the caller to what one statement can do."""
    debited = {(one.debit, one.currency) for one in transfers if not one.debit.startswith(HOUSE)}
    credited = {(one.credit, one.currency) for one in transfers}
    assert not debited & credited, "a shopper gives and gets the same currency in one batch"
    for one in transfers:
        assert one.amount > 0, one
        assert not (one.pending and one.currency is Currency.POINTS), "points are spent at once"
        assert one.expires_at is None or one.currency is Currency.POINTS, "only points end"
