"""Erasure: takes a shopper's id out of what passes by, table by table, in the background, until it is nowhere.

Rooms take it out of what they keep at once, in the transaction that asks for it here. Only members that name a person
are looked at (`PERSON_MEMBERS`): another thing may have the same id as a shopper.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import structlog
from msgspec import Struct

from growth.plumbing import invariant_rounds
from growth.plumbing.partitions import is_table
from growth.plumbing.periodic import Turn
from growth.plumbing.postgres import Database, Reader, Tx
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


PLUMBING = (
    Swept("plumbing.outbox", "data", "json", "subject"),
    Swept("plumbing.dead_letters", "data", "json", "subject"),
    Swept("plumbing.audit", "before", "jsonb"),
    Swept("plumbing.audit", "after", "jsonb", "subject"),
)


async def ask(tx: Tx, erasure_id: str, user_id: str, alias: str, now: datetime) -> None:
    """Ask for `user_id` to be swept out."""
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
            await _forget_answers(tx, row["user_id"])
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
    assert is_table(swept.table), swept
    subject = swept.subject or "NULL"
    await tx.execute("SET LOCAL growth.erases = 'yes'")
    members, lists = "|".join(PERSON_MEMBERS), "|".join(PERSON_LISTS)
    told = f"""
        regexp_replace(
            regexp_replace({swept.document}::text, '("(?:{members})":\\s?)"' || $3 || '"', '\\1"' || $2 || '"', 'g'),
            '("(?:{lists})":\\s?\\[(?:[^]"]|"(?:[^"\\\\]|\\\\.)*")*?)"' || $3 || '"', '\\1"' || $2 || '"', 'g'
        )::{swept.type}
    """
    also = f", {subject} = CASE WHEN {subject} = $1 THEN $2 ELSE {subject} END" if swept.subject else ""
    await tx.execute(
        f"""
        UPDATE {table}
        SET {swept.document} = {told}{also}
        WHERE strpos({swept.document}::text, $4) > 0
           OR {subject} = $1
        """,  # noqa: S608 - names of our own tables, checked, and of our own members
        user_id,
        alias,
        _literally(_as_json(user_id)[1:-1]),
        _as_json(user_id),
        timeout=SWEEP_SECONDS,
    )


def _as_json(user_id: str) -> str:
    """Return the id as it stands in a document: in quotes, and its own quotes and backslashes escaped."""
    return msgspec.json.encode(user_id).decode()


def _literally(text: str) -> str:
    """Return a pattern that matches the text and nothing else."""
    return "".join(one if one.isalnum() or not one.isascii() else f"\\{one}" for one in text)


async def _forget_answers(tx: Tx, user_id: str) -> None:
    """Forget first answers that were told to the shopper: their scope names who asked."""
    await tx.execute(
        """
        DELETE FROM plumbing.idempotency
        WHERE strpos(scope, $1) > 0
           OR strpos(convert_from(answer, 'UTF8'), $2) > 0
        """,
        user_id,
        _as_json(user_id),
    )
