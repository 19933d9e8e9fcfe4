"""Shoppers' HTTP of teams and seats."""

from typing import Annotated, Any, ClassVar

from litestar import Request, Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from growth.mechanics.group_buy.model import MAX_TEAM_SIZE, NOT_FOUND
from growth.mechanics.group_buy.team.board import GroupBuyBoard
from growth.mechanics.group_buy.team.model import TEAM_NOT_FOUND, SeatPage, TeamCard, TeamPage, show_seat, show_team
from growth.mechanics.group_buy.team.service import Teams
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUuid,
    created,
    decode_cursor,
    idempotency_key,
    page_of,
)
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid
from growth.vocabulary.names import Decoration
from growth.vocabulary.refusals import Refusal

SeatsMissing = Annotated[int, Meta(ge=0, le=MAX_TEAM_SIZE)]
"""Part of a cursor: a forged one must not hand the store a number that no column holds."""


class SeatRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who takes a seat."""

    mends_text: ClassVar[bool] = True
    nickname: Decoration | None = None
    """Shown to others as its first character and a star; no more of it is kept."""


class OpenedTeam(Struct, frozen=True):
    """A team just opened, and its leader's seat."""

    team: TeamPage
    seat: SeatPage


@get("/group-buys/{group_buy_id:str}/teams", operation_id="group_buy_team_list", summary="List teams I can join")
async def list_teams(
    group_buy_id: PathUuid,
    shopper: NamedDependency[Shopper],  # noqa: ARG001 - being signed in is all it takes
    group_board: NamedDependency[GroupBuyBoard],
    teams: NamedDependency[Teams],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[TeamCard]:
    """Fewest seats missing first, then soonest to expire. Nicknames are masked."""
    position = decode_cursor(cursor, tuple[SeatsMissing, Instant, Uuid])
    if await group_board.campaign(group_buy_id) is None:
        raise Refusal(NOT_FOUND)
    found = await teams.joinable(group_buy_id, position, limit + 1)
    return page_of(found, limit, _card_place)


def _card_place(card: TeamCard) -> tuple[int, str, str]:
    return (card.seats_missing, card.expires_at.isoformat(), card.team_id)


@post("/group-buys/{group_buy_id:str}/teams", operation_id="group_buy_team_open", summary="Open a team")
async def open_team(
    group_buy_id: PathUuid,
    data: JSONBody[SeatRequest],
    request: Request[Any, Any, Any],
    shopper: NamedDependency[Shopper],
    group_board: NamedDependency[GroupBuyBoard],
    teams: NamedDependency[Teams],
) -> Response[OpenedTeam]:
    """201: the leader's seat is held until `held_until`; pay before that, and share the team.

    Send an Idempotency-Key and repeat the call with it after a time-out or a 503: the same key is the same team.
    """
    seated = await teams.open(group_buy_id, shopper.user_id, data.nickname, idempotency_key(request), shopper.token_id)
    shown = show_team(seated.team, [seated.seat], seated.at)
    if seated.replayed:
        entry = await group_board.team(seated.seat.team_id)
        assert entry is not None, "a seat is never without its team"
        shown = entry.page
    return created(OpenedTeam(shown, show_seat(seated.seat, seated.at)), replayed=seated.replayed)


@get("/teams/{team_id:str}", operation_id="group_buy_team_get", summary="Get a team")
async def get_team(
    team_id: PathUuid,
    shopper: NamedDependency[Shopper],  # noqa: ARG001 - being signed in is all it takes
    group_board: NamedDependency[GroupBuyBoard],
) -> Response[TeamPage]:
    """The page to share: whoever has its id sees it. From memory, at most 300 ms old, with an ETag."""
    entry = await group_board.team(team_id)
    if entry is None:
        raise Refusal(TEAM_NOT_FOUND)
    return JsonResponse(entry.page, headers={"ETag": entry.etag.decode(), "Cache-Control": "private, no-cache"})


@post("/teams/{team_id:str}/seats", operation_id="group_buy_seat_take", summary="Join a team")
async def take_seat(
    team_id: PathUuid,
    data: JSONBody[SeatRequest],
    request: Request[Any, Any, Any],
    shopper: NamedDependency[Shopper],
    group_board: NamedDependency[GroupBuyBoard],
    teams: NamedDependency[Teams],
) -> Response[SeatPage]:
    """201: the seat is held until `held_until`; pay before that. Retries as with opening."""
    seated = await teams.join(team_id, shopper.user_id, data.nickname, idempotency_key(request), shopper.token_id)
    group_board.forget_team(team_id)
    return created(show_seat(seated.seat, seated.at), replayed=seated.replayed)


@get("/seats/{seat_id:str}", operation_id="group_buy_seat_get", summary="Get one of my seats")
async def get_seat(seat_id: PathUuid, shopper: NamedDependency[Shopper], teams: NamedDependency[Teams]) -> SeatPage:
    """404 for what is not there and for what is somebody else's, alike."""
    return show_seat(await teams.find(seat_id, shopper.user_id), clock.now())


@delete("/seats/{seat_id:str}", status_code=200, operation_id="group_buy_seat_leave", summary="Leave a team")
async def leave_seat(
    seat_id: PathUuid,
    shopper: NamedDependency[Shopper],
    group_board: NamedDependency[GroupBuyBoard],
    teams: NamedDependency[Teams],
) -> SeatPage:
    """The seat is free at once. Again: the same answer. 409 once the seat is paid: ask the shop for a refund then."""
    now = clock.now()
    seat = await teams.give_back(seat_id, shopper.user_id, now)
    group_board.forget_team(seat.team_id)
    return show_seat(seat, now)


# Both methods of `/teams` stand here: Litestar adds OPTIONS to a path once in each router.
router = Router(
    path="/v1", route_handlers=[list_teams, open_team, get_team, take_seat, get_seat, leave_seat], tags=["Group buys"]
)
