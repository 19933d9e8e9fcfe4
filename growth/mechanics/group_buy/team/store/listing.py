"""Every statement behind lists and numbers."""

from datetime import datetime

import msgspec

from growth.mechanics.group_buy.team.model import Seat, Team, TeamCard
from growth.mechanics.group_buy.team.store.teams import SEATS, TEAMS
from growth.plumbing.postgres.database import Reader


async def joinable_teams(
    reader: Reader, group_buy_id: str, after: tuple[int, datetime, str] | None, limit: int
) -> list[TeamCard]:
    """Return forming teams with a free seat: fewest missing first, then soonest to expire."""
    missing, expires_at, team_id = after or (None, None, None)
    rows = await reader.fetch(
        """
        SELECT team.team_id, leader.nickname AS leader, team.team_size, team.seats_paid,
            team.team_size - team.seats_taken AS seats_missing, team.expires_at
        FROM group_buy.teams AS team
        JOIN group_buy.seats AS leader ON leader.seat_id = team.leader_seat_id
        WHERE team.group_buy_id = $1
          AND team.state = 'forming'
          AND team.seats_taken < team.team_size
          AND team.expires_at > clock_timestamp()
          AND ($2::int IS NULL OR (team.team_size - team.seats_taken, team.expires_at, team.team_id)
                                > ($2::int, $3::timestamptz, $4::uuid))
        ORDER BY team.team_size - team.seats_taken, team.expires_at, team.team_id
        LIMIT $5
        """,
        group_buy_id,
        missing,
        expires_at,
        team_id,
        limit,
    )
    return [msgspec.convert(dict(row), TeamCard) for row in rows]


async def page_of_teams(
    reader: Reader, *, group_buy_id: str | None, state: str | None, after: str | None, limit: int
) -> list[Team]:
    """Return teams in the order of their ids, past `after`."""
    return await TEAMS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM group_buy.teams
        WHERE ($1::uuid IS NULL OR group_buy_id = $1)
          AND ($2::text IS NULL OR state = $2)
          AND ($3::uuid IS NULL OR team_id > $3)
        ORDER BY team_id
        LIMIT $4
        """,
        group_buy_id,
        state,
        after,
        limit,
    )


async def page_of_seats(
    reader: Reader,
    *,
    group_buy_id: str | None = None,
    team_id: str | None = None,
    user_id: str | None = None,
    state: str | None = None,
    order_id: str | None = None,
    after: str | None = None,
    limit: int,
) -> list[Seat]:
    """Return seats in the order of their ids, past `after`."""
    return await SEATS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM group_buy.seats
        WHERE ($1::uuid IS NULL OR group_buy_id = $1)
          AND ($2::uuid IS NULL OR team_id = $2)
          AND ($3::text IS NULL OR user_id = $3)
          AND ($4::text IS NULL OR state = $4)
          AND ($5::text IS NULL OR order_id = $5)
          AND ($6::uuid IS NULL OR seat_id > $6)
        ORDER BY seat_id
        LIMIT $7
        """,
        group_buy_id,
        team_id,
        user_id,
        state,
        order_id,
        after,
        limit,
    )


async def count_teams(reader: Reader, group_buy_id: str) -> dict[tuple[str, str | None], tuple[int, int]]:
    """Return teams and their paid seats by state and reason."""
    rows = await reader.fetch(
        """
        SELECT state, end_reason, count(*) AS teams, sum(seats_paid)::int AS paid
        FROM group_buy.teams
        WHERE group_buy_id = $1
        GROUP BY state, end_reason
        """,
        group_buy_id,
    )
    return {(row["state"], row["end_reason"]): (row["teams"], row["paid"]) for row in rows}


async def count_seats(reader: Reader, group_buy_id: str) -> dict[str, tuple[int, int]]:
    """Return seats and what was paid for them by state; released ones by their reason."""
    rows = await reader.fetch(
        """
        SELECT coalesce(release_reason, state) AS state, count(*) AS seats,
            coalesce(sum(paid_fen), 0)::bigint AS paid_fen
        FROM group_buy.seats
        WHERE group_buy_id = $1
        GROUP BY coalesce(release_reason, state)
        """,
        group_buy_id,
    )
    return {row["state"]: (row["seats"], row["paid_fen"]) for row in rows}
