"""Operators' HTTP of group buys."""

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from growth.kit.campaign.admin import campaign_routes
from growth.mechanics.group_buy.model import GROUP_BUYS
from growth.mechanics.group_buy.service import GroupBuys, GroupBuyStats, SeatDryRun
from growth.plumbing.http.answers import PathUuid
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import ShopperId, TeamId


class SeatDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose seat to try, in which team, and when."""

    user_id: ShopperId
    team_id: TeamId | None = None
    """The team to join; a new one, if left out."""
    now: Instant | None = None
    """The moment to try; now, if left out."""


@for_operators(
    post,
    "/{group_buy_id:str}/dry-run",
    "admin_group_buy_dry_run",
    "See what asking for a seat would get, and why",
    Role.VIEWER,
)
async def dry_run(
    group_buy_id: PathUuid, data: JSONBody[SeatDryRunRequest], group_buys: NamedDependency[GroupBuys]
) -> SeatDryRun:
    """Changes nothing."""
    return await group_buys.dry_run(group_buy_id, data.user_id, data.team_id, data.now or clock.now())


@for_operators(
    get, "/{group_buy_id:str}/stats", "admin_group_buy_stats_get", "Get the numbers of a group buy", Role.VIEWER
)
async def get_stats(group_buy_id: PathUuid, group_buys: NamedDependency[GroupBuys]) -> GroupBuyStats:
    """Units, teams by how they ended, seats and money by state."""
    return await group_buys.stats(group_buy_id, clock.now())


router = Router(
    path="/admin/v1/group-buys",
    route_handlers=[
        *campaign_routes(
            GROUP_BUYS,
            GroupBuys,
            "group_buys",
            "admin_group_buy",
            told={
                "create": "Nobody sees a draft; publish it when it is right.",
                "change": "Replaces all fields. Once open, prices, sizes and promises are fixed; teams"
                " keep the terms they began with.",
                "publish": "From now on shoppers see it.",
                "pause": "No seats are taken meanwhile. What is held stays held and can be paid, and teams go on.",
                "resume": "Seats are taken again.",
                "end": "Teams end at their own time, with the seats that are held or paid.",
            },
        ),
        dry_run,
        get_stats,
    ],
    tags=["Operators: group buys"],
)
