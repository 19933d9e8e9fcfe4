"""How long a test waits for what must happen: until it has, or the process it waits for is gone.

A machine that is slow or busy is no fault, so no test counts seconds: what fails a test is what is seen. The one bound
is a last resort for what hangs, and shared by all.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 300.0
"""Below pytest's `timeout`, so that the test itself tells where it hangs."""
LOOK_SECONDS = 0.02


async def until(is_so: Callable[[], Awaitable[object]], what: str) -> None:
    """Look again and again until it is so. `is_so` raises when it cannot come any more."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not await is_so():
        assert time.monotonic() < give_up_at, f"never: {what}"
        await asyncio.sleep(LOOK_SECONDS)


def wait_until(is_so: Callable[[], object], what: str) -> None:
    """Do the same where no loop runs."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < give_up_at, f"never: {what}"
        time.sleep(LOOK_SECONDS)


def inherited(*names: str) -> dict[str, str]:
    """What a process with an environment of its own keeps of ours: `names`, and the calendar of `scripts/test-at`."""
    kept = (*names, "LD_PRELOAD", "CLOCK_OFFSET") if "CLOCK_OFFSET" in os.environ else names
    return {name: os.environ[name] for name in kept if name in os.environ}
