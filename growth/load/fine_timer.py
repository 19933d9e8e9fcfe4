"""A steady beat finer than a millisecond. Event-loop timers are not: both asyncio and uvloop round to whole ones."""

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable

BEAT_SECONDS = 0.000_5
"""How late a request may leave because the generator slept; measured answers beat more often when there is load."""

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = 0o2004000


class _Spec(ctypes.Structure):
    """`struct itimerspec`: interval and first expiry, seconds and nanoseconds each."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


def _timer_descriptor(seconds: float) -> int:
    """Return a Linux timerfd that becomes readable every `seconds`, or -1 where there is none."""
    if not sys.platform.startswith("linux"):
        return -1
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC))
    if descriptor < 0:
        return -1
    nanoseconds = int(seconds * 1e9)
    spec = _Spec(0, nanoseconds, 0, nanoseconds)
    if libc.timerfd_settime(descriptor, 0, ctypes.byref(spec), None) != 0:
        os.close(descriptor)
        return -1
    return descriptor


class FineTimer:
    """Calls `beat` every `BEAT_SECONDS` (every millisecond or two where the system has no timerfd) until stopped."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._loop = asyncio.get_running_loop()
        self._descriptor = _timer_descriptor(BEAT_SECONDS)
        self._timer: asyncio.TimerHandle | None = None
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._on_descriptor)
        else:
            self._on_timer()

    def _on_descriptor(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 8)
        self._beat()

    def _on_timer(self) -> None:
        self._timer = self._loop.call_later(BEAT_SECONDS, self._on_timer)
        self._beat()

    def stop(self) -> None:
        """Stop for good."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        if self._timer is not None:
            self._timer.cancel()
