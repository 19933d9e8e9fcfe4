"""Every statement that leaves seats and ends teams."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from growth.mechanics.group_buy.model import MAX_TEAM_SIZE
from growth.mechanics.group_buy.store.campaigns import put_back
from growth.mechanics.group_buy.team.model import EndReason, ReleaseReason, Seat, SeatState, Team, TeamState
from growth.mechanics.group_buy.team.store.teams import SEATS, TEAMS
from growth.plumbing.postgres.database import Reader, Tx


async def lock_lapsing_teams(tx: Tx, lapsed_before: datetime, seats: int) -> list[str]:
    """Lock the teams of the `seats` holds that have been over for longest; those at work elsewhere are left to it."""
    rows = await tx.fetch(
        """
        SELECT team_id
        FROM group_buy.teams
        WHERE team_id IN (
            SELECT team_id
            FROM group_buy.seats
            WHERE state = 'held'
              AND held_until < $1
            ORDER BY held_until
            LIMIT $2)
          -- Else its seats end with it.
          AND expires_at > $1
        ORDER BY team_id
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        lapsed_before,
        seats,
    )
    return [row["team_id"] for row in rows]


async def release(
    tx: Tx,
    seat_ids: Sequence[str],
    reason: ReleaseReason,
    now: datetime,
    user_id: str | None = None,
    state: SeatState = "held",
) -> list[Seat]:
    """End holds in locked teams; returns those that were held (by `user_id`, if given), or in another `state`."""
    return await SEATS.fetch_all(
        tx,
        """
        UPDATE group_buy.seats
        SET state = 'released', release_reason = $2, ended_at = $3
        WHERE seat_id = ANY ($1::uuid[])
          AND state = $5
          AND ($4::text IS NULL OR user_id = $4)
        RETURNING kit.columns
        """,
        list(seat_ids),
        reason,
        now,
        user_id,
        state,
    )


async def release_lapsed(tx: Tx, team_ids: Sequence[str], lapsed_before: datetime, now: datetime) -> list[Seat]:
    """End the holds of locked teams whose time is over."""
    return await SEATS.fetch_all(
        tx,
        """
        UPDATE group_buy.seats AS seat
        SET state = 'released', release_reason = 'lapsed', ended_at = $3
        FROM unnest($1::uuid[]) AS locked (team_id)
        CROSS JOIN LATERAL (
            SELECT mine.seat_id
            FROM group_buy.seats AS mine
            WHERE mine.team_id = locked.team_id
              AND mine.state = 'held'
              AND mine.held_until < $2
            LIMIT $4
        ) AS lapsed
        WHERE seat.seat_id = lapsed.seat_id
          AND seat.state = 'held'
        RETURNING seat.kit.columns
        """,
        list(team_ids),
        lapsed_before,
        now,
        MAX_TEAM_SIZE,
    )


async def count_out(tx: Tx, held: Sequence[Seat], paid: Sequence[Seat]) -> dict[str, Team]:
    """Lower what forming teams count by seats that have just left, held or paid; returns the teams as they are now."""
    taken, paid_by, veterans, newcomers_paid = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for seat in [*held, *paid]:
        taken[seat.team_id] += 1
        veterans[seat.team_id] += not seat.is_newcomer
    for seat in paid:
        paid_by[seat.team_id] += 1
        newcomers_paid[seat.team_id] += seat.is_newcomer
    team_ids = sorted(taken)
    teams = await TEAMS.fetch_by_id(
        tx,
        """
        UPDATE group_buy.teams AS team
        SET seats_taken = team.seats_taken - gone.seats,
            seats_paid = team.seats_paid - gone.paid,
            veterans_taken = team.veterans_taken - gone.veterans,
            newcomers_paid = team.newcomers_paid - gone.newcomers_paid
        FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[])
            AS gone (team_id, seats, paid, veterans, newcomers_paid)
        WHERE team.team_id = gone.team_id
          AND team.state = 'forming'
        RETURNING team.kit.columns
        """,
        team_ids,
        [taken[team_id] for team_id in team_ids],
        [paid_by[team_id] for team_id in team_ids],
        [veterans[team_id] for team_id in team_ids],
        [newcomers_paid[team_id] for team_id in team_ids],
    )
    assert len(teams) == len(team_ids), "a seat that leaves a team is of a forming one"
    return teams


