"""What a team and a seat are, who gets a seat, and who leads: decisions without I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.mechanics.group_buy.model import LIMIT_REACHED, GroupBuy, refused_by_campaign
from growth.vocabulary.alike import alike
from growth.vocabulary.audience import NOT_IN_AUDIENCE, AudienceType
from growth.vocabulary.clock import milliseconds_until
from growth.vocabulary.ids import GroupBuyId, SeatId, TeamId
from growth.vocabulary.refusals import Kind

TEAM_NOT_FOUND = Kind("group_buy.team_not_found", "There is no such team.", 404)
SEAT_NOT_FOUND = Kind("group_buy.seat_not_found", "There is no such seat.", 404)
TEAM_FULL = Kind("group_buy.team_full", "Every seat of the team is taken.")
TEAM_ENDED = Kind("group_buy.team_ended", "The team is complete or over.")
ALREADY_IN_TEAM = Kind("group_buy.already_in_team", "This shopper has a seat in a forming team of this group buy.")
NEWCOMERS_ONLY = Kind("group_buy.newcomers_only", "The seats left are for shoppers who have never bought.")
SEAT_NOT_HELD = Kind("group_buy.seat_not_held", "Only a held seat can be given back.")
NOBODY_PAID = Kind("group_buy.nobody_paid", "A team without a paid member cannot be completed.")
NOT_FORMING = Kind("group_buy.team_not_forming", "Only a forming team can be ended.")

TeamState = Literal["forming", "complete", "failed"]
EndReason = Literal["full", "threshold", "operator", "expired", "leader_left"]
SeatState = Literal["held", "paid", "confirmed", "refund_due", "refunded", "released"]
ReleaseReason = Literal["shopper", "lapsed", "order_closed", "team_complete", "team_failed", "newcomers_only"]


class Team(Struct, frozen=True, kw_only=True):
    """A team as Postgres knows it."""

    team_id: TeamId
    group_buy_id: GroupBuyId
    state: TeamState
    end_reason: EndReason | None
    opened_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    team_size: int
    complete_at_least: int
    newcomers_at_least: int
    seats_taken: int
    seats_paid: int
    veterans_taken: int
    newcomers_paid: int
    leader_seat_id: SeatId


class Seat(Struct, frozen=True, kw_only=True):
    """A seat as Postgres knows it."""

    seat_id: SeatId
    team_id: TeamId
    group_buy_id: GroupBuyId
    user_id: str
    nickname: str
    sku: str
    price_fen: int
    is_newcomer: bool
    state: SeatState
    held_at: datetime
    held_until: datetime
    release_reason: ReleaseReason | None = None
    order_id: str | None = None
    line_id: str | None = None
    paid_at: datetime | None = None
    paid_fen: int | None = None
    confirmed_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def occupies(self) -> bool:
        """Whether the seat takes a place in its team, and a unit."""
        return self.confirmed_at is not None or self.state in {"held", "paid"}


class SeatPage(Struct, frozen=True, kw_only=True):
    """A seat as its shopper sees it."""

    seat_id: SeatId
    team_id: TeamId
    group_buy_id: GroupBuyId
    sku: str
    price_fen: int
    state: SeatState
    held_until: datetime
    release_reason: ReleaseReason | None
    server_time: datetime


class TeamMember(Struct, frozen=True):
    """A member as others see them."""

    nickname: str
    is_leader: bool
    state: SeatState


class TeamPage(Struct, frozen=True, kw_only=True):
    """A team as everybody in the app may see it: no ids of shoppers, seats or orders."""

    team_id: TeamId
    group_buy_id: GroupBuyId
    state: TeamState
    end_reason: EndReason | None
    team_size: int
    seats_paid: int
    seats_held: int
    seats_missing: int
    """Seats that are free: neither paid nor held."""
    expires_at: datetime
    expires_in_ms: int
    server_time: datetime
    members: list[TeamMember]


class TeamCard(Struct, frozen=True, kw_only=True):
    """A team that can be joined, in a list."""

    team_id: TeamId
    leader: str
    """Masked nickname."""
    team_size: int
    seats_paid: int
    seats_missing: int
    expires_at: datetime


class SeatAsk(Struct, frozen=True):
    """One shopper's wish for a seat."""

    seat_id: SeatId
    team_id: TeamId
    user_id: str
    nickname: str
    """Masked."""
    group_buy_id: GroupBuyId | None = None
    """Of who opens a team; None for who joins one."""


