"""Tells members what hurries."""

from growth.mechanics.group_buy.nudge import store
from growth.mechanics.group_buy.team.store import teams as teams_store
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.work.periodic import Turn
from growth.vocabulary.alike import alike
from growth.vocabulary.events.group_buy import GroupBuyExpiringSoon, GroupBuyOneSeatLeft

NUDGE_BATCH = 500


async def nudge(turn: Turn) -> int:
    """Tell members, once for each team, that one seat is left, and that time is running out."""
    async with turn.transaction(everyone=True) as tx:
        almost = await store.mark_one_seat_left(tx, turn.now, NUDGE_BATCH)
        soon = await store.mark_expiring_soon(tx, turn.now, NUDGE_BATCH)
        members = await teams_store.seats_of_teams(tx, sorted({team.team_id for team in [*almost, *soon]}))
        users_of = {team_id: [seat.user_id for seat in seats] for team_id, seats in members.items()}
        await emit(
            tx,
            *[alike(GroupBuyOneSeatLeft, team, at=turn.now, user_ids=users_of[team.team_id]) for team in almost],
            *[
                alike(
                    GroupBuyExpiringSoon,
                    team,
                    at=turn.now,
                    user_ids=users_of[team.team_id],
                    seats_missing=team.team_size - team.seats_paid,
                )
                for team in soon
                if team.seats_paid > 0
            ],
        )
    return max(len(almost), len(soon))
