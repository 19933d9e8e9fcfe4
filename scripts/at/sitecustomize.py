"""Read by every Python under `scripts/test-at`, because the folder is on its PYTHONPATH."""

import os
import select
import time


def sleep(seconds: float, /) -> None:
    """Wait as `time.sleep` does, by another call.

    From 3.11 on Python's own asks for an absolute monotonic instant, which libfaketime 0.9.10 (Debian 12) sets back by
    the distance of the false clock though it is told to leave that clock alone: the kernel refuses what comes out.
    """
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select((), (), (), seconds)


time.sleep = sleep
# The distance is all that our processes share. What the library would share by this, another user may not read.
os.environ.pop("FAKETIME_SHARED", None)
