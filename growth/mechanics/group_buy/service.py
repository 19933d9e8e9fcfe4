"""What operators do with campaigns. Each write is one transaction with its audit entry."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.kit.campaign.model import PageState, page_state, window_over
from growth.kit.campaign.service import Campaigns
from growth.mechanics.group_buy import model
from growth.mechanics.group_buy.model import GROUP_BUYS, GroupBuy, GroupBuyDraft
from growth.mechanics.group_buy.team import model as teams
from growth.mechanics.group_buy.team.board import GroupBuyBoard
from growth.mechanics.group_buy.team.service import standings
from growth.mechanics.group_buy.team.store import listing
from growth.mechanics.group_buy.team.store import teams as teams_store
from growth.plumbing.field_errors import FieldError
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch.audit import Act
from growth.vocabulary.alike import alike
from growth.vocabulary.refusals import Kind, Refusal


class SeatDryRun(Struct, frozen=True, kw_only=True):
    """What asking for a seat would get, without doing it."""

    would: Literal["open", "join", "refuse"]
    code: str | None
    because: str
    at: datetime
    state: PageState
    units_left: int
    price_fen: int
    """What the seat would cost."""
    shopper_seats: int
    """Seats the shopper occupies in this campaign now."""
    is_newcomer: bool
    """Whether the shopper never bought; looked at only where newcomers count."""


class TeamCount(Struct, frozen=True):
    """How many teams, and their paid members."""

    teams: int
    paid_seats: int


class SeatCount(Struct, frozen=True):
    """How many seats, and what was paid for them."""

    seats: int
    paid_fen: int


class GroupBuyStats(Struct, frozen=True, kw_only=True):
    """A campaign in numbers, as it stands."""

    group_buy_id: str
    state: PageState
    units_total: int
    taken: int
    units_left: int
    forming: TeamCount
    complete_full: TeamCount
    complete_by_threshold: TeamCount
    complete_by_operator: TeamCount
    failed_expired: TeamCount
    failed_leader_left: TeamCount
    failed_by_operator: TeamCount
    completion_rate: float | None
    """Complete teams among those that ended, 0 to 1, three digits; None before any did."""
    seats_held: SeatCount
    seats_paid: SeatCount
    seats_confirmed: SeatCount
    seats_refund_due: SeatCount
    """Paid seats of failed teams that the shop has not paid back yet."""
    seats_refunded: SeatCount
    seats_lapsed: SeatCount
    seats_given_back: SeatCount
    """By shoppers and closed orders together."""
    server_time: datetime


class GroupBuys(Campaigns[GroupBuyDraft, GroupBuy]):
    """The operators' side of group buys."""

    kind = GROUP_BUYS

    def __init__(self, database: Database, board: GroupBuyBoard, audiences: Audiences) -> None:
        super().__init__(database)
        self._board = board
        self._audiences = audiences

    def late(self, draft: GroupBuyDraft, now: datetime) -> FieldError | None:
        """Say that the window is over."""
        return window_over(draft, now)

    async def before_change(self, _tx: Tx, act: Act, before: GroupBuy, draft: GroupBuyDraft) -> None:
        """Keep what an open campaign promises."""
        model.check_edit(before, draft, act.now)

    async def changed(self) -> None:
        """Read the board anew."""
        await self._board.forget()

    async def dry_run(self, group_buy_id: str, user_id: str, team_id: str | None, at: datetime) -> SeatDryRun:
        """Say what asking for a seat at `at` would get, with today's stock, and why; nothing is changed."""
        user_id = await self._database.people.today(self._database, user_id)
        campaign = await self.find(group_buy_id)
        team = None
        if team_id is not None:
            team = (await teams_store.find_teams(self._database, [team_id])).get(team_id)
            if team is None or team.group_buy_id != group_buy_id:
                raise Refusal(teams.TEAM_NOT_FOUND)
        pair = (group_buy_id, user_id)
        standing = (await standings(self._database, [pair], {group_buy_id: campaign}, self._audiences))[pair]
        kind = teams.refusal_of(campaign, team, standing, at)
        return SeatDryRun(
            would="refuse" if kind else "open" if team is None else "join",
            code=None if kind is None else kind.code,
            because=_because(campaign, team, standing, kind),
            at=at,
            state=page_state(campaign, campaign.units_left, at),
            units_left=campaign.units_left,
            price_fen=campaign.leader_pays_fen if team is None else campaign.price_fen,
            shopper_seats=standing.seats,
            is_newcomer=standing.is_newcomer,
        )

    async def stats(self, group_buy_id: str, now: datetime) -> GroupBuyStats:
        """Return a campaign in numbers."""
        campaign = await self.find(group_buy_id)
        by_team = await listing.count_teams(self._database, group_buy_id)
        by_seat = await listing.count_seats(self._database, group_buy_id)

        def count(state: str, reason: str | None) -> TeamCount:
            return TeamCount(*by_team.get((state, reason), (0, 0)))

        def seats(*states: str) -> SeatCount:
            found = [by_seat.get(state, (0, 0)) for state in states]
            return SeatCount(sum(number for number, _ in found), sum(paid for _, paid in found))

        complete = sum(number for (state, _), (number, _) in by_team.items() if state == "complete")
        over = sum(number for (state, _), (number, _) in by_team.items() if state != "forming")
        return alike(
            GroupBuyStats,
            campaign,
            state=page_state(campaign, campaign.units_left, now),
            forming=count("forming", None),
            complete_full=count("complete", "full"),
            complete_by_threshold=count("complete", "threshold"),
            complete_by_operator=count("complete", "operator"),
            failed_expired=count("failed", "expired"),
            failed_leader_left=count("failed", "leader_left"),
            failed_by_operator=count("failed", "operator"),
            completion_rate=round(complete / over, 3) if over else None,
            seats_held=seats("held"),
            seats_paid=seats("paid"),
            seats_confirmed=seats("confirmed"),
            seats_refund_due=seats("refund_due"),
            seats_refunded=seats("refunded"),
            seats_lapsed=seats("lapsed"),
            seats_given_back=seats("shopper", "order_closed"),
            server_time=now,
        )


def _because(campaign: GroupBuy, team: teams.Team | None, standing: teams.ShopperInCampaign, kind: Kind | None) -> str:
    have = f"{campaign.units_left} of {campaign.units_total} units are left; the shopper has {standing.seats} seats"
    of_team = "" if team is None else f"; {team.seats_taken} of {team.team_size} seats of the team are taken"
    why = "A seat would be held." if kind is None else kind.title
    why += "" if standing.missed is None else f" The shopper does not meet {standing.missed}."
    return f"{why} {have} of {campaign.max_per_shopper} allowed{of_team}."
