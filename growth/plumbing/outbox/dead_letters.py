"""Dead letters: events that a reader could not handle, set aside (parked) so that the reader goes on.

The row is written in the transaction that moves the cursor. What comes later of the same subject is handled meanwhile:
readers take facts in any order. An operator has a letter tried again (`retry`) or passes it over (`pass_over`).
"""

import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

import asyncpg
import structlog
from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Record, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.vocabulary.refusals import Kind, Refusal, Unavailable

log = structlog.get_logger("dead_letters")

MAX_IN_A_ROW = 20
"""Failed events in a row. Then it is not the events that are wrong, and the reader stops."""
MAX_FAILED = 200
"""Failed events of one reader that wait for a person, in a row or not. Then it stops too: so many nobody looks at."""
MAX_UNREAD = 10_000
"""Events of a newer release that wait for it. They are taken up by themselves, but each is a copy of its data."""

LETTER_NOT_FOUND = Kind("dead_letter.not_found", "There is no such dead letter", 404)

ROOT = Path(__file__).parents[2]

Why: TypeAlias = Literal["unread", "failed"]


class DeadLetter(Struct, frozen=True):
    """One event that a reader could not handle. What the event says is not told here."""

    letter: int
    subscription: str
    """The reader."""
    log: str
    """The table it was read from."""
    event_id: str
    type: str
    subject: str
    at: datetime
    """When it happened."""
    request_id: str | None
    reason: Why
    """`failed`: handling it raised. `unread`: of a newer release; tried again by itself when a process knows it."""
    error: str
    """The kind of error and the place in the code; never its words, which may name a person."""
    tries: int
    parked_at: datetime
    tried_at: datetime
    retry_at: datetime | None
    """Since when it is to be tried again."""


class ReaderStopped(Exception):
    """Too many events failed: the reader waits at this one, and goes on by itself when it can be handled."""


def told(error: BaseException) -> str:
    """Say what went wrong without a word of the error's own: its kind, SQLSTATE, constraint, place."""
    if isinstance(error, Unavailable) and error.__cause__ is not None:
        error = error.__cause__
    said = [type(error).__name__]
    if isinstance(error, asyncpg.PostgresError):
        said += [part for part in (error.sqlstate, error.constraint_name) if part]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "plumbing"):
            return f"{' '.join(said)} at {path.relative_to(ROOT)}:{frame.lineno} in {frame.name}"
    return " ".join(said)


async def park(tx: Tx, subscription: str, table: str, rows: Sequence[tuple[Record, BaseException]], why: Why) -> None:
    """Set events of the log `table` aside. Raises `ReaderStopped` if too many of the reader's wait already."""
    waiting = await tx.fetchval(
        """
        SELECT count(*)
        FROM plumbing.dead_letters
        WHERE subscription = $1
          AND reason = $2
        """,
        subscription,
        why,
    )
    if waiting + len(rows) > (MAX_FAILED if why == "failed" else MAX_UNREAD):
        raise ReaderStopped(f"{waiting} events of {subscription} wait for somebody to look at them")
    await tx.executemany(
        """
        INSERT INTO plumbing.dead_letters (
            subscription, log, xid, position, event_id, type, subject, at, written_at, data, request_id, reason,
            error, parked_at, tried_at
        )
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now(), now())
        """,
        [
            (
                subscription,
                table,
                row["xid"],
                row["position"],
                str(row["event_id"]),
                row["type"],
                row["subject"],
                row["at"],
                row["written_at"],
                row["data"],
                row["request_id"],
                why,
                told(error),
            )
            for row, error in rows
        ],
    )
    for row, error in rows:
        log.error(
            "dead_letter.parked",
            subscription=subscription,
            event_id=str(row["event_id"]),
            type=row["type"],
            reason=why,
            error=told(error),
        )


def _letter(row: Record) -> DeadLetter:
    return DeadLetter(**{name: row[name] for name in DeadLetter.__struct_fields__})


async def page(reader: Reader, subscription: str | None, *, after: int, limit: int) -> list[DeadLetter]:
    """Return up to `limit` letters behind `after`, oldest first."""
    rows = await reader.fetch(
        """
        SELECT *
        FROM plumbing.dead_letters
        WHERE letter > $1
          AND ($2::text IS NULL OR subscription = $2)
        ORDER BY letter
        LIMIT $3
        """,
        after,
        subscription,
        limit,
    )
    return [_letter(row) for row in rows]


async def get(reader: Reader, letter: int) -> tuple[DeadLetter, str]:
    """Return a letter and what its event says, as JSON. Raises `Refusal` 404."""
    row = await reader.fetchrow(
        """
        SELECT *, data::text AS told
        FROM plumbing.dead_letters
        WHERE letter = $1
        """,
        letter,
    )
    if row is None:
        raise Refusal(LETTER_NOT_FOUND)
    return _letter(row), row["told"]


async def retry(tx: Tx, act: Act, letter: int) -> DeadLetter:
    """Have it tried again: a worker does within seconds, and the letter goes if its event is handled.

    Raises `Refusal` 404.
    """
    row = await tx.fetchrow(
        """
        UPDATE plumbing.dead_letters
        SET retry_at = $2
        WHERE letter = $1
        RETURNING *
        """,
        letter,
        act.now,
    )
    return await _acted(tx, act, "dead_letter.retry", row)


async def pass_over(tx: Tx, act: Act, letter: int) -> DeadLetter:
    """Give up on it: its reader never hears of the event. Raises `Refusal` 404."""
    row = await tx.fetchrow(
        """
        DELETE FROM plumbing.dead_letters
        WHERE letter = $1
        RETURNING *
        """,
        letter,
    )
    return await _acted(tx, act, "dead_letter.pass", row)


async def _acted(tx: Tx, act: Act, action: str, row: Record | None) -> DeadLetter:
    if row is None:
        raise Refusal(LETTER_NOT_FOUND)
    found = _letter(row)
    await audit.record(tx, act, action, str(found.letter), before=found)
    return found


async def due(reader: Reader, unread_after: int, limit: int) -> Sequence[Record]:
    """Return letters to try: those an operator asked for, and unread ones behind `unread_after`; by number."""
    return await reader.fetch(
        """
        SELECT letter, subscription, reason
        FROM plumbing.dead_letters
        WHERE retry_at IS NOT NULL
        UNION
        SELECT letter, subscription, reason
        FROM plumbing.dead_letters
        WHERE reason = 'unread'
          AND letter > $1
        ORDER BY letter
        LIMIT $2
        """,
        unread_after,
        limit,
    )


async def take(tx: Tx, letter: int) -> Record | None:
    """Return its event as the log had it, and delete the letter; None if it is gone, or another is at it."""
    return await tx.fetchrow(
        """
        WITH ours AS MATERIALIZED (
            SELECT letter
            FROM plumbing.dead_letters
            WHERE letter = $1
            FOR UPDATE SKIP LOCKED
        )
        DELETE FROM plumbing.dead_letters AS taken
        USING ours
        WHERE taken.letter = ours.letter
        RETURNING taken.event_id, taken.type, taken.subject, taken.at, taken.written_at,
            taken.data::text AS data, taken.request_id
        """,
        letter,
    )


async def put_back(tx: Tx, letter: int, why: Why, error: BaseException) -> None:
    """Note that it failed once more."""
    await tx.execute(
        """
        UPDATE plumbing.dead_letters
        SET reason = $2,
            error = $3,
            tries = tries + 1,
            tried_at = now(),
            retry_at = NULL
        WHERE letter = $1
        """,
        letter,
        why,
        told(error),
    )
