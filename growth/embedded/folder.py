"""A server's folder, and the ports it may listen on."""

import fcntl
import importlib.util
import os
import secrets
import socket
from pathlib import Path
from typing import ClassVar, Self

from growth.embedded.errors import EmbeddedServerError

HOST = "127.0.0.1"
LOWEST_PORT, HIGHEST_PORT = 10_000, 32_767
"""Of servers here: above are those from which connections go out, which may take one that was free a moment ago."""
PORT_ATTEMPTS = 50


class FolderLock:
    """One owner to a folder, for as long as its process lives.

    A POSIX record lock: the kernel frees it when the owner dies in whatever way, and forked workers do not inherit it
    (an flock they would). It does not keep a process from locking twice, so that is remembered here.
    """

    _held: ClassVar[set[Path]] = set()

    def __init__(self, home: Path, descriptor: int) -> None:
        self._home = home
        self._descriptor = descriptor

    @classmethod
    def take(cls, home: Path) -> Self:
        """Become the owner.

        Raises:
            EmbeddedServerError: somebody else is; the message names the pid.
        """
        home = home.resolve()
        if home in cls._held:
            raise EmbeddedServerError(f"{home} is already used by this process")
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(descriptor, 20).decode(errors="replace") or "unknown"
            os.close(descriptor)
            raise EmbeddedServerError(f"{home} is used by another process (pid {owner})") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        cls._held.add(home)
        return cls(home, descriptor)

    def release(self) -> None:
        """Let the next one in."""
        self._held.discard(self._home)
        os.close(self._descriptor)


def package_folder(package: str) -> Path:
    """Where an installed package lies."""
    # Found, not imported: one of the wheels makes folders and warns when it is imported.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(f"{package} is not installed: pip install 'growth[embedded]'")
    return Path(spec.origin).parent


def free_port(beside: int = 0) -> int:
    """A TCP port on 127.0.0.1 that nobody listens on right now, nor on the one that is `beside` above it."""
    for _ in range(PORT_ATTEMPTS):
        port = LOWEST_PORT + secrets.randbelow(HIGHEST_PORT - beside - LOWEST_PORT + 1)
        if port_is_free(port) and port_is_free(port + beside):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on it right now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True
