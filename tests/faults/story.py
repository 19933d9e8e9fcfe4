"""One fault, told from before to after."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.faults.crowd import Crowd
from tests.faults.houses import House
from tests.faults.laws import Watch, judge

WON_BEFORE = 25
"""Claims acknowledged before the fault comes: the sale is in full swing, and far from over."""

MEASURED: list[tuple[str, float, float]] = []
"""Name of a fault, seconds until served again, seconds until both stores agreed."""


async def withstands(
    house: House, name: str, fault: Callable[[Crowd], Awaitable[object]], **of_the_crowd: Any
) -> Crowd:
    """Let `fault` happen in the middle of a sale; return its crowd once it is certain that every law held.

    `fault` returns when the fault is over. Then the service must be back by itself: every process that answers HTTP is
    ready, a newcomer gets the right answer.
    """
    house.start_dead()
    await house.ready()
    crowd = Crowd(house, await house.put_sale(), **of_the_crowd)
    watch = Watch(house, crowd.sale.sale_id)
    async with crowd.shopping(), watch.watching():
        await crowd.has_won(WON_BEFORE)
        await fault(crowd)
        over_at = time.monotonic()
        served_seconds = await house.be_served(crowd.newcomer)
        await crowd.gone()
        await judge(house, crowd)
        MEASURED.append((name, served_seconds, watch.mended_seconds(over_at)))
    return crowd


async def together(stories: dict[str, Coroutine[Any, Any, None]]) -> None:
    """Let all happen at the same time, since most of each is waiting; say of each that failed which it was."""
    endings = await asyncio.gather(*stories.values(), return_exceptions=True)
    failed = {name: ending for name, ending in zip(stories, endings, strict=True) if ending is not None}
    for name, ending in failed.items():
        ending.add_note(f"in the story: {name}")
    if failed:
        raise BaseExceptionGroup("stories that failed", list(failed.values()))
