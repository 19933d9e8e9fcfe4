"""Operators' HTTP of teams and seats."""

from functools import partial
from typing import Annotated, Literal

from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.group_buy.team.model import Seat, Team
from growth.mechanics.group_buy.team.service import Teams
from growth.plumbing.http.answers import Page, PathUuid
from growth.plumbing.http.listing import Listing
from growth.plumbing.http.operators import for_operators
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Role
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


@for_operators(get, "/teams", "admin_group_buy_team_list", "List teams of group buys", Role.VIEWER)
async def list_teams(
    listing: NamedDependency[Listing],
    teams: NamedDependency[Teams],
    group_buy_id: CampaignFilter = None,
    only: TeamStateFilter = None,
) -> Response[Page[Team]]:
    """In the order of their ids. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""
    return await listing.listed(Team, "team_id", partial(teams.page, group_buy_id=group_buy_id, state=only))


@for_operators(get, "/seats", "admin_group_buy_seat_list", "List seats in teams", Role.VIEWER)
async def list_seats(
    listing: NamedDependency[Listing],
    teams: NamedDependency[Teams],
    group_buy_id: CampaignFilter = None,
    team_id: TeamFilter = None,
    user_id: UserFilter = None,
    only: SeatStateFilter = None,
    order_id: OrderFilter = None,
) -> Response[Page[Seat]]:
    """In the order of their ids; `Accept: text/csv` as with teams."""
    read = partial(
        teams.page_of_seats,
        group_buy_id=group_buy_id,
        team_id=team_id,
        user_id=user_id,
        state=only,
        order_id=order_id,
    )
    return await listing.listed(Seat, "seat_id", read)


@for_operators(
    post,
    "/teams/{team_id:str}/complete",
    "admin_group_buy_team_complete",
    "Complete a team with those who have paid",
    Role.EDITOR,
)
async def complete_team(
    team_id: PathUuid,
    data: JSONBody[Ending],
    act: NamedDependency[Act],
    teams: NamedDependency[Teams],
) -> Team:
    """Members are never invented; held seats are released. 409 if nobody has paid, or the team is not forming."""
    return await teams.complete(act.why(data.reason), team_id)


@for_operators(
    post, "/teams/{team_id:str}/fail", "admin_group_buy_team_fail", "Fail a team before its time", Role.EDITOR
)
async def fail_team(
    team_id: PathUuid,
    data: JSONBody[Ending],
    act: NamedDependency[Act],
    teams: NamedDependency[Teams],
) -> Team:
    """Who paid is owed a refund, each told by an event of its own. 409 unless the team is forming."""
    return await teams.fail(act.why(data.reason), team_id)


router = Router(
    path="/admin/v1", route_handlers=[list_teams, list_seats, complete_team, fail_team], tags=["Operators: group buys"]
)
