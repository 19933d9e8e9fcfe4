"""Operators' HTTP of teams and seats."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.group_buy.team.model import Seat, Team
from growth.mechanics.group_buy.team.service import Teams
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Page,
    PathUuid,
)
from growth.plumbing.http.listing import listed
from growth.plumbing.http.operators import act_of, requires
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, UUID_PATTERN
from growth.vocabulary.text import Reason

CampaignFilter = Annotated[str | None, QueryParameter(pattern=UUID_PATTERN, description="Only of this group buy.")]
TeamFilter = Annotated[str | None, QueryParameter(pattern=UUID_PATTERN, description="Only of this team.")]
UserFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this shopper.")]
OrderFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this order.")]
TeamStateFilter = Annotated[
    Literal["forming", "complete", "failed"] | None, QueryParameter(name="state", description="Only in this state.")
]
SeatStateFilter = Annotated[
    Literal["held", "paid", "confirmed", "refund_due", "refunded", "released"] | None,
    QueryParameter(name="state", description="Only in this state."),
]


class Ending(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator ends a team; kept in the audit."""

    reason: Reason


@get(
    "/teams",
    operation_id="admin_group_buy_team_list",
    summary="List teams of group buys",
    guards=[requires(Role.VIEWER)],
)
async def list_teams(
    request: Request[Any, Any, Any],
    teams: NamedDependency[Teams],
    group_buy_id: CampaignFilter = None,
    only: TeamStateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[Team]]:
    """In the order of their ids. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""

    async def read(after: str | None, most: int) -> Sequence[Team]:
        return await teams.page(after, most, group_buy_id=group_buy_id, state=only)

    return await listed(request, cursor, limit, Team, "team_id", read)


@get("/seats", operation_id="admin_group_buy_seat_list", summary="List seats in teams", guards=[requires(Role.VIEWER)])
async def list_seats(
    request: Request[Any, Any, Any],
    teams: NamedDependency[Teams],
    group_buy_id: CampaignFilter = None,
    team_id: TeamFilter = None,
    user_id: UserFilter = None,
    only: SeatStateFilter = None,
    order_id: OrderFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[Seat]]:
    """In the order of their ids; `Accept: text/csv` as with teams."""

    async def read(after: str | None, most: int) -> Sequence[Seat]:
        return await teams.page_of_seats(
            after, most, group_buy_id=group_buy_id, team_id=team_id, user_id=user_id, state=only, order_id=order_id
        )

    return await listed(request, cursor, limit, Seat, "seat_id", read)


@post(
    "/teams/{team_id:str}/complete",
    status_code=200,
    operation_id="admin_group_buy_team_complete",
    summary="Complete a team with those who have paid",
    guards=[requires(Role.EDITOR)],
)
async def complete_team(
    team_id: PathUuid,
    data: JSONBody[Ending],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    teams: NamedDependency[Teams],
) -> Team:
    """Members are never invented; held seats are released. 409 if nobody has paid, or the team is not forming."""
    return await teams.complete(act_of(request, operator, data.reason), team_id)


@post(
    "/teams/{team_id:str}/fail",
    status_code=200,
    operation_id="admin_group_buy_team_fail",
    summary="Fail a team before its time",
    guards=[requires(Role.EDITOR)],
)
async def fail_team(
    team_id: PathUuid,
    data: JSONBody[Ending],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    teams: NamedDependency[Teams],
) -> Team:
    """Who paid is owed a refund, each told by an event of its own. 409 unless the team is forming."""
    return await teams.fail(act_of(request, operator, data.reason), team_id)


router = Router(
    path="/admin/v1", route_handlers=[list_teams, list_seats, complete_team, fail_team], tags=["Operators: group buys"]
)
