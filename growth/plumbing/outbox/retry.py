"""Dead letters are tried again: what an operator asked for, and what only a newer release can read."""

from collections.abc import Iterable

import structlog

from growth.plumbing.outbox import dead_letters
from growth.plumbing.outbox.outbox import Subscription, hand
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.work.periodic import LeaseLost, Turn
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
        self._again_after: int | None = None
        """But behind this one the outside failed: when all others had their go, those from there on have another."""

    async def retry_due(self, turn: Turn) -> int:
        """Try the next letters, each in a transaction of its own; return how many were looked at.

        None keeps another from being tried. Where the outside fails, who asked for the letter sees that it failed
        again, and why; an unread one, for which nobody asked, gets another go by itself.
        """
        found = await dead_letters.due(self._database, self._unread_after, RETRY_BATCH)
        for row in found:
            is_unread = row["reason"] == "unread"
            error = await self._retry(turn, row["letter"], row["subscription"], is_unread=is_unread)
            if is_unread:
                self._unread_after = max(self._unread_after, row["letter"])
                if isinstance(error, Unavailable):
                    before = row["letter"] - 1
                    self._again_after = before if self._again_after is None else min(self._again_after, before)
        if len(found) < RETRY_BATCH and self._again_after is not None:
            self._unread_after, self._again_after = self._again_after, None
        return len(found)

    async def _retry(self, turn: Turn, letter: int, name: str, *, is_unread: bool) -> Exception | None:
        """Return what went wrong."""
        try:
            async with turn.transaction(everyone=True) as tx:
                await self._handle(tx, letter, name)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - it stays a dead letter, with the newest reason
            stays_unread = isinstance(error, _StillUnread) or (is_unread and isinstance(error, Unavailable))
            # If nothing can be written either, this raises, and the round ends.
            async with turn.transaction() as tx:
                await dead_letters.put_back(tx, letter, "unread" if stays_unread else "failed", error)
            log.warning("dead_letter.failed_again", subscription=name, letter=letter, error=dead_letters.told(error))
            return error
        log.info("dead_letter.handled", subscription=name, letter=letter)
        return None

    async def _handle(self, tx: Tx, letter: int, name: str) -> None:
        row = await dead_letters.take(tx, letter)
        if row is None:
            return
        subscription = self._subscriptions.get(name)
        if subscription is None:
            raise _NobodyReads(name)
        if await hand(tx, subscription, [row]):
            raise _StillUnread(row["type"])
