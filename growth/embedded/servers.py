"""Both servers together."""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from growth.embedded.postgres import EmbeddedPostgres
from growth.embedded.valkey import EmbeddedValkey

SUPERVISE_SECONDS = 0.5
"""Between two looks at whether a server still runs."""


@dataclasses.dataclass(frozen=True)
class EmbeddedServers:
    """Both servers in one folder, and somebody who looks after them."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    @classmethod
    def start(cls, data_dir: Path, *, fast: bool = False) -> Self:
        """Start both in `data_dir/postgres` and `data_dir/valkey`; see there for `fast` and errors."""
        postgres = EmbeddedPostgres.start(data_dir / "postgres", fast=fast)
        try:
            valkey = EmbeddedValkey.start(data_dir / "valkey", fast=fast)
        except BaseException:
            postgres.stop()
            raise
        return cls(postgres, valkey)

    def stop(self) -> None:
        """End both in order."""
        try:
            self.valkey.stop()
        finally:
            self.postgres.stop()

    def ensure_running(self) -> list[str]:
        """Start again what has died; returns the names of what had to be started."""
        return [server.name for server in (self.postgres, self.valkey) if server.ensure_running()]

    async def supervise(self, on_restart: Callable[[str], None]) -> None:
        """Keep both running until cancelled.

        Args:
            on_restart: called with the name of a server that had died and runs again.

        Raises:
            EmbeddedServerError: a dead server could not be started again.
        """
        while True:
            await asyncio.sleep(SUPERVISE_SECONDS)
            for name in await asyncio.to_thread(self.ensure_running):
                on_restart(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
