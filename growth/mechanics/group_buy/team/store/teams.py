"""Every statement that looks at teams and seats, locks them, and takes seats.

What a team counts and what its seats are, only ever moves together. Locks: teams, seats, holdings, campaigns, each by
id; see the room's docstring.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from growth.mechanics.group_buy.model import MAX_TEAM_SIZE
from growth.mechanics.group_buy.team.model import Seat, ShopperInCampaign, Team
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows

TEAMS = Rows(row=Team, id_field="team_id")
SEATS = Rows(row=Seat, id_field="seat_id")


async def see_one_moment(tx: Tx) -> None:
    """Let all that `tx` reads be of one moment. Its first statement; it can write nothing."""
    await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


async def find_teams(reader: Reader, team_ids: Sequence[str]) -> dict[str, Team]:
    """Return those of `team_ids` that exist."""
    return await TEAMS.fetch_by_id(
        reader,
        """
        SELECT kit.columns
        FROM group_buy.teams
        WHERE team_id = ANY ($1::uuid[])
        """,
        list(team_ids),
    )


async def seats_of_teams(reader: Reader, team_ids: Sequence[str]) -> dict[str, list[Seat]]:
    """Return the seats that take a place in teams, by team.

    Team by team, by a limit that is never reached: see `ending.store.end_seats`.
    """
    seats = await SEATS.fetch_all(
        reader,
        """
        SELECT seat.kit.columns
        FROM unnest($1::uuid[]) AS asked (team_id)
        CROSS JOIN LATERAL (
            SELECT *
            FROM group_buy.seats AS mine
            WHERE mine.team_id = asked.team_id
              AND mine.occupies
            ORDER BY mine.held_at
            LIMIT $2
        ) AS seat
        """,
        list(team_ids),
        MAX_TEAM_SIZE,
    )
    found: dict[str, list[Seat]] = {team_id: [] for team_id in team_ids}
    for seat in seats:
        found[seat.team_id].append(seat)
    return found


async def seat_ids_of_teams(reader: Reader, team_ids: Sequence[str], limit: int) -> dict[str, list[str]]:
    """Return the ids of all seats there ever were in teams, at most `limit` of each."""
    rows = await reader.fetch(
        """
        SELECT asked.team_id, array_agg(seat.seat_id) AS seat_ids
        FROM unnest($1::uuid[]) AS asked (team_id)
        CROSS JOIN LATERAL (
            SELECT mine.seat_id
            FROM group_buy.seats AS mine
            WHERE mine.team_id = asked.team_id
            LIMIT $2
        ) AS seat
        GROUP BY asked.team_id
        """,
        list(team_ids),
        limit,
    )
    return {row["team_id"]: row["seat_ids"] for row in rows}


async def find_seats(reader: Reader, seat_ids: Sequence[str]) -> dict[str, Seat]:
    """Return those of `seat_ids` that exist."""
    return await SEATS.fetch_by_id(
        reader,
        """
        SELECT kit.columns
        FROM group_buy.seats
        WHERE seat_id = ANY ($1::uuid[])
        """,
        list(seat_ids),
    )


async def time(reader: Reader) -> datetime:
    """Return Postgres' time."""
    now: datetime = await reader.fetchval("SELECT clock_timestamp()")
    return now


