"""A database as a release before left it, brought to this one."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.postgres.migrate import MIGRATIONS_FOLDER, migrate_up


@asynccontextmanager
async def carried_over(dsn: str, folder: Path, *, before: str, rows: str) -> AsyncIterator[Database]:
    """A database with rows of the release that came before a migration, brought to this release."""
    for file in MIGRATIONS_FOLDER.glob("*.sql"):
        if file.name < before:
            shutil.copy(file, folder)
    await migrate_up(dsn, folder=folder)
    connection = await asyncpg.connect(dsn)
    await connection.execute(rows)
    await connection.close()
    await migrate_up(dsn)
    database = await connect_postgres(dsn, max_connections=2, acquire_seconds=5, statement_seconds=10)
    try:
        yield database
    finally:
        await database.close()
