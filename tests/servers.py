"""The servers the tests run on: real ones, and for every test a database of its own."""

import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from redis.asyncio import Redis

from growth.embedded import EmbeddedServers
from growth.plumbing.postgres.migrate import migrate_up
from tests.patience import PATIENCE_SECONDS

TEMPLATE = "growth_template"

MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 * 1024**3
"""Free in memory before the servers' folders are put there."""

_numbers = itertools.count(1)


def scratch() -> str | None:
    """The folder for temporary folders: in memory if there is plenty, where copying a database takes 10 ms, not 200."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(MEMORY).free >= MEMORY_BYTES and os.access(MEMORY, os.W_OK | os.X_OK):
            return str(MEMORY)
    return None


@contextlib.contextmanager
def started() -> Iterator[EmbeddedServers]:
    """Both servers in a folder of their own, for as long as the block runs."""
    # Not pytest's own temporary folder: its path is long, and a socket's may not be.
    with (
        TemporaryDirectory(prefix="growth-", dir=scratch(), ignore_cleanup_errors=True) as folder,
        EmbeddedServers.start(Path(folder), fast=True) as servers,
    ):
        yield servers


async def make_template(servers: EmbeddedServers) -> None:
    """Migrate once what every test copies."""
    await _command(servers, f"CREATE DATABASE {TEMPLATE}")
    await migrate_up(servers.postgres.dsn_of(TEMPLATE))


@contextlib.asynccontextmanager
async def database(servers: EmbeddedServers, template: str = TEMPLATE) -> AsyncIterator[str]:
    """A fresh copy of the template; yields its address."""
    name = f"growth_test_{next(_numbers)}"
    await _command(servers, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield servers.postgres.dsn_of(name)
    finally:
        servers.ensure_running()
        await _command(servers, f"DROP DATABASE {name} WITH (FORCE)")


async def empty_valkey(servers: EmbeddedServers) -> str:
    """Forget every key and every script; returns the address."""
    async with Redis.from_url(servers.valkey.url) as client:
        await client.flushall()
        await client.script_flush()
    return servers.valkey.url


async def _command(servers: EmbeddedServers, sql: str) -> None:
    connection = await asyncpg.connect(servers.postgres.dsn, timeout=PATIENCE_SECONDS)
    try:
        await connection.execute(sql, timeout=PATIENCE_SECONDS)
    finally:
        await connection.close(timeout=PATIENCE_SECONDS)