class ShopperInCampaign(Struct, frozen=True, kw_only=True):
    """What is known of one shopper in one campaign."""

    seats: int = 0
    """Seats the shopper occupies."""
    is_live: bool = False
    """One of them in a forming team."""
    is_newcomer: bool = True
    missed: AudienceType | None = None
    """What of the campaign's audience the shopper does not meet."""


def refusal_of(campaign: GroupBuy, team: Team | None, standing: ShopperInCampaign, now: datetime) -> Kind | None:  # noqa: PLR0911
    """Say what one wish for a seat is refused as, or None if it gets one; `team` is None for who opens one.

    The team comes first: who looks at a full one wants to hear that it is full.
    """
    if team is not None:
        if team.state != "forming" or now >= team.expires_at:
            return TEAM_ENDED
        if standing.is_live:
            return ALREADY_IN_TEAM
        if team.seats_taken >= team.team_size:
            return TEAM_FULL
    if (refused := refused_by_campaign(campaign, now)) is not None:
        return refused
    if standing.missed is not None:
        return NOT_IN_AUDIENCE
    if standing.is_live:
        return ALREADY_IN_TEAM
    if standing.seats >= campaign.max_per_shopper:
        return LIMIT_REACHED
    veterans = 0 if team is None else team.veterans_taken
    if not standing.is_newcomer and veterans >= campaign.team_size - campaign.newcomers_at_least:
        return NEWCOMERS_ONLY
    return None


def open_team(campaign: GroupBuy, ask: SeatAsk, standing: ShopperInCampaign, now: datetime) -> Team:
    """Return the team that `ask` opens, its leader's seat taken."""
    return Team(
        team_id=ask.team_id,
        group_buy_id=campaign.group_buy_id,
        state="forming",
        end_reason=None,
        opened_at=now,
        expires_at=campaign.expires_at(now),
        ended_at=None,
        team_size=campaign.team_size,
        complete_at_least=campaign.threshold,
        newcomers_at_least=campaign.newcomers_at_least,
        seats_taken=1,
        seats_paid=0,
        veterans_taken=0 if standing.is_newcomer else 1,
        newcomers_paid=0,
        leader_seat_id=ask.seat_id,
    )


def show_seat(seat: Seat, now: datetime) -> SeatPage:
    """Show `seat` to its shopper."""
    return SeatPage(
        seat_id=seat.seat_id,
        team_id=seat.team_id,
        group_buy_id=seat.group_buy_id,
        sku=seat.sku,
        price_fen=seat.price_fen,
        state=seat.state,
        held_until=seat.held_until,
        release_reason=seat.release_reason,
        server_time=now,
    )


def show_team(team: Team, seats: Sequence[Seat], now: datetime) -> TeamPage:
    """Show `team` with those of its `seats` that take a place: paid ones first, the longest-standing leading.

    Of a failed team nobody is shown, and a refund after completion is nobody's business.
    """
    shown = sorted(
        (seat for seat in seats if seat.occupies),
        key=lambda seat: (seat.paid_at is None, seat.paid_at or seat.held_at, seat.seat_id),
    )
    held = sum(seat.state == "held" for seat in shown)
    return alike(
        TeamPage,
        team,
        seats_paid=len(shown) - held,
        seats_held=held,
        seats_missing=max(0, team.team_size - len(shown)),
        expires_in_ms=milliseconds_until(team.expires_at, now) if team.state == "forming" else 0,
        server_time=now,
        members=[
            TeamMember(
                seat.nickname,
                seat.seat_id == team.leader_seat_id,
                "confirmed" if seat.confirmed_at is not None else seat.state,
            )
            for seat in shown
        ],
    )
