"""What the clock does to programs."""

from datetime import timedelta

from growth.mechanics.referral.reward import store
from growth.mechanics.referral.service import end_closed
from growth.plumbing.work.periodic import Turn

FORGET_BATCH = 1_000
DAYS_KEPT = timedelta(days=60)
"""Of daily caps: a day is over long before."""


async def end_closed_programs(turn: Turn) -> int:
    """End programs whose time is over."""
    async with turn.transaction() as tx:
        return await end_closed(tx, turn.now)


async def forget_old_days(turn: Turn) -> int:
    """Forget how much of daily caps was used on days long past."""
    async with turn.transaction() as tx:
        return await store.forget_days(tx, (turn.now - DAYS_KEPT).date(), FORGET_BATCH)
