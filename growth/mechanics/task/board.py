"""What this process remembers of the tasks that shoppers may see, never older than `MAX_AGE_SECONDS`."""

import asyncio
import time
from datetime import datetime, timedelta

from growth.mechanics.task import store
from growth.mechanics.task.model import Task
from growth.plumbing.postgres.database import Database

MAX_AGE_SECONDS = 0.3
"""So long after an operator's change some process may still show what was before."""
ENDED_SHOWN = timedelta(days=1)


class TaskBoard:
    """The list of tasks, read once for all who ask in one moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tasks: list[Task] = []
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def visible(self, now: datetime) -> list[Task]:
        """Return published and paused tasks that have opened, and those that ended within a day: what is over last."""
        if time.monotonic() - self._read_at > MAX_AGE_SECONDS:
            async with self._lock:
                if time.monotonic() - self._read_at > MAX_AGE_SECONDS:
                    asked_at = time.monotonic()
                    self._tasks = await store.visible_tasks(self._database, now - ENDED_SHOWN)
                    self._read_at = asked_at
        return [task for task in self._tasks if task.counts_from <= now]

    def forget(self) -> None:
        """Read anew when next asked: an operator has just changed something here."""
        self._read_at = float("-inf")
