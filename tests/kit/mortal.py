"""Processes that die between two steps, or do not hear what became of their COMMIT."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from growth.plumbing.postgres.database import CommitUnknown, Database, Tx
from growth.vocabulary.refusals import Unavailable
from tests.kit.stored import stored

MAX_STEPS = 90
LEAST_STEPS = 2


class Killed(Unavailable):
    """The process is gone."""


class Mortal(Database):
    """A pool whose transactions die before their n-th statement, or (the statement after the last) before COMMIT."""

    def __init__(self, database: Database, steps: int) -> None:
        super().__init__(database.pool, acquire_seconds=60)
        self.left = steps

    def _step(self) -> None:
        if self.left == 0:
            raise Killed("gone")
        self.left -= 1

    @asynccontextmanager
    async def transaction(self, **told: Any) -> AsyncIterator[Tx]:
        async with super().transaction(**told) as tx:
            for name in ("fetch", "fetchrow", "fetchval", "execute"):
                setattr(tx, name, self._mortal(getattr(tx, name)))
            yield tx
            self._step()

    def _mortal(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any) -> Any:
            self._step()
            return await call(*args)

        return run


class Deaf(Database):
    """A pool that does not hear what became of its first COMMIT: Postgres did it, if it was `heard`."""

    def __init__(self, database: Database, *, heard: bool = True) -> None:
        super().__init__(database.pool, acquire_seconds=60)
        self.heard = heard
        self.is_first = True

    @asynccontextmanager
    async def transaction(self, **told: Any) -> AsyncIterator[Tx]:
        was_first, self.is_first = self.is_first, False
        async with super().transaction(**told) as tx:
            yield tx
            if was_first and not self.heard:
                raise CommitUnknown("lost")
        if was_first:
            raise CommitUnknown("lost")


async def dies_anywhere(database: Database, tables: Sequence[str], act: Callable[[Mortal], Awaitable[Any]]) -> None:
    """Do the act on pools that die one step later each time: nothing of it is there until all of it is."""
    before = await stored(database, *tables)
    for steps in range(MAX_STEPS):
        try:
            await act(Mortal(database, steps))
        except Killed:
            assert await stored(database, *tables) == before, f"killed before step {steps}"
            continue
        assert steps > LEAST_STEPS
        break
    else:
        pytest.fail("it never got to the end")
    assert await stored(database, *tables) != before
