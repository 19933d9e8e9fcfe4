"""What both servers have in common: a folder, a lock, one process tree."""

import atexit
import contextlib
import os
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil

from growth.embedded.errors import EmbeddedServerError
from growth.embedded.folder import FolderLock, free_port, port_is_free
from growth.embedded.processes import (
    KILL_SECONDS,
    POLL_SECONDS,
    await_gone,
    family,
    parent_pid,
    send,
    server_user,
    start_process,
)
from growth.embedded.waiting import Waiting

STOP_SECONDS = 15.0
"""A graceful stop; after it the server is killed."""
LOG_TAIL_BYTES = 2_000


class StoreServer(ABC):
    """What both servers have in common: a folder, a lock, one process tree.

    Made by `start`. Every verb may be called from any thread and waits until it is done.
    """

    name: ClassVar[str]
    _process_name: ClassVar[str]
    _stop_signal: ClassVar[signal.Signals]
    """Asks for an orderly end; the kernel sends the same one when our process dies."""

    def __init__(self, data_dir: Path, *, fast: bool) -> None:
        self._home = data_dir.expanduser().absolute()
        self._fast = fast
        self._data = self._home / "data"
        self._log = self._home / "log"
        self._user = server_user()
        self._verbs = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: FolderLock | None = None
        self._wanted = False
        self._owner_pid = os.getpid()

    @property
    def data_dir(self) -> Path:
        """The folder given to `start`."""
        return self._home

    @property
    def pid(self) -> int:
        """The server's main process.

        Raises:
            EmbeddedServerError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedServerError(f"{self.name} in {self._home} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the main process lives; a frozen server does."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the server in order and let go of the folder. Stopping twice is harmless."""
        with self._verbs:
            self._wanted = False
            self._end()
            atexit.unregister(self._stop_at_exit)
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def kill(self) -> None:
        """SIGKILL every process of the server at once, as a power cut would. The folder stays ours: see `restart`."""
        with self._verbs:
            self._kill()

    def freeze(self) -> None:
        """SIGSTOP every process: connections stay open and nothing answers."""
        with self._verbs:
            # The parent first, so that it starts no child which we would miss.
            os.kill(self.pid, signal.SIGSTOP)
            send(signal.SIGSTOP, family(self.pid))

    def thaw(self) -> None:
        """SIGCONT every process."""
        with self._verbs:
            send(signal.SIGCONT, family(self.pid))

    def restart(self) -> None:
        """End the server in order if it runs, and start it again at the same address."""
        with self._verbs:
            if self._lock is None:
                raise EmbeddedServerError(f"{self.name} in {self._home} was stopped: call start")
            self._end()
            self._clear_remains()
            self._launch()

    def ensure_running(self) -> bool:
        """Start the server again if it has died since `start`.

        Returns:
            Whether it had to be started.
        """
        with self._verbs:
            if not self._wanted or self.running:
                return False
            self.restart()
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the server needs to find in its folder."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The server in the foreground."""

    @abstractmethod
    def _ready(self, pid: int) -> bool:
        """Whether it answers; called until it does."""

    def _begin(self) -> Self:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FolderLock.take(self._home)
        try:
            self._own(self._home)
            self._clear_remains()
            self._prepare()
            self._launch()
        except BaseException:
            self.stop()
            raise
        self._wanted = True
        atexit.register(self._stop_at_exit)
        return self

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner_pid:  # a forked worker is not the owner
            self.stop()

    def _launch(self) -> None:
        if self._log.exists():
            self._log.replace(self._log.with_suffix(".1"))
        with self._log.open("wb") as log:
            self._process = start_process(
                self._command(),
                cwd=self._home,
                output=log.fileno(),
                user=self._user,
                death_signal=self._stop_signal,
            )
        waiting = Waiting(f"{self.name} to start")
        while not self._ready(self._process.pid):
            if self._process.poll() is not None:
                raise EmbeddedServerError(f"{self.name} did not start. {self._log_tail()}")
            try:
                waiting.goes_on()
            except EmbeddedServerError as error:
                self._kill()
                raise EmbeddedServerError(f"{error}. {self._log_tail()}") from None
            time.sleep(POLL_SECONDS)

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            send(signal.SIGCONT, family(process.pid))
            process.send_signal(self._stop_signal)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._kill()
        self._process = None

    def _kill(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        # Stopped first: a parent that sees its children die would begin to repair.
        os.kill(self._process.pid, signal.SIGSTOP)
        processes = family(self._process.pid)
        send(signal.SIGKILL, processes)
        self._process.wait(KILL_SECONDS)
        await_gone(processes, KILL_SECONDS)

    def _clear_remains(self) -> None:
        """End what a killed owner, or a killed parent process, left running on our data."""
        remains = list(self._remains())
        if not remains:
            return
        send(signal.SIGCONT, remains)
        # Children are left to their parent. Without one there is nothing to wait for.
        pids = {process.pid for process in remains}
        parents = [process for process in remains if parent_pid(process) not in pids]
        orphaned = [process for process in parents if self._is_helper(process)]
        send(self._stop_signal, [process for process in parents if process not in orphaned])
        send(signal.SIGKILL, orphaned)
        try:
            await_gone(remains, STOP_SECONDS)
        except EmbeddedServerError:
            send(signal.SIGKILL, remains)
            await_gone(remains, KILL_SECONDS)

    def _remains(self) -> Iterator[psutil.Process]:
        if not self._data.exists():
            return
        # Both servers work inside their data folder, so that tells ours from the neighbour's, whatever pid files say.
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == self._process_name:
                with contextlib.suppress(psutil.Error, OSError):
                    if Path(process.cwd()).samefile(self._data):
                        yield process

    def _is_helper(self, process: psutil.Process) -> bool:  # noqa: ARG002
        """Whether it is a child process that has lost its parent."""
        return False

    def _own(self, path: Path) -> None:
        """Give a path to the user the server runs as."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _write(self, path: Path, text: str) -> None:
        """Write a private file that only we and the server read."""
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        self._own(path)

    def _remembered(self, name: str, draw: Callable[[], str]) -> str:
        path = self._home / name
        with contextlib.suppress(FileNotFoundError):
            if text := path.read_text().strip():
                return text
        self._write(path, draw())
        return path.read_text()

    def _remembered_port(self) -> int:
        """The last port if it is still free, so that a URL copied yesterday works today."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            port = int((self._home / "port").read_text())
            if port_is_free(port):
                return port
        port = free_port()
        self._write(self._home / "port", str(port))
        return port

    def _log_tail(self) -> str:
        try:
            tail = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            tail = ""
        return f"Its log, {self._log}, ends:\n{tail}"
