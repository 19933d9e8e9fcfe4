"""What must always hold, asked after a test: all of it at one moment, and in one trip."""

import re
from collections.abc import Mapping
from typing import Any

from growth.plumbing.postgres.database import Reader
from growth.plumbing.watch.invariants import Invariant, Violation, all_invariants

MAX_ROWS = 5
_NAMED = re.compile(r"\b[a-z_]+\.[a-z_0-9]+\b")


async def tables(reader: Reader) -> dict[str, bool]:
    """Return every table of every room, and whether a row was ever written to it or to a partition of it."""
    rows = await reader.fetch(
        """
        SELECT format('%I.%I', space.nspname, whole.relname) AS name,
               bool_or(pg_relation_size(part.oid) > 0) AS is_written
        FROM pg_catalog.pg_class AS part
        JOIN pg_catalog.pg_class AS whole
          ON whole.oid = CASE WHEN part.relispartition THEN pg_partition_root(part.oid) ELSE part.oid END
        JOIN pg_catalog.pg_namespace AS space ON space.oid = whole.relnamespace
        WHERE part.relkind = 'r'
          AND space.nspname NOT IN ('pg_catalog', 'information_schema')
        GROUP BY 1
        """
    )
    return {row["name"]: row["is_written"] for row in rows}


def may_break(invariant: Invariant, is_written: Mapping[str, bool]) -> bool:
    """Say whether it reads a table with rows, or none at all: of empty tables each says what it said at first."""
    read = [is_written[name] for name in _NAMED.findall(invariant.sql) if name in is_written]
    return any(read) or not read


async def violations(reader: Reader, invariants: tuple[Invariant, ...] | None = None) -> list[Violation]:
    """Return what does not hold now. A statement for each would be planned for each test, a hundred times."""
    is_written = await tables(reader)
    asked = [one for one in (all_invariants() if invariants is None else invariants) if may_break(one, is_written)]
    parts = [
        f"(SELECT {number} AS number, to_jsonb(found) AS found FROM ({one.sql}) AS found LIMIT {MAX_ROWS})"
        for number, one in enumerate(asked)
    ]
    broken: dict[int, list[dict[str, Any]]] = {}
    for row in await reader.fetch("\nUNION ALL\n".join(parts)) if parts else []:
        broken.setdefault(row["number"], []).append(row["found"])
    return [Violation(asked[number].room, asked[number].name, rows) for number, rows in broken.items()]
