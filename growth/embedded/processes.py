"""Process trees: started to end with us, signalled as a whole, and waited for with a bound."""

import contextlib
import ctypes
import os
import pwd
import queue
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

try:
    import psutil
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "growth.embedded needs an extra: pip install 'growth[embedded]'", name="psutil"
    ) from error

from growth.embedded.errors import EmbeddedServerError

KILL_SECONDS = 60.0
"""From SIGKILL until the kernel has let go of every process."""
POLL_SECONDS = 0.005
FORK_SECONDS = 600.0
"""For the kernel to start a program on a machine that is out of breath: a last resort."""

_SERVER_USERS = ("postgres", "nobody")

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1

# Loaded here, because between fork and exec nothing may be imported or allocated in earnest.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def server_user() -> pwd.struct_passwd | None:
    """Whom to become: nobody in particular unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in _SERVER_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedServerError("Postgres refuses to run as root, and there is no user 'postgres' or 'nobody' to become")


def start_process(
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
        try:
            result = answer.get(timeout=FORK_SECONDS)
        except queue.Empty:
            raise EmbeddedServerError(f"the kernel started no process in {FORK_SECONDS:g} s") from None
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


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it, the oldest first; empty when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def parent_pid(process: psutil.Process) -> int:
    """Its parent, or 0 when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.ppid()
    return 0


def send(number: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    """Signal those that still live."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def await_gone(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Wait until none of them runs.

    Raises:
        EmbeddedServerError: some still do after `seconds`.
    """
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
