"""Invariants: statements of every room's `invariants.sql`, each of which must return no row, at any moment.

In a file, each statement follows a line `-- name: a sentence that holds` and ends with a semicolon.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from growth.plumbing.postgres import Reader

ROOT = Path(__file__).parent.parent
FILE_NAME = "invariants.sql"

MAX_ROWS_SHOWN = 10

_STATEMENT = re.compile(r"^-- name: (?P<name>[^\n]+)\n(?P<sql>.*?);[ \t]*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)


class Invariant(Struct, frozen=True):
    """One sentence that always holds, and the statement that finds where it does not."""

    room: str
    name: str
    sql: str


class Violation(Struct, frozen=True):
    """A sentence that does not hold."""

    room: str
    name: str
    rows: list[dict[str, Any]]
    """The first `MAX_ROWS_SHOWN` rows that show it."""


def read_invariants(path: Path, room: str) -> list[Invariant]:
    """Return the statements of one file. Anything in it that is neither statement nor comment is an error."""
    text = path.read_text(encoding="utf-8")
    found = [Invariant(room, match["name"].strip(), match["sql"].strip()) for match in _STATEMENT.finditer(text)]
    left = _COMMENT.sub("", _STATEMENT.sub("", text)).strip()
    assert found, f"{path} has no statement"
    assert not left, f"{path}: not under a name, or without a semicolon: {left[:80]}"
    assert text.count("-- name:") == len(found), f"{path}: a name without a statement"
    return found


@cache
def all_invariants() -> tuple[Invariant, ...]:
    """Return those of every room, by room. A room is named by its folder."""
    paths = sorted(ROOT.rglob(FILE_NAME))
    return tuple(invariant for path in paths for invariant in read_invariants(path, path.parent.name))


async def violations(reader: Reader, invariants: tuple[Invariant, ...] | None = None) -> list[Violation]:
    """Return what does not hold now. Each statement sees one moment; two statements may see two."""
    broken = []
    for invariant in all_invariants() if invariants is None else invariants:
        rows = await reader.fetch(
            f"""
            SELECT to_jsonb(found) AS found
            FROM ({invariant.sql}) AS found
            LIMIT {MAX_ROWS_SHOWN}
            """  # noqa: S608 - statements of our own files
        )
        if rows:
            broken.append(Violation(invariant.room, invariant.name, [row["found"] for row in rows]))
    return broken
