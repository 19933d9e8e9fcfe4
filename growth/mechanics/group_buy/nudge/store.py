"""Every statement that nudges: marks, each once."""

from datetime import datetime

from growth.mechanics.group_buy.team.model import Team
from growth.mechanics.group_buy.team.store.teams import TEAMS
from growth.plumbing.postgres.database import Tx


async def mark_one_seat_left(tx: Tx, now: datetime, limit: int) -> list[Team]:
    """Note, once for each team, that one seat is left in it and that somebody has paid."""
    return await TEAMS.fetch_all(
        tx,
        """
        UPDATE group_buy.teams
        SET one_seat_left_at = $1
        WHERE team_id IN (
            SELECT team_id
            FROM group_buy.teams
            WHERE state = 'forming'
              AND one_seat_left_at IS NULL
              AND seats_taken = team_size - 1
              AND seats_paid > 0
              AND expires_at > $1
            ORDER BY expires_at
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING kit.columns
        """,
        now,
        limit,
    )


async def mark_expiring_soon(tx: Tx, now: datetime, limit: int) -> list[Team]:
    """Note, once for each team, that it will soon be over. Teams nobody has paid in are noted and not told."""
    return await TEAMS.fetch_all(
        tx,
        """
        UPDATE group_buy.teams
        SET expiring_soon_at = $1
        WHERE team_id IN (
            SELECT team_id
            FROM group_buy.teams
            WHERE state = 'forming'
              AND expiring_soon_at IS NULL
              AND nudge_at <= $1
              AND expires_at > $1
            ORDER BY nudge_at
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING kit.columns
        """,
        now,
        limit,
    )