async def elect(tx: Tx, team_ids: Sequence[str]) -> list[Seat]:
    """Let who paid first of those still there lead each locked team; returns the new leaders' seats."""
    return await SEATS.fetch_all(
        tx,
        """
        WITH first AS (
            SELECT DISTINCT ON (team_id) kit.columns
            FROM group_buy.seats
            WHERE team_id = ANY ($1::uuid[])
              AND state = 'paid'
            ORDER BY team_id, paid_at, seat_id
        ),
        elected AS (
            UPDATE group_buy.teams AS team
            SET leader_seat_id = first.seat_id
            FROM first
            WHERE team.team_id = first.team_id
              AND team.state = 'forming'
            RETURNING team.team_id
        )
        SELECT first.kit.columns
        FROM first
        JOIN elected USING (team_id)
        """,
        list(team_ids),
    )


async def give_back(tx: Tx, seats: Sequence[Seat]) -> None:
    """Free the units of seats that take no place any more: holdings first, then campaigns, each in one order."""
    if not seats:
        return
    gone = sorted(Counter((seat.group_buy_id, seat.user_id) for seat in seats).items())
    # As an upsert that always finds its row: by its key, in this order, whatever Postgres believes of the table.
    await tx.execute(
        """
        INSERT INTO group_buy.holdings AS holding (group_buy_id, user_id, seats)
        SELECT gone.group_buy_id, gone.user_id, gone.seats
        FROM unnest($1::uuid[], $2::text[], $3::int[]) AS gone (group_buy_id, user_id, seats)
        ORDER BY gone.group_buy_id, gone.user_id
        ON CONFLICT (group_buy_id, user_id) DO UPDATE
        SET seats = holding.seats - excluded.seats
        """,
        [group_buy_id for (group_buy_id, _), _ in gone],
        [user_id for (_, user_id), _ in gone],
        [count for _, count in gone],
    )
    await put_back(tx, dict(Counter(seat.group_buy_id for seat in seats)))


async def end_teams(tx: Tx, team_ids: Sequence[str], state: TeamState, reason: EndReason, now: datetime) -> list[Team]:
    """End forming teams, with those who paid or without anybody; returns those that were forming.

    `full` ends those alone in which every seat is paid.
    """
    return await TEAMS.fetch_all(
        tx,
        """
        UPDATE group_buy.teams
        SET state = $2,
            end_reason = $3,
            ended_at = $4,
            seats_taken = CASE $2 WHEN 'complete' THEN seats_paid ELSE 0 END,
            seats_paid = CASE $2 WHEN 'complete' THEN seats_paid ELSE 0 END,
            veterans_taken = CASE $2 WHEN 'complete' THEN seats_paid - newcomers_paid ELSE 0 END,
            newcomers_paid = CASE $2 WHEN 'complete' THEN newcomers_paid ELSE 0 END
        WHERE team_id = ANY ($1::uuid[])
          AND state = 'forming'
          AND ($2 = 'failed' OR seats_paid > 0)
          AND ($3 <> 'full' OR seats_paid = team_size)
        RETURNING kit.columns
        """,
        list(team_ids),
        state,
        reason,
        now,
    )


