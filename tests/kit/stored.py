"""What is in the tables."""

from growth.plumbing.postgres.database import Reader


async def rows_of(reader: Reader, table: str) -> list[str]:
    """Every row as text, in an order that hangs on nothing else."""
    return [row["row"] for row in await reader.fetch(f"SELECT t::text AS row FROM {table} AS t ORDER BY 1")]


async def stored(reader: Reader, *tables: str) -> list[str]:
    """Every row of these tables, and of the outbox and its cursors what does not hang on the number of tries."""
    found = [f"{table} {row}" for table in tables for row in await rows_of(reader, table)]
    told = await reader.fetch("SELECT type, subject, data::text FROM plumbing.outbox ORDER BY position")
    cursors = await reader.fetch("SELECT subscription, position FROM plumbing.cursors ORDER BY 1")
    return found + [f"{tuple(row)}" for row in [*told, *cursors]]
