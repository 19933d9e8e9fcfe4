"""What commands of the command line share: the environment, an event loop, a connection to Postgres."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from growth.plumbing.postgres import Database, connect_postgres
from growth.plumbing.sqlstates import Verdict, verdict
from growth.plumbing.telemetry import configure_logging
from growth.settings import Settings, load_settings
from growth.vocabulary.refusals import Unavailable

T = TypeVar("T")

COMMAND_STATEMENT_SECONDS = 60.0


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
        if verdict(error) is Verdict.OURS:
            raise
        raise Unavailable("Postgres cannot be reached") from error
    try:
        return await work(database)
    finally:
        await database.close()
