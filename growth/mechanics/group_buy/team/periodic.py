"""What the clock does to teams, seats and campaigns."""

from datetime import timedelta

from growth.kit.campaign.service import end_over
from growth.mechanics.group_buy.model import GROUP_BUYS
from growth.mechanics.group_buy.team.ending import store
from growth.mechanics.group_buy.team.ending.service import after_ending, after_leaving
from growth.plumbing.work.periodic import Turn

LAPSE_BATCH = 500
"""Holds ended in one transaction, about."""
EXPIRE_BATCH_TEAMS = 1_000
EXPIRE_BATCH_SEATS = 4_000
"""Teams ended in one transaction, and their seats: a few hundred milliseconds, of which joins of the same campaign wait
for the last few."""
END_BATCH = 100
GRACE = timedelta(seconds=2)
"""A payment that left before the end of a hold has this long to arrive."""


class TeamKeeper:
    """Keeps teams, seats and campaigns in step with the clock. Time is Postgres' here as it is at joining."""

    async def end_due_teams(self, turn: Turn) -> int:
        """End teams whose time is over, set by set: complete where the threshold is reached, else failed."""
        async with turn.transaction(everyone=True) as tx:
            due = await store.lock_due_teams(tx, turn.now, EXPIRE_BATCH_TEAMS, EXPIRE_BATCH_SEATS)
            if due:
                await after_ending(tx, await store.end_due_teams(tx, due, turn.now), turn.now)
        return len(due)

    async def end_lapsed_holds(self, turn: Turn) -> int:
        """End holds whose time is over; their seats are free again."""
        async with turn.transaction(everyone=True) as tx:
            lapsed_before = turn.now - GRACE
            team_ids = await store.lock_lapsing_teams(tx, lapsed_before, LAPSE_BATCH)
            lapsed = await store.release_lapsed(tx, team_ids, lapsed_before, turn.now) if team_ids else []
            await after_leaving(tx, turn.now, held=lapsed)
        return len(lapsed)

    async def end_closed_campaigns(self, turn: Turn) -> int:
        """End campaigns whose window has closed."""
        async with turn.transaction() as tx:
            return await end_over(tx, GROUP_BUYS, turn.now, turn.now, END_BATCH)
