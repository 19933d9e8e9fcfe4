"""Readiness: whether this process can do what requests ask of the stores, which is to write, not merely to answer."""

import asyncio
import time

from growth.plumbing.postgres.database import Database
from growth.plumbing.redis.client import AnyRedis
from growth.plumbing.redis.lua import Script
from growth.vocabulary.refusals import Unavailable

READY_FOR_SECONDS = 1.0
"""Probes of many balancers share one look at the stores."""
READY_WAIT_SECONDS = 2.0

KEY = "growth:ready"

_write = Script.beside(__file__, "ready.lua")


class Readiness:
    """Whether the stores take writes, looked at once a second at most."""

    def __init__(self, database: Database, redis: AnyRedis) -> None:
        self._database = database
        self._redis = redis
        self._looked_at = float("-inf")
        self._trouble: str | None = None
        self._lock = asyncio.Lock()

    async def trouble(self) -> str | None:
        """Return what is wrong, or None."""
        async with self._lock:
            if time.monotonic() - self._looked_at > READY_FOR_SECONDS:
                self._trouble = await self._of_postgres() or await self._of_redis()
                self._looked_at = time.monotonic()
            return self._trouble

    async def _of_postgres(self) -> str | None:
        """Ask for a transaction id, as every write does. Refused near wraparound and in recovery; no row is written."""
        try:
            async with asyncio.timeout(READY_WAIT_SECONDS):
                can_write = await self._database.fetchval(
                    """
                    SELECT CASE
                               WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN FALSE
                               ELSE pg_current_xact_id() IS NOT NULL
                           END
                    """
                )
        except (Unavailable, TimeoutError):
            return "Postgres does not answer, or assigns no transaction id"
        return None if can_write else "Postgres is read-only"

    async def _of_redis(self) -> str | None:
        try:
            async with asyncio.timeout(READY_WAIT_SECONDS):
                await self._redis.ping()
        except Exception:  # noqa: BLE001 - whatever the client says, it cannot be reached
            return "Redis does not answer"
        try:
            async with asyncio.timeout(READY_WAIT_SECONDS):
                await _write(self._redis, [KEY], [])
        except Exception:  # noqa: BLE001 - full, read-only, busy with a script: a claim would find the same
            return "Redis takes no writes"
        return None
