"""Erasure: takes a shopper's id out of what passes by, table by table, in the background, until it is nowhere.

Rooms take it out of what they keep at once, in the transaction that asks for it here; first answers go with it. Only
members that name a person are looked at (`PERSON_MEMBERS`): another thing may have the same id as a shopper, and an id
may be a piece of another's.

What is kept for good is asked by an index. The outbox and the queue of webhooks are read a day at a time: they hold as
many days as settings say, however old the shop is.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from growth.plumbing.http import idempotency
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.postgres.partitions import is_table
from growth.plumbing.watch import invariant_rounds
from growth.plumbing.work.periodic import Turn
from growth.vocabulary.events.base import PERSON_LISTS, PERSON_MEMBERS

log = structlog.get_logger("erasure")

SWEEP_SECONDS = 50.0
"""For one table, or one day of one: they are read whole. Less than a turn may take."""


class Swept(Struct, frozen=True):
    """A table that events pass through, with the columns that may name a shopper."""

    table: str
    """`schema.name`; a partitioned one is swept a day at a time."""
    document: str
    """A column that holds JSON."""
    type: str
    """Its type: json, jsonb or text."""
    subject: str | None = None
    """A column that may be the id itself."""
    is_indexed: bool = False
    """Whether those whom a row names are found by an index. Where not, a day is read whole, and days are pruned."""

    @property
    def named(self) -> str:
        """What holds of a row that may name the person `$1`: by an index, or a first look at the text."""
        if self.is_indexed:
            return "plumbing.people_named(before, after) @> ARRAY[$1::text]"
        # As JSON spells it: an id may have a quote of its own.
        return f"strpos({self.document}::text, to_json($1::text)::text) > 0"


PLUMBING = (
    Swept("plumbing.outbox", "data", "json", "subject"),
    Swept("plumbing.dead_letters", "data", "json", "subject"),
    # Kept for good, so it is never read whole. The column that has the subject comes last: both look by it.
    Swept("plumbing.audit", "before", "jsonb", is_indexed=True),
    Swept("plumbing.audit", "after", "jsonb", "subject", is_indexed=True),
)


async def former_ids(reader: Reader, user_id: str) -> list[str]:
    """Return the ids that were merged into `user_id`, as the audit tells: what passes by may name them still."""
    rows = await reader.fetch(
        """
        WITH RECURSIVE merged AS (
            SELECT $1::text AS user_id
            UNION
            SELECT entry.before ->> 'old_user_id'
            FROM merged
            JOIN plumbing.audit AS entry ON entry.subject = merged.user_id
            WHERE entry.action = 'shopper.merge'
              AND entry.before ->> 'old_user_id' IS NOT NULL
        )
        SELECT user_id
        FROM merged
        WHERE user_id <> $1
        ORDER BY user_id
        """,
        user_id,
    )
    return [row["user_id"] for row in rows]


async def ask(tx: Tx, erasure_id: str, user_id: str, alias: str, now: datetime) -> None:
    """Ask for `user_id` to be swept out."""
    await idempotency.forget_person(tx, user_id)
    await tx.execute(
        """
        INSERT INTO plumbing.erasures (erasure_id, user_id, alias, asked_at)
        VALUES ($1, $2, $3, $4)
        """,
        erasure_id,
        user_id,
        alias,
        now,
    )


class Erasures:
    """The background half of erasing."""

    def __init__(self, database: Database, swept: Sequence[Swept]) -> None:
        """`swept`: what rooms have beside the plumbing's own tables."""
        self._database = database
        self._swept = (*PLUMBING, *swept)

    async def sweep(self, turn: Turn) -> int:
        """Take the next step of the oldest erasure that is open; return 1, or 0 if there is none.

        A step is one table, or one day of one, and is remembered with what it did: killed, it is taken again.
        """
        row = await self._database.fetchrow(
            """
            SELECT erasure_id, user_id, alias, swept
            FROM plumbing.erasures
            WHERE done_at IS NULL
            ORDER BY erasure_id
            LIMIT 1
            """
        )
        if row is None:
            return 0
        for swept in self._swept:
            for part in await _parts(self._database, swept.table):
                name = f"{part}.{swept.document}"
                if name not in row["swept"]:
                    async with turn.transaction() as tx:
                        await _sweep(tx, swept, part, row["user_id"], row["alias"])
                        await _remember(tx, row["erasure_id"], name)
                    return 1
        async with turn.transaction() as tx:
            await invariant_rounds.forget(tx, row["user_id"])
            await _end(tx, row["erasure_id"], turn.now)
        log.info("erasure.done", erasure_id=row["erasure_id"])
        return 1


async def _remember(tx: Tx, erasure_id: str, name: str) -> None:
    await tx.execute(
        """
        UPDATE plumbing.erasures
        SET swept = swept || $2::text
        WHERE erasure_id = $1
        """,
        erasure_id,
        name,
    )


async def _end(tx: Tx, erasure_id: str, now: datetime) -> None:
    await tx.execute(
        """
        UPDATE plumbing.erasures
        SET user_id = NULL,
            swept = '{}',
            done_at = $2
        WHERE erasure_id = $1
        """,
        erasure_id,
        now,
    )


async def _parts(reader: Reader, table: str) -> list[str]:
    """Return the partitions of a table; itself, if it has none."""
    rows = await reader.fetch(
        """
        SELECT part.relid::regclass::text AS name
        FROM pg_catalog.pg_partition_tree($1::text::regclass) AS part
        WHERE part.isleaf
        ORDER BY 1
        """,
        table,
    )
    return [row["name"] for row in rows] or [table]


async def _sweep(tx: Tx, swept: Swept, table: str, user_id: str, alias: str) -> None:
    """Put the alias in place of the id where a member names the person; text that merely has the id in it stays."""
    assert is_table(swept.table), swept
    document, subject = swept.document, swept.subject or "NULL"
    rows = await tx.fetch(
        f"""
        SELECT ctid, {document}::text AS document, {subject} AS subject
        FROM {table}
        WHERE {swept.named}
           OR {subject} = $1
        FOR UPDATE
        """,  # noqa: S608 - names of our own tables, checked, and of our own columns
        user_id,
        timeout=SWEEP_SECONDS,
    )
    await tx.execute("SET LOCAL growth.erases = 'yes'")
    for row in rows:
        said = None if row["document"] is None else msgspec.json.decode(row["document"])
        named = _renamed(said, user_id, alias)
        also = f", {swept.subject} = CASE WHEN {swept.subject} = $3 THEN $4 ELSE {swept.subject} END"
        if named != said or row["subject"] == user_id:
            await tx.execute(
                f"""
                UPDATE {table}
                SET {document} = $2::text::{swept.type}{also if swept.subject else ""}
                WHERE ctid = $1
                  AND ($3::text, $4::text) IS NOT NULL
                """,  # noqa: S608 - as above
                row["ctid"],
                None if said is None else msgspec.json.encode(named).decode(),
                user_id,
                alias,
            )


def _renamed(said: Any, user_id: str, alias: str) -> Any:
    """Return a document with `alias` in those of its members that name the person."""
    if isinstance(said, list):
        return [_renamed(one, user_id, alias) for one in said]
    if not isinstance(said, dict):
        return said
    return {name: _member(name, value, user_id, alias) for name, value in said.items()}


def _member(name: str, value: Any, user_id: str, alias: str) -> Any:
    if name in PERSON_MEMBERS and value == user_id:
        return alias
    if name in PERSON_LISTS and isinstance(value, list):
        return [alias if one == user_id else one for one in value]
    return _renamed(value, user_id, alias)
