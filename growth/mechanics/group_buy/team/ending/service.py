"""What follows when seats are left and teams end: who leads, who is owed what, what is free again.

In the caller's transaction, under the locks of the teams.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from growth.mechanics.group_buy.model import GroupBuy, overpaid_fen
from growth.mechanics.group_buy.store import campaigns as campaigns_store
from growth.mechanics.group_buy.team.ending import store
from growth.mechanics.group_buy.team.ending.store import SeatOwed
from growth.mechanics.group_buy.team.model import Seat, Team, TeamState
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Tx
from growth.shop.order.owed.model import RefundFinding
from growth.shop.order.owed.service import owe
from growth.vocabulary.alike import alike
from growth.vocabulary.events import Event
from growth.vocabulary.events.group_buy import (
    GroupBuyLeaderChanged,
    GroupBuyRefundRequired,
    GroupBuySeatReleased,
    GroupBuyTeamComplete,
    GroupBuyTeamFailed,
)

TEAM_FAILED = "group_buy.team_failed"
OVERPAID = "group_buy.overpaid"
ENDED: tuple[TeamState, ...] = ("complete", "failed")


async def after_leaving(tx: Tx, now: datetime, *, held: Sequence[Seat] = (), paid: Sequence[Seat] = ()) -> None:
    """Count out seats that have just left forming teams, held (now released) or paid (now refunded).

    Where the leader left: the team fails if nobody has paid; else who paid first of those still there leads.
    """
    left = [*held, *paid]
    if not left:
        return
    teams = await store.count_out(tx, held, paid)
    gone = {seat.seat_id for seat in left}
    leaderless = [team for team in teams.values() if team.leader_seat_id in gone]
    events: list[Event] = [_released(seat, now) for seat in held]
    if to_lead := [team.team_id for team in leaderless if team.seats_paid > 0]:
        events += [alike(GroupBuyLeaderChanged, seat, at=now) for seat in await store.elect(tx, to_lead)]
    await emit(tx, *events)
    to_fail = [team.team_id for team in leaderless if team.seats_paid == 0]
    ended = await store.end_teams(tx, to_fail, "failed", "leader_left", now) if to_fail else []
    await after_ending(tx, ended, now, also_left=left)


async def after_ending(tx: Tx, teams: Sequence[Team], now: datetime, *, also_left: Sequence[Seat] = ()) -> None:
    """Bring the seats of teams that have just ended to their end, and tell everybody, each seat by itself.

    Everything that others may wait for (holdings, campaigns) is locked last.
    """
    seats: list[Seat] = []
    for state in ENDED:
        if team_ids := [team.team_id for team in teams if team.state == state]:
            seats += await store.end_seats(tx, team_ids, state, now)
    by_team: dict[str, list[Seat]] = defaultdict(list)
    for seat in seats:
        by_team[seat.team_id].append(seat)
    events: list[Event] = [_ended(team, by_team[team.team_id], now) for team in teams]
    events += [_released(seat, now) for seat in seats if seat.state == "released"]
    owed = await _owed(tx, teams, by_team)
    fresh = await store.require_refunds(tx, [one for _, one in owed], now)
    events += [refund_required(seat, one, now) for seat, one in owed if (one.order_id, one.line_id) in fresh]
    await emit(tx, *events)
    await owe(tx, [_finding(one) for _, one in owed], now)
    await store.give_back(tx, [*also_left, *[seat for seat in seats if not seat.occupies]])


async def _owed(tx: Tx, teams: Sequence[Team], by_team: dict[str, list[Seat]]) -> list[tuple[Seat, SeatOwed]]:
    """Return what each seat is owed: all of a failed team's, what was overpaid in a complete one."""
    campaigns = await campaigns_store.find_campaigns(tx, sorted({team.group_buy_id for team in teams})) if teams else {}
    owed = []
    for team in teams:
        for seat in by_team[team.team_id]:
            amount, reason = _owed_to(campaigns[team.group_buy_id], team, seat)
            if seat.state == "refund_due" or (amount and seat.state == "confirmed"):
                assert seat.order_id is not None
                assert seat.line_id is not None
                owed.append((seat, SeatOwed(seat.order_id, seat.line_id, seat.seat_id, reason, amount)))
    return owed


def _finding(owed: SeatOwed) -> RefundFinding:
    part_fen = owed.amount_fen if owed.reason == OVERPAID else None
    return RefundFinding(order_id=owed.order_id, line_id=owed.line_id, reason=owed.reason, part_fen=part_fen)


def _owed_to(campaign: GroupBuy, team: Team, seat: Seat) -> tuple[int, str]:
    paid_fen = seat.paid_fen or 0
    if team.state == "failed":
        return paid_fen, TEAM_FAILED
    return overpaid_fen(campaign, team.seats_paid, seat.price_fen, paid_fen), OVERPAID


def _ended(team: Team, seats: Sequence[Seat], now: datetime) -> Event:
    reason = team.end_reason or ""
    if team.state == "complete":
        paid = [seat.user_id for seat in seats if seat.state == "confirmed"]
        return alike(GroupBuyTeamComplete, team, at=now, reason=reason, user_ids=paid)
    return alike(GroupBuyTeamFailed, team, at=now, reason=reason, user_ids=[seat.user_id for seat in seats])


def _released(seat: Seat, now: datetime) -> Event:
    return alike(GroupBuySeatReleased, seat, at=now, reason=seat.release_reason or "")


def refund_required(seat: Seat, owed: SeatOwed, now: datetime, user_id: str | None = None) -> Event:
    """Tell the shop to pay back; the money may be another shopper's than the seat."""
    return alike(
        GroupBuyRefundRequired,
        owed,
        at=now,
        group_buy_id=seat.group_buy_id,
        team_id=seat.team_id,
        user_id=user_id or seat.user_id,
    )
