"""Every statement of paying: a held seat, a released one again, and what was paid back."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
from msgspec import Struct

from growth.mechanics.group_buy.model import GroupBuy
from growth.mechanics.group_buy.store.campaigns import raise_taken
from growth.mechanics.group_buy.team.model import Seat
from growth.plumbing.postgres.database import Tx


class Payment(Struct, frozen=True):
    """An order line that pays for a seat."""

    order_id: str
    line_id: str
    amount_fen: int
    is_newcomer: bool
    """Whether its shopper had never bought before this order."""


async def bind(tx: Tx, seat_id: str, order_id: str) -> bool:
    """Tie a held seat to the order that means to pay for it; False if it is not held, or another order's."""
    bound: str | None = await tx.fetchval(
        """
        UPDATE group_buy.seats
        SET order_id = $2
        WHERE seat_id = $1
          AND state = 'held'
          AND (order_id IS NULL OR order_id = $2)
        RETURNING seat_id
        """,
        seat_id,
        order_id,
    )
    return bound is not None


async def pay(tx: Tx, seat: Seat, payment: Payment, now: datetime) -> bool:
    """Note that a held seat is paid; False, with nothing changed, if newcomers need its place."""
    counted = await tx.fetchval(
        """
        UPDATE group_buy.teams
        SET seats_paid = seats_paid + 1,
            newcomers_paid = newcomers_paid + $2::int,
            veterans_taken = veterans_taken + $3::int
        WHERE team_id = $1
          AND state = 'forming'
          AND ($3::int <= 0 OR veterans_taken + $3::int <= team_size - newcomers_at_least)
        RETURNING team_id
        """,
        seat.team_id,
        int(payment.is_newcomer),
        int(seat.is_newcomer) - int(payment.is_newcomer),
    )
    if counted is None:
        return False
    paid = await tx.fetchval(
        """
        UPDATE group_buy.seats
        SET state = 'paid', order_id = $2, line_id = $3, paid_fen = $4, is_newcomer = $5, paid_at = $6
        WHERE seat_id = $1
          AND state = 'held'
        RETURNING seat_id
        """,
        seat.seat_id,
        payment.order_id,
        payment.line_id,
        payment.amount_fen,
        payment.is_newcomer,
        now,
    )
    assert paid is not None, "its team is locked, so it is still held"
    return True


