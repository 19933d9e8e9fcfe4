"""Tables whose rows are shoppers', and what becomes of these when one id becomes another: a merge, or an alias.

What follows from nothing but the table is declared here, once; merges with rules of their own are code in their rooms.
"""

from collections.abc import Sequence
from functools import cache

from msgspec import Struct

from growth.plumbing.postgres.database import Record, Tx


class Owned(Struct, frozen=True):
    """A table of a room's. A store makes one for each way in which its rows name a shopper."""

    table: str
    owner: str = "user_id"
    """The column that names the shopper."""
    key: tuple[str, ...] | None = None
    """With the owner, what is unique, where both ids may have a row of it; None where rows never meet."""
    adds: tuple[str, ...] = ()
    """Counts, that are added up where two rows meet."""
    carries: tuple[str, ...] = ()
    """Columns that go with the row. Where two meet, that of the id that stays keeps its own."""

    def sql(self, statement: str) -> str:
        """Return a statement as it is said of this table."""
        return _written(self, statement)


@cache
def _written(owned: Owned, statement: str) -> str:
    key = owned.key or ()
    sums = ", ".join(f"{name} = known.{name} + excluded.{name}" for name in owned.adds)
    words = {
        "rows": owned.table,
        "owner": owned.owner,
        "rest": ", ".join([*key, *owned.adds, *owned.carries]),
        "unique": ", ".join([owned.owner, *key]),
        "met": f"UPDATE SET {sums}" if sums else "NOTHING",
    }
    for word, meaning in words.items():
        statement = statement.replace(f"owned.{word}", meaning)
    return statement


async def rename(tx: Tx, owned: Owned, old_user_id: str, user_id: str) -> Sequence[Record]:
    """Make one shopper's rows another's; return what the other has of them now, where rows may have met."""
    if owned.key is None:
        return await tx.fetch(
            owned.sql("UPDATE owned.rows SET owned.owner = $2 WHERE owned.owner = $1"), old_user_id, user_id
        )
    return await tx.fetch(
        owned.sql(
            """
            WITH old AS (
                DELETE FROM owned.rows
                WHERE owned.owner = $1
                RETURNING owned.rest
            )
            INSERT INTO owned.rows AS known (owned.owner, owned.rest)
            SELECT $2, owned.rest
            FROM old
            ORDER BY owned.rest
            ON CONFLICT (owned.unique) DO owned.met
            RETURNING owned.rest
            """
        ),
        old_user_id,
        user_id,
    )
