"""What commands of the command line share: the environment, an event loop, a connection to Postgres, the terminal."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec
import rich_click as click
import uvloop
from msgspec import Struct
from rich.console import Console

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.postgres.migrate import MigrationState, migration_status
from growth.plumbing.postgres.sqlstates import ErrorMeaning, verdict
from growth.plumbing.settings import Settings, load_settings
from growth.plumbing.watch.telemetry import configure_logging
from growth.vocabulary.refusals import Unavailable

T = TypeVar("T")

COMMAND_STATEMENT_SECONDS = 60.0

NOT_THERE = frozenset({"3F000", "42P01", "42703", "42883", "42704"})
"""SQLSTATEs of a schema, table, column, function or type that is not there."""

FILE_WIDTH = 400
"""Columns where nobody's terminal sets them: names are not folded on their way to a file or to another command."""

console = Console(
    markup=False,
    emoji=False,
    highlight=False,
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else FILE_WIDTH,
)
"""What commands print to. What stands in brackets or between colons is printed as it is: shops call their things so.

Colours are given as `style`, or by `Text.assemble`.
"""


class DevFacts(Struct, frozen=True):
    """What commands need of a running `growth dev`, as its dev.json has it."""

    postgres_dsn: str
    redis_url: str
    jwt_secret: str
    shop_secret: str

    def settings(self) -> Settings:
        """Return what its processes see. Raises `SettingsError`."""
        return load_settings(
            {
                "GROWTH_POSTGRES_DSN": self.postgres_dsn,
                "GROWTH_REDIS_URL": self.redis_url,
                "GROWTH_JWT_SECRET": self.jwt_secret,
                "GROWTH_SHOP_SECRETS": self.shop_secret,
            }
        )


def dev_facts(path: Path) -> DevFacts:
    """Read the dev.json at `path` or in that folder. Raises `UsageError`."""
    path = path / "dev.json" if path.is_dir() else path
    try:
        return msgspec.json.decode(path.read_bytes(), type=DevFacts)
    except OSError as error:
        raise click.UsageError(
            f"{path}: {error.strerror}. Does `growth dev` run, and is that its folder? It keeps its facts there."
        ) from error
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{path} is no dev.json of `growth dev`: {error}") from error


def settings_of_environment() -> Settings:
    """Return what the environment says, and log as it wants."""
    settings = load_settings(os.environ)
    configure_logging(settings.log_level, json=settings.is_production or not sys.stderr.isatty())
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one command's work to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def with_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do `work` on a connection of its own. Raises `Unavailable` if Postgres cannot be reached."""
    try:
        database = await connect_postgres(
            settings.postgres_dsn,
            max_connections=1,
            acquire_seconds=settings.postgres_acquire_seconds,
            statement_seconds=COMMAND_STATEMENT_SECONDS,
        )
    except Exception as error:
        if verdict(error) is ErrorMeaning.OURS:
            raise
        raise Unavailable("Postgres cannot be reached") from error
    try:
        return await work(database)
    finally:
        await database.close()


def is_of_older_database(error: Exception) -> bool:
    """Say whether a statement names what a migration has yet to make. Raises what asking Postgres raises."""
    if not isinstance(error, asyncpg.PostgresError) or error.sqlstate not in NOT_THERE:
        return False
    statuses = run(migration_status(settings_of_environment().postgres_dsn))
    return any(status.state is MigrationState.PENDING for status in statuses)
