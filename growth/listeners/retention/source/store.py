"""Every SQL statement on sources and their numbers. Those that write run under the room's lock."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from growth.listeners.retention.model import FIRST_SOURCE
from growth.plumbing.postgres.database import Reader, Tx

MAX_SOURCES = 200
"""That have a number of their own."""
MAX_SMALL = 10
"""Shoppers that a source may have and still give way to a new one."""

_encode = msgspec.json.Encoder().encode


async def sources(tx: Tx, names: Iterable[str]) -> dict[str, int]:
    """Return the number of each source that has one."""
    rows = await tx.fetch(
        """
        SELECT source, name
        FROM retention.sources
        WHERE name IN (SELECT json_array_elements_text($1::json))
        """,
        _encode(list(names)).decode(),
    )
    return {row["name"]: row["source"] for row in rows}


async def free_sources(tx: Tx, limit: int) -> list[int]:
    """Return numbers that no source has."""
    rows = await tx.fetch(
        """
        SELECT source
        FROM generate_series($1::integer, $2::integer) AS free (source)
        WHERE NOT EXISTS (SELECT FROM retention.sources AS taken WHERE taken.source = free.source)
        ORDER BY source
        LIMIT $3
        """,
        FIRST_SOURCE,
        FIRST_SOURCE + MAX_SOURCES - 1,
        limit,
    )
    return [row["source"] for row in rows]


async def small_sources(tx: Tx, kept: Iterable[int], limit: int) -> list[int]:
    """Return the smallest sources that may give way, but for those `kept`; of several alike those named longest ago."""
    rows = await tx.fetch(
        """
        SELECT source
        FROM retention.sources
        WHERE source >= $1
          AND shoppers <= $2
          AND source <> ALL ($3::smallint[])
        ORDER BY shoppers, named_at, source
        LIMIT $4
        """,
        FIRST_SOURCE,
        MAX_SMALL,
        list(kept),
        limit,
    )
    return [row["source"] for row in rows]


async def shoppers_of(tx: Tx, numbers: Sequence[int]) -> list[str]:
    """Return the ids of the shoppers of small sources."""
    rows = await tx.fetch(
        """
        SELECT user_id
        FROM retention.shoppers
        WHERE source = ANY ($1::smallint[])
          AND source > 1
        """,
        numbers,
    )
    return [row["user_id"] for row in rows]


async def name_sources(tx: Tx, numbers: Mapping[str, int]) -> None:
    """Give sources numbers, which may have been others' that nobody is counted under any more."""
    await tx.execute(
        """
        INSERT INTO retention.sources AS known (source, name)
        SELECT given.s, given.n
        FROM json_to_recordset($1::json) AS given (s smallint, n text)
        ON CONFLICT (source) DO UPDATE
        SET name = excluded.name, named_at = excluded.named_at
        """,
        _encode([{"s": number, "n": name} for name, number in numbers.items()]).decode(),
    )


async def source_name(reader: Reader, source: int) -> str | None:
    """Return a source as the shop calls it: empty if none was told, None for one of those without a number."""
    name: str | None = await reader.fetchval("SELECT name FROM retention.sources WHERE source = $1", source)
    return name
