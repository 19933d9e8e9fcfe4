"""Invariants: statements of every room's `invariants.sql`, each of which must return no row, at any moment.

In a file, each statement follows a line `-- name: a sentence that holds` and ends with a semicolon.

Where history is long, a line `-- page: 20000 of flash_sale.claims by claim_id uuid` follows, and the statement reads
from `page` in place of the table. Rounds (`invariant_rounds`) have it look at so many rows at once, by that key: the
newest, where the key grows, and the next ones of a walk through all. `violations` looks at all of them.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from growth.plumbing.postgres.database import Reader

ROOT = Path(__file__).parents[2]
FILE_NAME = "invariants.sql"

MAX_ROWS_SHOWN = 10

_STATEMENT = re.compile(r"^-- name: (?P<name>[^\n]+)\n(?P<sql>.*?);[ \t]*$", re.MULTILINE | re.DOTALL)
_PAGE = re.compile(r"^-- page: (?P<rows>\d+) of (?P<table>[\w.]+) by (?P<keys>[\w, ]+)\n")
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)


class KeyPage(Struct, frozen=True):
    """Rows of a table, so many at once, by a key that has an index."""

    rows: int
    table: str
    keys: tuple[tuple[str, str], ...]
    """Column and type."""

    @property
    def grows(self) -> bool:
        """Whether what is new has the largest keys."""
        return self.keys[0][1] in {"uuid", "bigint"}

    @property
    def columns(self) -> str:
        """The key as a list."""
        return ", ".join(name for name, _ in self.keys)

    def of(self, place: Sequence[str], start: int) -> str:
        """Return a key as parameters, the first of which is `$start`."""
        assert len(place) == len(self.keys)
        return ", ".join(f"${number}::text::{type_}" for number, (_, type_) in enumerate(self.keys, start))


class Invariant(Struct, frozen=True):
    """One sentence that always holds, and the statement that finds where it does not."""

    room: str
    name: str
    sql: str
    """Of all rows."""
    page: KeyPage | None = None
    body: str = ""
    """With a page: the statement without it."""

    def between(self, after: Sequence[str] | None, until: Sequence[str] | None) -> tuple[str, list[str]]:
        """Return the statement for rows behind `after` up to and with `until` (None: from the first, to the last)."""
        assert self.page is not None
        conditions, arguments = [], list[str]()
        for sign, place in ((">", after), ("<=", until)):
            if place is not None:
                conditions.append(f"({self.page.columns}) {sign} ({self.page.of(place, len(arguments) + 1)})")
                arguments += place
        return _with_page(self.page, self.body, " AND ".join(conditions) or "TRUE"), arguments


class Violation(Struct, frozen=True):
    """A sentence that does not hold."""

    room: str
    name: str
    rows: list[dict[str, Any]]
    """The first `MAX_ROWS_SHOWN` rows that show it."""


def read_invariants(path: Path, room: str) -> list[Invariant]:
    """Return the statements of one file. Anything in it that is neither statement nor comment is an error."""
    text = path.read_text(encoding="utf-8")
    found = [_read(room, match["name"].strip(), match["sql"].strip()) for match in _STATEMENT.finditer(text)]
    left = _COMMENT.sub("", _STATEMENT.sub("", text)).strip()
    assert found, f"{path} has no statement"
    assert not left, f"{path}: not under a name, or without a semicolon: {left[:80]}"
    assert text.count("-- name:") == len(found), f"{path}: a name without a statement"
    return found


def _read(room: str, name: str, sql: str) -> Invariant:
    paged = _PAGE.match(sql)
    if paged is None:
        return Invariant(room, name, sql)
    keys = [key.split() for key in paged["keys"].split(",")]
    page = KeyPage(int(paged["rows"]), paged["table"], tuple((name, type_) for name, type_ in keys))
    body = _COMMENT.sub("", sql[paged.end() :]).strip()
    return Invariant(room, name, _with_page(page, body, "TRUE"), page, body)


def _with_page(page: KeyPage, body: str, condition: str) -> str:
    others = f", {body.removeprefix('WITH ')}" if body.startswith("WITH ") else f"\n{body}"
    return f"WITH page AS (SELECT * FROM {page.table} WHERE {condition}){others}"  # noqa: S608 - our own files


@cache
def all_invariants() -> tuple[Invariant, ...]:
    """Return those of every room, by room. A room is named by its folder."""
    paths = sorted(ROOT.rglob(FILE_NAME))
    return tuple(invariant for path in paths for invariant in read_invariants(path, path.parent.name))


async def violations(reader: Reader, invariants: tuple[Invariant, ...] | None = None) -> list[Violation]:
    """Return what does not hold now. Each statement sees one moment; two statements may see two."""
    broken = []
    for invariant in all_invariants() if invariants is None else invariants:
        rows = await rows_of(reader, invariant.sql)
        if rows:
            broken.append(Violation(invariant.room, invariant.name, rows))
    return broken


async def rows_of(reader: Reader, sql: str, *arguments: str) -> list[dict[str, Any]]:
    """Return the first rows that break a sentence."""
    rows = await reader.fetch(
        f"""
        SELECT to_jsonb(found) AS found
        FROM ({sql}) AS found
        LIMIT {MAX_ROWS_SHOWN}
        """,  # noqa: S608 - statements of our own files
        *arguments,
    )
    return [row["found"] for row in rows]