async def standings(reader: Reader, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], ShopperInCampaign]:
    """Return what pairs of campaign and shopper have, all newcomers as far as this room knows."""
    asked = sorted(set(pairs))
    rows = await reader.fetch(
        """
        SELECT asked.group_buy_id, asked.user_id, coalesce(holding.seats, 0) AS seats,
            live.seat_id IS NOT NULL AS is_live
        FROM unnest($1::uuid[], $2::text[]) AS asked (group_buy_id, user_id)
        LEFT JOIN LATERAL (
            SELECT mine.seats
            FROM group_buy.holdings AS mine
            WHERE mine.group_buy_id = asked.group_buy_id
              AND mine.user_id = asked.user_id
            LIMIT 1
        ) AS holding ON TRUE
        LEFT JOIN LATERAL (
            SELECT mine.seat_id
            FROM group_buy.seats AS mine
            WHERE mine.group_buy_id = asked.group_buy_id
              AND mine.user_id = asked.user_id
              AND mine.state IN ('held', 'paid')
            LIMIT 1
        ) AS live ON TRUE
        """,
        [group_buy_id for group_buy_id, _ in asked],
        [user_id for _, user_id in asked],
    )
    return {
        (row["group_buy_id"], row["user_id"]): ShopperInCampaign(seats=row["seats"], is_live=row["is_live"])
        for row in rows
    }


async def lock_teams(tx: Tx, team_ids: Iterable[str]) -> dict[str, Team]:
    """Return those of `team_ids` that exist, locked until `tx` ends, in the order of their ids."""
    return await TEAMS.fetch_by_id(
        tx,
        """
        SELECT kit.columns
        FROM group_buy.teams
        WHERE team_id = ANY ($1::uuid[])
        ORDER BY team_id
        FOR NO KEY UPDATE
        """,
        sorted(set(team_ids)),
    )


async def lock_teams_of_seats(tx: Tx, seat_ids: Sequence[str]) -> dict[str, Team]:
    """Return the teams of `seat_ids`, locked until `tx` ends."""
    rows = await tx.fetch(
        "SELECT DISTINCT team_id FROM group_buy.seats WHERE seat_id = ANY ($1::uuid[])", list(seat_ids)
    )
    return await lock_teams(tx, [row["team_id"] for row in rows])


class NewSeats(Struct, frozen=True):
    """Seats to write together: each with its shopper, its team (new or locked) and its campaign."""

    seats: Sequence[Seat]
    new_teams: Sequence[Team]
    nudge_at: Sequence[datetime]
    """Of the new teams."""


