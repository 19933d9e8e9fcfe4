"""Shoppers' HTTP of group buys: campaigns."""

from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from growth.kit.campaign.model import PageState
from growth.mechanics.group_buy import model
from growth.mechanics.group_buy.model import GroupBuyPage
from growth.mechanics.group_buy.service import GroupBuys
from growth.mechanics.group_buy.team.board import GroupBuyBoard
from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, Limit, Page, PathUuid, decode_cursor, page_of
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid
from growth.vocabulary.refusals import Refusal

StateFilter = Annotated[PageState | None, QueryParameter(name="state", description="Only group buys in this state.")]


@get("/group-buys", operation_id="group_buy_list", summary="List group buys")
async def list_group_buys(
    shopper: NamedDependency[Shopper],  # noqa: ARG001 - being signed in is all it takes
    group_board: NamedDependency[GroupBuyBoard],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[GroupBuyPage]:
    """Published and paused ones, and those that ended within a day. From memory, at most 300 ms old."""
    position = decode_cursor(cursor, tuple[str, Uuid])
    shown = sorted(await group_board.visible(), key=_place)
    found = [one for one in shown if only is None or one.state == only]
    if position is not None:
        found = [one for one in found if _place(one) > position]
    return page_of(found[: limit + 1], limit, _place)


def _place(one: GroupBuyPage) -> tuple[str, str]:
    return (one.opens_at.isoformat(), one.group_buy_id)


@get("/group-buys/{group_buy_id:str}", operation_id="group_buy_get", summary="Get a group buy")
async def get_group_buy(
    group_buy_id: PathUuid,
    shopper: NamedDependency[Shopper],  # noqa: ARG001 - being signed in is all it takes
    group_board: NamedDependency[GroupBuyBoard],
    group_buys: NamedDependency[GroupBuys],
) -> GroupBuyPage:
    """From memory, at most 300 ms old."""
    shown = await group_board.campaign(group_buy_id)
    if shown is not None:
        return shown
    # Ended more than a day ago, or beyond what the board keeps.
    campaign = await group_buys.find(group_buy_id)
    if campaign.published_at is None:
        raise Refusal(model.NOT_FOUND)
    return model.page(campaign, clock.now())


router = Router(path="/v1", route_handlers=[list_group_buys, get_group_buy], tags=["Group buys"])