async def seats_to_judge(tx: Tx, user_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the paid seats of shoppers in forming teams that newcomers matter to, by shopper."""
    rows = await tx.fetch(
        """
        SELECT seat.user_id, seat.seat_id
        FROM group_buy.seats AS seat
        JOIN group_buy.teams AS team USING (team_id)
        WHERE seat.user_id = ANY ($1::text[])
          AND seat.state = 'paid'
          AND team.state = 'forming'
          AND team.newcomers_at_least > 0
        ORDER BY seat.seat_id
        """,
        user_ids,
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["user_id"], []).append(row["seat_id"])
    return found


async def change_newcomer(tx: Tx, seat: Seat, *, is_newcomer: bool) -> bool:
    """Count a paid seat of a locked team as a newcomer's, or not; False, with nothing changed, if newcomers need it."""
    counted = await tx.fetchval(
        """
        UPDATE group_buy.teams
        SET newcomers_paid = newcomers_paid + $2::int,
            veterans_taken = veterans_taken - $2::int
        WHERE team_id = $1
          AND state = 'forming'
          AND veterans_taken - $2::int <= team_size - newcomers_at_least
        RETURNING team_id
        """,
        seat.team_id,
        1 if is_newcomer else -1,
    )
    if counted is None:
        return False
    await tx.execute(
        """
        UPDATE group_buy.seats
        SET is_newcomer = $2
        WHERE seat_id = $1
        """,
        seat.seat_id,
        is_newcomer,
    )
    return True


class NoRoom(Exception):
    """One of the guards said no; undoes the savepoint."""


async def take_again(tx: Tx, seat: Seat, payment: Payment, now: datetime) -> bool:
    """Take a released seat's place in its team again, paid; False, with nothing changed, if it cannot be had."""
    try:
        async with tx.savepoint():
            raised = await tx.fetchval(
                """
                UPDATE group_buy.teams
                SET seats_taken = seats_taken + 1,
                    seats_paid = seats_paid + 1,
                    newcomers_paid = newcomers_paid + $2::int,
                    veterans_taken = veterans_taken + 1 - $2::int
                WHERE team_id = $1
                  AND state = 'forming'
                  AND expires_at > $3
                  AND seats_taken + 1 <= team_size
                  AND ($2::int = 1 OR veterans_taken + 1 <= team_size - newcomers_at_least)
                RETURNING team_id
                """,
                seat.team_id,
                int(payment.is_newcomer),
                now,
            )
            if raised is None:
                raise NoRoom  # noqa: TRY301 - undoes the savepoint
            await _occupy_again(tx, seat, seat.team_id, payment, now)
    except (NoRoom, asyncpg.UniqueViolationError):
        return False
    return True


async def take_in_new_team(
    tx: Tx, seat: Seat, campaign: GroupBuy, team_id: str, payment: Payment, now: datetime
) -> bool:
    """Move a released seat into a new team that it leads, paid; False, with nothing changed, if it cannot be had."""
    try:
        async with tx.savepoint():
            opened = await tx.fetchval(
                """
                INSERT INTO group_buy.teams (team_id, group_buy_id, leader_seat_id, team_size, complete_at_least,
                    newcomers_at_least, seats_taken, seats_paid, newcomers_paid, veterans_taken, opened_at, expires_at,
                    nudge_at)
                SELECT $1, $2, $3, $4::int, $5, $6::int, 1, 1, $7::int, 1 - $7::int, $8, $9, $10
                WHERE $7::int = 1 OR 1 <= $4::int - $6::int
                ON CONFLICT DO NOTHING
                RETURNING team_id
                """,
                team_id,
                campaign.group_buy_id,
                seat.seat_id,
                campaign.team_size,
                campaign.threshold,
                campaign.newcomers_at_least,
                int(payment.is_newcomer),
                now,
                campaign.expires_at(now),
                campaign.nudge_at(now),
            )
            if opened is None:
                raise NoRoom  # noqa: TRY301 - undoes the savepoint
            await _occupy_again(tx, seat, team_id, payment, now)
    except (NoRoom, asyncpg.UniqueViolationError):
        return False
    return True


async def _occupy_again(tx: Tx, seat: Seat, team_id: str, payment: Payment, now: datetime) -> None:
    """Bring a released seat back, paid. Raises `NoRoom`, or the unique violation of a shopper with a live seat."""
    taken = await tx.fetchval(
        """
        UPDATE group_buy.seats
        SET state = 'paid', release_reason = NULL, ended_at = NULL, team_id = $2, order_id = $3, line_id = $4,
            paid_fen = $5, is_newcomer = $6, paid_at = $7
        WHERE seat_id = $1
          AND state = 'released'
        RETURNING seat_id
        """,
        seat.seat_id,
        team_id,
        payment.order_id,
        payment.line_id,
        payment.amount_fen,
        payment.is_newcomer,
        now,
    )
    if taken is None:
        raise NoRoom
    held = await tx.fetchval(
        """
        INSERT INTO group_buy.holdings AS holding (group_buy_id, user_id, seats)
        VALUES ($1, $2, 1)
        ON CONFLICT (group_buy_id, user_id) DO UPDATE
        SET seats = holding.seats + 1
        WHERE holding.seats + 1 <= (SELECT max_per_shopper FROM group_buy.campaigns WHERE group_buy_id = $1)
        RETURNING user_id
        """,
        seat.group_buy_id,
        seat.user_id,
    )
    if held is None or not await raise_taken(tx, seat.group_buy_id, now):
        raise NoRoom


async def refund(tx: Tx, seat: Seat, now: datetime) -> bool:
    """Note that a paid seat was paid back; False if that is known. Who leaves a forming team must be counted out."""
    refunded: str | None = await tx.fetchval(
        """
        UPDATE group_buy.seats
        SET state = 'refunded', ended_at = $2
        WHERE seat_id = $1
          AND state IN ('paid', 'confirmed', 'refund_due')
        RETURNING seat_id
        """,
        seat.seat_id,
        now,
    )
    return refunded is not None