async def take(tx: Tx, taken: NewSeats, now: datetime) -> bool:
    """Write seats and raise what counts them, all in one statement, all or nothing.

    The guards: a place in a forming team whose time is not over, and for who bought before one that newcomers do not
    need; one live seat a shopper and campaign (a unique index); the shopper's limit; a unit of an open campaign.
    False means that one of them said no: then the transaction must be rolled back.
    """
    seats, teams = taken.seats, taken.new_teams
    complete: bool = await tx.fetchval(
        """
        WITH asked AS MATERIALIZED (
            SELECT *
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                        $8::boolean[], $9::timestamptz[])
                AS asked (seat_id, team_id, group_buy_id, user_id, nickname, sku, price_fen, is_newcomer, held_until)
        ),
        seated AS (
            INSERT INTO group_buy.seats (seat_id, team_id, group_buy_id, user_id, nickname, sku, price_fen, is_newcomer,
                                         state, held_at, held_until)
            SELECT seat_id, team_id, group_buy_id, user_id, nickname, sku, price_fen, is_newcomer, 'held', $10,
                held_until
            FROM asked
            -- By shopper: who waits for the same shopper's other seat, waits in one order.
            ORDER BY group_buy_id, user_id
            ON CONFLICT DO NOTHING
            RETURNING seat_id
        ),
        opened AS (
            INSERT INTO group_buy.teams (team_id, group_buy_id, leader_seat_id, team_size, complete_at_least,
                                         newcomers_at_least, veterans_taken, seats_taken, opened_at, expires_at,
                                         nudge_at)
            SELECT team_id, group_buy_id, leader_seat_id, team_size, complete_at_least, newcomers_at_least,
                veterans_taken, 1, $10, expires_at, nudge_at
            FROM unnest($11::uuid[], $12::uuid[], $13::uuid[], $14::int[], $15::int[], $16::int[], $17::int[],
                        $18::timestamptz[], $19::timestamptz[])
                AS fresh (team_id, group_buy_id, leader_seat_id, team_size, complete_at_least, newcomers_at_least,
                          veterans_taken, expires_at, nudge_at)
            WHERE veterans_taken <= team_size - newcomers_at_least
            ON CONFLICT DO NOTHING
            RETURNING team_id
        ),
        joined AS (
            UPDATE group_buy.teams AS team
            SET seats_taken = team.seats_taken + more.seats,
                veterans_taken = team.veterans_taken + more.veterans
            FROM (
                SELECT team_id, count(*)::int AS seats, count(*) FILTER (WHERE NOT is_newcomer)::int AS veterans
                FROM asked
                WHERE team_id <> ALL ($11::uuid[])
                GROUP BY team_id
            ) AS more
            WHERE team.team_id = more.team_id
              AND team.state = 'forming'
              AND team.expires_at > $10
              AND team.seats_taken + more.seats <= team.team_size
              AND (more.veterans = 0
                   OR team.veterans_taken + more.veterans <= team.team_size - team.newcomers_at_least)
            RETURNING team.team_id
        ),
        holding AS (
            INSERT INTO group_buy.holdings AS holding (group_buy_id, user_id, seats)
            SELECT asked.group_buy_id, asked.user_id, 1
            FROM asked
            WHERE (SELECT count(*) FROM seated) >= 0
            ORDER BY asked.group_buy_id, asked.user_id
            ON CONFLICT (group_buy_id, user_id) DO UPDATE
            SET seats = holding.seats + 1
            WHERE holding.seats + 1 <= (
                SELECT max_per_shopper FROM group_buy.campaigns AS c WHERE c.group_buy_id = holding.group_buy_id)
            RETURNING user_id
        ),
        wanted AS MATERIALIZED (
            SELECT group_buy_id, count(*)::int AS units
            FROM asked
            WHERE (SELECT count(*) FROM holding) >= 0
            GROUP BY group_buy_id
        ),
        locked AS MATERIALIZED (
            SELECT campaign.group_buy_id
            FROM group_buy.campaigns AS campaign
            WHERE campaign.group_buy_id IN (SELECT group_buy_id FROM wanted)
            ORDER BY campaign.group_buy_id
            FOR NO KEY UPDATE
        ),
        raised AS (
            UPDATE group_buy.campaigns AS campaign
            SET taken = campaign.taken + wanted.units
            FROM wanted
            JOIN locked USING (group_buy_id)
            WHERE campaign.group_buy_id = wanted.group_buy_id
              AND campaign.state = 'published'
              AND campaign.taken + wanted.units <= campaign.units_total
              AND $10 >= campaign.opens_at
              AND $10 < campaign.closes_at
            RETURNING campaign.group_buy_id
        )
        SELECT (SELECT count(*) FROM seated) = cardinality($1::uuid[])
           AND (SELECT count(*) FROM opened) = cardinality($11::uuid[])
           AND (SELECT count(*) FROM opened) + (SELECT count(*) FROM joined)
             = (SELECT count(DISTINCT team_id) FROM asked)
           AND (SELECT count(*) FROM holding) = cardinality($1::uuid[])
           AND (SELECT count(*) FROM raised) = (SELECT count(*) FROM wanted)
        """,
        [seat.seat_id for seat in seats],
        [seat.team_id for seat in seats],
        [seat.group_buy_id for seat in seats],
        [seat.user_id for seat in seats],
        [seat.nickname for seat in seats],
        [seat.sku for seat in seats],
        [seat.price_fen for seat in seats],
        [seat.is_newcomer for seat in seats],
        [seat.held_until for seat in seats],
        now,
        [team.team_id for team in teams],
        [team.group_buy_id for team in teams],
        [team.leader_seat_id for team in teams],
        [team.team_size for team in teams],
        [team.complete_at_least for team in teams],
        [team.newcomers_at_least for team in teams],
        [team.veterans_taken for team in teams],
        [team.expires_at for team in teams],
        list(taken.nudge_at),
    )
    return complete
