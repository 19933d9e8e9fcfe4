"""Operators' HTTP of group buys."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.group_buy.model import GroupBuy, GroupBuyDraft
from growth.mechanics.group_buy.service import GroupBuys, GroupBuyStats, SeatDryRun
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
    idempotency_key,
    if_match,
    page_of,
    versioned,
)
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.operators import act_of, requires
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import ShopperId, TeamId, Uuid

StateFilter = Annotated[
    Literal["draft", "published", "paused", "ended"] | None,
    QueryParameter(name="state", description="Only group buys in this state."),
]


class SeatDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose seat to try, in which team, and when."""

    user_id: ShopperId
    team_id: TeamId | None = None
    """The team to join; a new one, if left out."""
    now: Instant | None = None
    """The moment to try; now, if left out."""


@post("", operation_id="admin_group_buys_create", summary="Draft a group buy", guards=[requires(Role.EDITOR)])
async def create_group_buy(
    data: JSONBody[GroupBuyDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    group_buys: NamedDependency[GroupBuys],
) -> Response[GroupBuy]:
    """Nobody sees a draft; publish it when it is right."""
    content = fingerprint(msgspec.json.encode(data))
    made = await group_buys.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made.answer, 201, replayed=made.replayed)


@get("", operation_id="admin_group_buys_list", summary="List group buys", guards=[requires(Role.VIEWER)])
async def list_group_buys(
    group_buys: NamedDependency[GroupBuys],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[GroupBuy]:
    """Group buys in any state, newest first."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await group_buys.page(state=only, before=before, limit=limit + 1)
    return page_of(found, limit, lambda campaign: (campaign.group_buy_id,))


@get("/{group_buy_id:str}", operation_id="admin_group_buys_get", summary="Get one", guards=[requires(Role.VIEWER)])
async def get_group_buy(group_buy_id: PathUuid, group_buys: NamedDependency[GroupBuys]) -> Response[GroupBuy]:
    """The ETag is the version that PUT asks for in If-Match."""
    return versioned(await group_buys.find(group_buy_id))


@put("/{group_buy_id:str}", operation_id="admin_group_buys_change", summary="Edit", guards=[requires(Role.EDITOR)])
async def change_group_buy(
    group_buy_id: PathUuid,
    data: JSONBody[GroupBuyDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    group_buys: NamedDependency[GroupBuys],
) -> Response[GroupBuy]:
    """Replaces all fields. Once open, prices, sizes and promises are fixed; teams keep the terms they began with."""
    return versioned(await group_buys.change(act_of(request, operator), group_buy_id, if_match(request), data))


def _step(name: Literal["publish", "pause", "resume", "end"], told: str) -> Any:
    @post(
        f"/{{group_buy_id:str}}/{name}",
        status_code=200,
        operation_id=f"admin_group_buys_{name}",
        summary=told,
        guards=[requires(Role.EDITOR)],
        name=f"admin_group_buys_{name}",
    )
    async def take_step(
        group_buy_id: PathUuid,
        request: Request[Any, Any, Any],
        operator: NamedDependency[Operator],
        group_buys: NamedDependency[GroupBuys],
    ) -> Response[GroupBuy]:
        steps = {
            "publish": group_buys.publish,
            "pause": group_buys.pause,
            "resume": group_buys.resume,
            "end": group_buys.end,
        }
        return versioned(await steps[name](act_of(request, operator), group_buy_id))

    return take_step


@post(
    "/{group_buy_id:str}/dry-run",
    status_code=200,
    operation_id="admin_group_buys_dry_run",
    summary="See what asking for a seat would get, and why",
    guards=[requires(Role.VIEWER)],
)
async def dry_run(
    group_buy_id: PathUuid, data: JSONBody[SeatDryRunRequest], group_buys: NamedDependency[GroupBuys]
) -> SeatDryRun:
    """Changes nothing."""
    return await group_buys.dry_run(group_buy_id, data.user_id, data.team_id, data.now or clock.now())


@get(
    "/{group_buy_id:str}/stats",
    operation_id="admin_group_buys_stats",
    summary="Numbers",
    guards=[requires(Role.VIEWER)],
)
async def get_stats(group_buy_id: PathUuid, group_buys: NamedDependency[GroupBuys]) -> GroupBuyStats:
    """Units, teams by how they ended, seats and money by state."""
    return await group_buys.stats(group_buy_id, clock.now())


router = Router(
    path="/admin/v1/group-buys",
    route_handlers=[
        create_group_buy,
        list_group_buys,
        get_group_buy,
        change_group_buy,
        _step("publish", "Show a draft to shoppers"),
        _step("pause", "Stop new seats for now"),
        _step("resume", "Let seats be taken again"),
        _step("end", "End for good"),
        dry_run,
        get_stats,
    ],
    tags=["Operators: group buys"],
)
