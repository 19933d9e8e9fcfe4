"""Dead letters are tried again: what an operator asked for, and what only a newer release can read."""

from collections.abc import Iterable

import structlog

from growth.plumbing import dead_letters
from growth.plumbing.outbox import Subscription, hand
from growth.plumbing.periodic import LeaseLost, Turn
from growth.plumbing.postgres import Database, Tx
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("outbox")

RETRY_BATCH = 50


class _NobodyReads(Exception):
    """Nobody reads under this name any more."""


class _StillUnread(Exception):
    """This process cannot read it either."""


class Retries:
    """A task for the schedule."""

    def __init__(self, database: Database, subscriptions: Iterable[Subscription]) -> None:
        self._database = database
        self._subscriptions = {one.name: one for one in subscriptions}
        self._unread_after = 0
        """Unread letters up to this one were tried by this process: it will not know more than it does."""

    async def retry_due(self, turn: Turn) -> int:
        """Try the next letters, each in a transaction of its own; return how many were looked at."""
        found = await dead_letters.due(self._database, self._unread_after, RETRY_BATCH)
        for row in found:
            await self._retry(turn, row["letter"], row["subscription"])
            if row["reason"] == "unread":
                self._unread_after = max(self._unread_after, row["letter"])
        return len(found)

    async def _retry(self, turn: Turn, letter: int, name: str) -> None:
        try:
            async with turn.transaction(everyone=True) as tx:
                await self._handle(tx, letter, name)
        except (Unavailable, LeaseLost):
            raise
        except Exception as error:  # noqa: BLE001 - it stays a dead letter, with the newest reason
            async with turn.transaction() as tx:
                why: dead_letters.Why = "unread" if isinstance(error, _StillUnread) else "failed"
                await dead_letters.put_back(tx, letter, why, error)
            log.warning("dead_letter.failed_again", subscription=name, letter=letter, error=dead_letters.told(error))
        else:
            log.info("dead_letter.handled", subscription=name, letter=letter)

    async def _handle(self, tx: Tx, letter: int, name: str) -> None:
        row = await dead_letters.take(tx, letter)
        if row is None:
            return
        subscription = self._subscriptions.get(name)
        if subscription is None:
            raise _NobodyReads(name)
        if await hand(tx, subscription, [row]):
            raise _StillUnread(row["type"])
