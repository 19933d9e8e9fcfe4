"""Partitions: tables that grow without bound are cut into days (UTC), made ahead of time and dropped whole.

Such a table is `PARTITION BY RANGE` of a timestamptz and has a partition `<table>_default`: no insert fails for want
of a day. What has landed there stays there, and its day gets no partition of its own.
"""

import re
from datetime import UTC, date, datetime, timedelta

import asyncpg
import structlog

from growth.plumbing.postgres.database import Database, Reader, Tx

log = structlog.get_logger("partitions")

AHEAD_DAYS = 7
"""So long can the schedule stand still before rows go to the default partition."""
LOCK_MILLISECONDS = 200
"""While a change of the table waits for its lock, all who write to the table wait behind it: no longer than this."""

_QUALIFIED = re.compile(r"^[a-z_]{1,40}\.[a-z_]{1,40}$")


async def days(reader: Reader, table: str) -> list[date]:
    """Return the days that `table` ("schema.name") has partitions for, oldest first."""
    names = await reader.fetch(
        """
        SELECT partition.relname AS name
        FROM pg_catalog.pg_inherits AS child
        JOIN pg_catalog.pg_class AS partition
             ON partition.oid = child.inhrelid
        WHERE child.inhparent = $1::text::regclass
          AND partition.relname ~ '_[0-9]{8}$'
        ORDER BY partition.relname
        """,
        table,
    )
    return [datetime.strptime(row["name"][-8:], "%Y%m%d").replace(tzinfo=UTC).date() for row in names]


async def make_days(database: Database, table: str, now: datetime, *, ahead_days: int = AHEAD_DAYS) -> int:
    """Make the partitions of today and of the `ahead_days` after it that `table` lacks; return how many."""
    today = now.astimezone(UTC).date()
    made = 0
    for day in (today + timedelta(days=ahead) for ahead in range(ahead_days + 1)):
        try:
            async with database.transaction() as tx:
                made += await _make_day(tx, table, day)
        except asyncpg.CheckViolationError:
            log.warning("partitions.day_in_default", table=table, day=day.isoformat())
    return made


async def lock_to_drop(tx: Tx, table: str) -> None:
    """Lock `table` for `drop_day`. Writers wait from here to the end of the transaction, so keep it short."""
    await tx.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
    await tx.execute(f"LOCK TABLE ONLY {_checked(table)} IN ACCESS EXCLUSIVE MODE")


async def drop_day(tx: Tx, table: str, day: date) -> None:
    """Drop the partition of `day` with all that is in it."""
    await tx.execute(f"DROP TABLE {name_of(table, day)}")


def is_table(table: str) -> bool:
    """Say whether `table` looks like a qualified name: only such are put into statements."""
    return _QUALIFIED.match(table) is not None


def name_of(table: str, day: date) -> str:
    """Return the qualified name of the partition of `day`."""
    return f"{_checked(table)}_{day:%Y%m%d}"


async def _make_day(tx: Tx, table: str, day: date) -> int:
    partition = name_of(table, day)
    await tx.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
    # Two at once: the second waits here, and finds it made.
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('partitions:' || $1, 0))", table)
    if await tx.fetchval("SELECT to_regclass($1::text) IS NOT NULL", partition):
        return 0
    # Made apart and attached: PARTITION OF would lock out everybody, attaching locks the default partition alone.
    await tx.execute(
        f"""
        CREATE TABLE {partition} (
            LIKE {_checked(table)} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION
        )
        """
    )
    await tx.execute(
        f"""
        ALTER TABLE {_checked(table)}
        ATTACH PARTITION {partition}
        FOR VALUES FROM ('{day} 00:00:00+00') TO ('{day + timedelta(days=1)} 00:00:00+00')
        """
    )
    return 1


def _checked(table: str) -> str:
    # Names cannot be parameters; these come from this code alone, and look it.
    assert is_table(table), table
    return table
