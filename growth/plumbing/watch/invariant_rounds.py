"""Rounds of invariants in a shop that grows: each sentence by itself, with its own time, on a connection of its own.

One round at a time in a process; who asks meanwhile shares it. A sentence that takes too long is told as slow, one that
cannot be asked as failed, and the others are asked all the same. Long tables are looked at a page at a time
(`invariants.Page`): the newest rows in each round, and the next ones of a walk that begins anew when it has ended.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import structlog
from msgspec import Struct

from growth.plumbing.outbox.dead_letters import told
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.watch.invariants import Invariant, KeyPage, Violation, all_invariants, rows_of
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("invariants")

SENTENCE_SECONDS = 20.0
"""For one statement."""
ROUND_SECONDS = 240.0
"""For all. Those that were not reached are asked first in the next round."""
ASK_SECONDS = 20.0
"""So long an operator waits for a round; then they hear what is known so far."""
DEAR_SECONDS = 1.0
"""A round that took longer is not repeated for whoever asks again, but told again: see `REST`."""
REST = 10.0
"""So many times as long as a dear round took, its answer is told again. Whoever asks all the time uses a tenth."""

State: TypeAlias = Literal["holds", "violated", "slow", "failed"]


class SentenceOutcome(Struct, frozen=True):
    """What became of one sentence."""

    room: str
    name: str
    state: State
    rows: list[dict[str, Any]]
    error: str = ""


class Unanswered(Struct, frozen=True):
    """A sentence of which it is not known whether it holds."""

    room: str
    name: str
    error: str
    """Empty if it took too long."""


class Walk(Struct, frozen=True):
    """How far a sentence has walked through a table that is too long to be read at once."""

    room: str
    name: str
    table: str
    is_under_way: bool
    """False if the last round looked at the whole table."""
    began_at: datetime
    walked_at: datetime | None
    """When every row had been looked at, the last time."""


class InvariantRound(Struct):
    """One go through all sentences; it grows until `ended_at` is set."""

    began_at: datetime
    walks: bool = False
    """Whether it moves on through long tables."""
    outcomes: list[SentenceOutcome] = []
    ended_at: datetime | None = None
    seconds: float = 0.0

    def violations(self) -> list[Violation]:
        """Return what does not hold."""
        return [Violation(one.room, one.name, one.rows) for one in self.outcomes if one.state == "violated"]

    def unanswered(self, state: State) -> list[Unanswered]:
        """Return those that were `slow`, or `failed`."""
        return [Unanswered(one.room, one.name, one.error) for one in self.outcomes if one.state == state]


class InvariantRounds:
    """Runs rounds in this process, one at a time."""

    def __init__(self, database: Database, invariants: Sequence[Invariant] | None = None) -> None:
        """`database`: of its own, of one connection; its statements end after `SENTENCE_SECONDS`."""
        self._database = database
        self._invariants = list(all_invariants() if invariants is None else invariants)
        self._task: asyncio.Task[None] | None = None
        self._round: InvariantRound | None = None
        self._rested_at = 0.0

    async def ask(self, now: datetime, seconds: float | None = None, *, walks: bool = False) -> InvariantRound:
        """Return a round that was under way, or was run for this, or the last one if rounds are dear.

        After `seconds` it is returned as far as it is. `walks`: the next round looks at the next pages; who only
        asks changes nothing.
        """
        if self._task is None or self._task.done():
            if self._round is not None and time.monotonic() < self._rested_at:
                return self._round
            self._round = InvariantRound(now, walks)
            self._task = asyncio.create_task(self._run(self._round), name="invariants")
        # Whoever goes away leaves it to the others.
        await asyncio.wait([self._task], timeout=seconds)
        assert self._round is not None
        return self._round

    async def close(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._database.close()

    async def walks(self, reader: Reader) -> list[Walk]:
        """Return how far each sentence of a long table is."""
        return await _walks(reader, {(one.room, one.name): one.page for one in self._invariants if one.page})

    async def _run(self, round_: InvariantRound) -> None:
        began = time.monotonic()
        late: list[Invariant] = []
        for invariant in list(self._invariants):
            if time.monotonic() - began > ROUND_SECONDS:
                late.append(invariant)
                round_.outcomes.append(SentenceOutcome(invariant.room, invariant.name, "slow", []))
            else:
                round_.outcomes.append(await self._judge(invariant, round_))
        # Whom it did not reach comes first next time.
        self._invariants = late + [one for one in self._invariants if one not in late]
        round_.seconds = time.monotonic() - began
        round_.ended_at = round_.began_at + timedelta(seconds=round_.seconds)
        if round_.seconds > DEAR_SECONDS:
            self._rested_at = time.monotonic() + round_.seconds * REST

    async def _judge(self, invariant: Invariant, round_: InvariantRound) -> SentenceOutcome:
        try:
            rows = await self._rows(invariant, round_)
        except Exception as error:  # noqa: BLE001 - it says nothing of the other sentences
            cause = error.__cause__ or error
            is_slow = isinstance(error, Unavailable) and isinstance(cause, TimeoutError)
            why = "" if is_slow else told(cause)
            return SentenceOutcome(invariant.room, invariant.name, "slow" if is_slow else "failed", [], why)
        return SentenceOutcome(invariant.room, invariant.name, "violated" if rows else "holds", rows)

    async def _rows(self, invariant: Invariant, round_: InvariantRound) -> list[dict[str, Any]]:
        if invariant.page is None:
            return await self._asked(invariant.sql)
        page = invariant.page
        after = await _place_of(self._database, invariant)
        until = await _key(self._database, page, after, newest=False)
        sql, arguments = invariant.between(after, until)
        rows = await self._asked(sql, *arguments)
        if page.grows and (after, until) != (None, None):
            sql, arguments = invariant.between(await _key(self._database, page, None, newest=True), None)
            rows += [row for row in await self._asked(sql, *arguments) if row not in rows]
        if round_.walks:
            await _remember(self._database, invariant, after, until, round_.began_at)
        return rows

    async def _asked(self, sql: str, *arguments: str) -> list[dict[str, Any]]:
        async with self._database.transaction() as tx:
            # One process of the server's, however large the tables: shoppers use the others.
            await tx.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            return await rows_of(tx, sql, *arguments)


async def _place_of(reader: Reader, invariant: Invariant) -> list[str] | None:
    found: list[str] | None = await reader.fetchval(
        """
        SELECT after
        FROM plumbing.invariant_walks
        WHERE room = $1
          AND name = $2
        """,
        invariant.room,
        invariant.name,
    )
    assert invariant.page is not None
    # A release may have another key.
    return found if found is not None and len(found) == len(invariant.page.keys) else None


async def _key(reader: Reader, page: KeyPage, after: list[str] | None, *, newest: bool) -> list[str] | None:
    """Return the key of the last row of the page behind `after`; None if the table ends in it.

    `newest`: of the row before the last page of all.
    """
    columns = [f"item.{name}" for name, _ in page.keys]
    order = ", ".join(f"{name} DESC" if newest else name for name in columns)
    rows = await reader.fetch(
        f"""
        SELECT {", ".join(f"{name}::text" for name in columns)}
        FROM {page.table} AS item
        WHERE {"TRUE" if after is None else f"({page.columns}) > ({page.of(after, 1)})"}
        ORDER BY {order}
        OFFSET {page.rows - 1}
        LIMIT 2
        """,  # noqa: S608 - names of our own files
        *(after or []),
    )
    # The last row of the page, and the one behind it, without which there is nothing to go on to.
    if len(rows) < 2:  # noqa: PLR2004 - the two
        return None
    return [str(value) for value in rows[newest].values()]


async def _remember(
    database: Database, invariant: Invariant, after: list[str] | None, until: list[str] | None, now: datetime
) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO plumbing.invariant_walks AS walk (room, name, after, began_at, walked_at)
            VALUES ($1, $2, $3::text[], $5::timestamptz, CASE WHEN $3::text[] IS NULL THEN $5::timestamptz END)
            ON CONFLICT (room, name) DO UPDATE
            SET after = excluded.after,
                began_at = CASE WHEN $4::boolean THEN $5::timestamptz ELSE walk.began_at END,
                walked_at = coalesce(excluded.walked_at, walk.walked_at)
            """,
            invariant.room,
            invariant.name,
            until,
            after is None,
            now,
        )


async def _walks(reader: Reader, pages: dict[tuple[str, str], KeyPage]) -> list[Walk]:
    rows = await reader.fetch(
        """
        SELECT room, name, after IS NOT NULL AS is_under_way, began_at, walked_at
        FROM plumbing.invariant_walks
        ORDER BY room, name
        """
    )
    return [
        Walk(
            row["room"],
            row["name"],
            pages[row["room"], row["name"]].table,
            row["is_under_way"],
            row["began_at"],
            row["walked_at"],
        )
        for row in rows
        if (row["room"], row["name"]) in pages
    ]


async def forget(tx: Tx, user_id: str) -> None:
    """Begin those walks anew that stand at a shopper who is erased."""
    await tx.execute(
        """
        UPDATE plumbing.invariant_walks
        SET after = NULL
        WHERE $1 = ANY (after)
        """,
        user_id,
    )
