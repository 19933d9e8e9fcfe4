"""Brings a database to the newest `growth/migrations/NNNN_<room>.sql`; forward only.

Every replica may run it at its start: one does the work, the others wait and find nothing left to do.
A file that has been applied never changes again; the checksum kept beside its name tells.

The address must lead to Postgres itself. Behind PgBouncer in transaction mode the lock below, which belongs to a
connection, would belong to nobody.
"""

import asyncio
import contextlib
import enum
import hashlib
import random
import re
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import asyncpg
import msgspec

MIGRATIONS_FOLDER = Path(__file__).parents[2] / "migrations"

WAIT_SECONDS = 120.0
"""For another runner to finish."""
POLL_SECONDS = 0.1
CONNECT_SECONDS = 10.0
MIGRATION_SECONDS = 3_600.0
"""For one file; rewriting a large table takes its time."""
LOCK_TIMEOUT_MILLISECONDS = 5_000
"""For a table lock. While a migration waits for one, every query on that table queues behind it."""

_LOCK_KEY = 0x67726F777468  # "growth"
_FILE_NAME = re.compile(r"(?P<number>[0-9]{4})_[a-z][a-z0-9_]*\.sql")


class MigrationError(RuntimeError):
    """The files and the database do not fit together, or a file failed. The message names the file."""


class MigrationState(enum.Enum):
    """How a migration stands to this database."""

    APPLIED = "applied"
    PENDING = "pending"
    CHANGED = "changed"
    """Applied, and edited since."""
    UNKNOWN = "unknown"
    """Applied, and not among our files: a newer release was here."""


class MigrationStatus(msgspec.Struct, frozen=True):
    """One migration; `applied_at` is None while it is pending."""

    name: str
    state: MigrationState
    applied_at: datetime | None


class _Migration(msgspec.Struct, frozen=True):
    name: str
    sql: str
    checksum: str


class _Applied(msgspec.Struct, frozen=True):
    checksum: str
    applied_at: datetime


async def migrate_up(dsn: str, *, wait_seconds: float = WAIT_SECONDS, folder: Path = MIGRATIONS_FOLDER) -> list[str]:
    """Apply what is pending, each file in its own transaction, in order of number.

    A file runs with an empty search path, so it has to name its schema. Those before a failing one stay applied.

    Args:
        dsn: of Postgres itself, with the right to create schemas.
        wait_seconds: how long to wait for another runner.
        folder: where the files are.

    Returns:
        The names of the files applied, in order; empty when there was nothing to do.

    Raises:
        MigrationError: a file was edited after it had been applied, has a number below an applied one, is missing
            below one, or failed; or another runner did not finish in time.
    """
    migrations = _read(folder)
    async with _connected(dsn) as connection, _alone(connection, wait_seconds):
        await _make_table(connection)
        applied = await _applied(connection)
        pending = _pending(migrations, applied)
        for migration in pending:
            await _apply(connection, migration)
    return [migration.name for migration in pending]


async def migration_status(dsn: str, *, folder: Path = MIGRATIONS_FOLDER) -> list[MigrationStatus]:
    """Every migration known to the files or to the database, by name. Writes nothing and waits for nobody."""
    migrations = {migration.name: migration for migration in _read(folder)}
    async with _connected(dsn) as connection:
        exists = await connection.fetchval("SELECT to_regclass('plumbing.growth_migrations') IS NOT NULL")
        applied = await _applied(connection) if exists else {}
    return [_status(name, migrations.get(name), applied.get(name)) for name in sorted(migrations.keys() | applied)]


def _status(name: str, migration: _Migration | None, applied: _Applied | None) -> MigrationStatus:
    if applied is None:
        return MigrationStatus(name, MigrationState.PENDING, None)
    if migration is None:
        return MigrationStatus(name, MigrationState.UNKNOWN, applied.applied_at)
    same = migration.checksum == applied.checksum
    return MigrationStatus(name, MigrationState.APPLIED if same else MigrationState.CHANGED, applied.applied_at)


def _read(folder: Path) -> list[_Migration]:
    migrations: dict[str, _Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_<room>.sql")
        number = match["number"]
        if number in migrations:
            raise MigrationError(f"{path.name} has the number of {migrations[number].name}")
        sql = path.read_text(encoding="utf-8")  # line ends read as \n, so a checkout on Windows is no drift
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        migrations[number] = _Migration(path.name, sql, checksum)
    return list(migrations.values())


def _pending(migrations: list[_Migration], applied: dict[str, _Applied]) -> list[_Migration]:
    """What is left to do, having made sure that what is done fits."""
    names = {migration.name for migration in migrations}
    newest_file = max(names, default="")
    newest_applied = max(applied, default="")
    for name in applied:
        # Above our newest it was a newer release, and we are its rollback, which is allowed.
        if name not in names and name < newest_file:
            raise MigrationError(f"{name} was applied to this database, but the file is gone")
    pending = []
    for migration in migrations:
        known = applied.get(migration.name)
        if known is None and migration.name < newest_applied:
            raise MigrationError(
                f"{migration.name} comes before {newest_applied}, which is applied already: give it a higher number"
            )
        if known is not None and known.checksum != migration.checksum:
            raise MigrationError(
                f"{migration.name} was edited after it had been applied: restore it, and write a new file instead"
            )
        if known is None:
            pending.append(migration)
    return pending


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        dsn, timeout=CONNECT_SECONDS, server_settings={"application_name": "growth migrate"}
    )
    try:
        yield connection
    finally:
        try:
            await connection.close(timeout=CONNECT_SECONDS)
        except (TimeoutError, OSError, asyncpg.PostgresError):
            connection.terminate()


@contextlib.asynccontextmanager
async def _alone(connection: asyncpg.Connection, wait_seconds: float) -> AsyncIterator[None]:
    """Hold the lock of the one runner.

    Asked for again and again: the waiting kind keeps a transaction open, which a CREATE INDEX CONCURRENTLY of the
    runner before us waits for in turn.
    """
    deadline = time.monotonic() + wait_seconds
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if time.monotonic() > deadline:
            raise MigrationError(f"another runner has held the migration lock for {wait_seconds:g} s")
        await asyncio.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))
    # Never unlocked by hand: closing the connection does that, also when it is the connection that broke.
    yield


async def _make_table(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        CREATE SCHEMA IF NOT EXISTS plumbing;
        CREATE TABLE IF NOT EXISTS plumbing.growth_migrations (
            name text COLLATE "C" PRIMARY KEY,
            checksum text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """
    )


async def _applied(connection: asyncpg.Connection) -> dict[str, _Applied]:
    rows = await connection.fetch(
        """
        SELECT name, checksum, applied_at
        FROM plumbing.growth_migrations
        ORDER BY name
        """
    )
    return {row["name"]: _Applied(row["checksum"], row["applied_at"]) for row in rows}


async def _apply(connection: asyncpg.Connection, migration: _Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MILLISECONDS}")
            await connection.execute("SET LOCAL search_path = ''")
            await connection.execute(migration.sql, timeout=MIGRATION_SECONDS)
            if not connection.is_in_transaction():
                raise MigrationError(f"{migration.name} ended its transaction by itself: look at what it left behind")
            await connection.execute(
                """
                INSERT INTO plumbing.growth_migrations (name, checksum)
                VALUES ($1, $2)
                """,
                migration.name,
                migration.checksum,
            )
    except (asyncpg.PostgresError, TimeoutError) as error:
        raise MigrationError(f"{migration.name} failed and was rolled back: {error}") from error
