"""Waiting for processes of ours: as long as they live, aloud, and with the reason if they end.

A slow machine is no fault. What ends a wait is that the process is ready or dead; the bound below is a last resort for
one that lives and never becomes ready.
"""

import contextlib
import errno
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from growth.embedded.errors import EmbeddedServerError
from growth.embedded.folder import HOST

TELL_SECONDS = 5.0
"""Between two lines that say that somebody still waits."""
LAST_RESORT_SECONDS = 600.0
LOG_TAIL_LINES = 12


class Waiting:
    """One wait, told on standard error every few seconds: silence looks like a fault."""

    def __init__(self, what: str, *, last_resort_seconds: float | None = None) -> None:
        """`what` follows "waiting for"."""
        self._what = what
        self._last_resort_seconds = LAST_RESORT_SECONDS if last_resort_seconds is None else last_resort_seconds
        self._began = self._told = time.monotonic()

    def goes_on(self, why: str = "") -> None:
        """Say so if it is time to; called again and again. `why` is what was last heard.

        Raises:
            EmbeddedServerError: the last resort.
        """
        moment = time.monotonic()
        seconds = moment - self._began
        heard = f": {why}" if why else ""
        if seconds > self._last_resort_seconds:
            raise EmbeddedServerError(f"waited {seconds:.0f} s in vain for {self._what}{heard}")
        if moment - self._told >= TELL_SECONDS:
            self._told = moment
            sys.stderr.write(f"Still waiting for {self._what} ({seconds:.0f} s){heard}\n")
            sys.stderr.flush()


def is_taken(port: int) -> bool:
    """Say whether another process listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def taken(port: int) -> str:
    """Say by whom a port is taken, as far as this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,) and one.pid:
                return f"port {port} is taken by {psutil.Process(one.pid).name()} (pid {one.pid})"
    return f"port {port} is taken by another process"


def listens(pid: int, port: int) -> bool:
    """Say whether this very process listens there: whoever took its port before it may answer just as well."""
    with contextlib.suppress(psutil.Error, OSError):
        found = psutil.Process(pid).net_connections("tcp")
        return any(one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,) for one in found)
    return False


def why_dead(name: str, code: int | None, log: Path, ports: Sequence[int] = ()) -> str:
    """Say why a process ended: its code, a port that somebody has, the last lines of its log."""
    how = f"{name} ended by signal {-code}" if code is not None and code < 0 else f"{name} ended with {code}"
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    last = [line for line in lines if line.strip()][-LOG_TAIL_LINES:]
    reasons = [taken(port) for port in ports if is_taken(port)]
    told = "\n  ".join(["Its log ends:", *last]) if last else "It said nothing."
    return f"{how}: {'; '.join(reasons)}. {told}" if reasons else f"{how}. {told}"
