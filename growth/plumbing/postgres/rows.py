"""Rows become Structs. A store tells the columns of a table once, and writes `kit.columns` for them in statements."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Record

T = TypeVar("T")


class Table(Struct, Generic[T], frozen=True, kw_only=True, eq=False):
    """What knows the columns of a table, and what a row becomes."""

    id_field: str
    """The column that is a row's id."""

    def sql(self, statement: str) -> str:
        """Return `statement` with the columns in place of `kit.columns`."""
        raise NotImplementedError

    def read(self, row: Record) -> T:
        """Make what a row of these columns is."""
        raise NotImplementedError

    async def fetch_all(self, reader: Reader, statement: str, *args: object) -> list[T]:
        """Return all rows."""
        return [self.read(row) for row in await reader.fetch(self.sql(statement), *args)]

    async def fetch_one(self, reader: Reader, statement: str, *args: object) -> T | None:
        """Return the first row, if any."""
        row: Any = await reader.fetchrow(self.sql(statement), *args)
        return None if row is None else self.read(row)

    async def fetch_by_id(self, reader: Reader, statement: str, *args: object) -> dict[str, T]:
        """Return all rows by their ids."""
        return {row[self.id_field]: self.read(row) for row in await reader.fetch(self.sql(statement), *args)}


class Rows(Table[T], Generic[T], frozen=True, kw_only=True, eq=False):
    """A table whose columns are the fields of a Struct; `seat.kit.columns` are those of a table called `seat`."""

    id_field: str = ""
    """The column that is a row's id, for `fetch_by_id`."""
    row: type[T]
    expressions: Mapping[str, str] = {}
    """What stands for fields that are no columns by themselves."""

    def sql(self, statement: str) -> str:
        """Return `statement` with the columns in place."""
        return _written(self, statement)

    def read(self, row: Record) -> T:
        """Make the Struct of a row."""
        return msgspec.convert(dict(row), self.row)


@cache
def _written(rows: Rows[Any], statement: str) -> str:
    told = {name: f"{expression} AS {name}" for name, expression in rows.expressions.items()}
    return re.sub(
        r"\b(\w+\.)?kit\.columns\b",
        lambda found: ", ".join(told.get(name, f"{found[1] or ''}{name}") for name in rows.row.__struct_fields__),
        statement,
    )