async def lock_due_teams(tx: Tx, expired_before: datetime, teams: int, seats: int) -> list[str]:
    """Lock teams whose time is over, at most so many with about so many seats; those at work elsewhere come later."""
    rows = await tx.fetch(
        """
        SELECT team_id
        FROM group_buy.teams
        WHERE team_id IN (
            SELECT team_id
            FROM (
                SELECT team_id, seats_taken, sum(seats_taken) OVER (ORDER BY expires_at, team_id) AS seats
                FROM (
                    SELECT team_id, seats_taken, expires_at
                    FROM group_buy.teams
                    WHERE state = 'forming'
                      AND expires_at <= $1
                    ORDER BY expires_at
                    LIMIT $2
                ) AS oldest
            ) AS counted
            WHERE counted.seats - counted.seats_taken < $3)
          AND state = 'forming'
        ORDER BY team_id
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        expired_before,
        teams,
        seats,
    )
    return [row["team_id"] for row in rows]


async def end_due_teams(tx: Tx, team_ids: Sequence[str], now: datetime) -> list[Team]:
    """End locked teams: complete if as many as the threshold asks have paid, newcomers among them; else failed.

    A statement of its own, after the lock: only so does it see a payment that the lock waited for or came after.
    """
    return await TEAMS.fetch_all(
        tx,
        """
        UPDATE group_buy.teams AS team
        SET state = CASE WHEN judged.enough THEN 'complete' ELSE 'failed' END,
            end_reason = CASE WHEN judged.enough THEN 'threshold' ELSE 'expired' END,
            ended_at = $2,
            seats_taken = CASE WHEN judged.enough THEN team.seats_paid ELSE 0 END,
            seats_paid = CASE WHEN judged.enough THEN team.seats_paid ELSE 0 END,
            veterans_taken = CASE WHEN judged.enough THEN team.seats_paid - team.newcomers_paid ELSE 0 END,
            newcomers_paid = CASE WHEN judged.enough THEN team.newcomers_paid ELSE 0 END
        FROM (
            SELECT team_id, seats_paid >= complete_at_least AND newcomers_paid >= newcomers_at_least AS enough
            FROM group_buy.teams
            WHERE team_id = ANY ($1::uuid[])
        ) AS judged
        WHERE team.team_id = judged.team_id
          AND team.state = 'forming'
        RETURNING team.kit.columns
        """,
        list(team_ids),
        now,
    )


async def end_seats(tx: Tx, team_ids: Sequence[str], state: TeamState, now: datetime) -> list[Seat]:
    """Bring the live seats of teams that have just ended so to their end: confirmed, owed a refund, or released.

    Team by team, by a limit that is never reached: Postgres then never thinks of reading all seats, whatever it
    believes to know of how many a team has.
    """
    return await SEATS.fetch_all(
        tx,
        """
        UPDATE group_buy.seats AS seat
        SET state = CASE
                WHEN seat.state = 'held' THEN 'released'
                WHEN $2 = 'complete' THEN 'confirmed'
                ELSE 'refund_due'
            END,
            release_reason = CASE WHEN seat.state = 'held' THEN 'team_' || $2::text END,
            confirmed_at = CASE WHEN seat.state = 'paid' AND $2 = 'complete' THEN $3::timestamptz END,
            ended_at = CASE WHEN seat.state = 'held' THEN $3::timestamptz END
        FROM unnest($1::uuid[]) AS ended (team_id)
        CROSS JOIN LATERAL (
            SELECT mine.seat_id
            FROM group_buy.seats AS mine
            WHERE mine.team_id = ended.team_id
              AND mine.state IN ('held', 'paid')
            LIMIT $4
        ) AS live
        WHERE seat.seat_id = live.seat_id
          AND seat.state IN ('held', 'paid')
        RETURNING seat.kit.columns
        """,
        list(team_ids),
        state,
        now,
        MAX_TEAM_SIZE,
    )


class SeatOwed(Struct, frozen=True):
    """What must be paid back of one order line."""

    order_id: str
    line_id: str
    seat_id: str
    reason: str
    amount_fen: int


async def require_refunds(tx: Tx, owed: Sequence[SeatOwed], now: datetime) -> set[tuple[str, str]]:
    """Note what must be paid back; returns the order lines of which that was not known."""
    if not owed:
        return set()
    rows = await tx.fetch(
        """
        INSERT INTO group_buy.refunds_required (order_id, line_id, seat_id, reason, amount_fen, at)
        SELECT order_id, line_id, seat_id, reason, amount_fen, $6
        FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::bigint[])
            AS owed (order_id, line_id, seat_id, reason, amount_fen)
        ORDER BY order_id, line_id
        ON CONFLICT (order_id, line_id) DO NOTHING
        RETURNING order_id, line_id
        """,
        [one.order_id for one in owed],
        [one.line_id for one in owed],
        [one.seat_id for one in owed],
        [one.reason for one in owed],
        [one.amount_fen for one in owed],
        now,
    )
    return {(row["order_id"], row["line_id"]) for row in rows}


async def refund_reason(reader: Reader, order_id: str, line_id: str) -> tuple[str, int] | None:
    """Return why an order line had to be paid back, and how much of it, if it had."""
    row = await reader.fetchrow(
        "SELECT reason, amount_fen FROM group_buy.refunds_required WHERE order_id = $1 AND line_id = $2",
        order_id,
        line_id,
    )
    return None if row is None else (row["reason"], row["amount_fen"])
