"""The process dies between any two steps: nothing is half-done, and doing it again does it once."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from growth.mechanics.group_buy.model import GroupBuy
from growth.mechanics.group_buy.team.service import Seated
from tests.kit.mortal import dies_anywhere
from tests.mechanics.group_buy.conftest import Room, a_draft, an_act, assemble

pytestmark = pytest.mark.anyio

TABLES = (
    "group_buy.campaigns",
    "group_buy.teams",
    "group_buy.seats",
    "group_buy.holdings",
    "group_buy.refunds_required",
    "shop.orders",
    "shop.order_lines",
    "shop.events",
    "plumbing.audit",
)


Story = Callable[[Room, GroupBuy], Awaitable[Callable[[Room], Awaitable[Any]]]]


async def opening(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    return lambda mortal: mortal.opens(campaign, "ann", key="k")


async def joining(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    ann = await room.opens(campaign, "ann")
    return lambda mortal: mortal.joins(ann, "bob", key="k")


async def three(room: Room, campaign: GroupBuy, *, paid: int) -> list[Seated]:
    ann = await room.opens(campaign, "ann")
    members = [ann, await room.joins(ann, "bob"), await room.joins(ann, "cat")]
    for one in members[:paid]:
        await room.pays(one)
    return members


async def leading_and_leaving(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    ann, _, _ = await three(room, campaign, paid=0)
    return lambda mortal: mortal.leaves(ann)


async def paying_the_last_seat(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    _, _, cat = await three(room, campaign, paid=2)
    return lambda mortal: mortal.pays(cat)


async def paying_late(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    ann, bob, _ = await three(room, campaign, paid=1)
    await room.lapse(bob)
    assert ann.seat.state == "held"
    return lambda mortal: mortal.pays(bob)


async def paying_too_late(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    _, bob, _ = await three(room, campaign, paid=1)
    await room.expire()
    return lambda mortal: mortal.pays(bob)


async def refunding_the_leader(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    ann, _, _ = await three(room, campaign, paid=2)
    return lambda mortal: mortal.refunds(ann)


async def expiring(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    await three(room, campaign, paid=2)
    await room.database.fetchval("UPDATE group_buy.teams SET expires_at = clock_timestamp() - interval '1 second'")
    return lambda mortal: mortal.keeper.end_due_teams(mortal.turn())


async def lapsing(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    await three(room, campaign, paid=0)
    await room.database.fetchval("UPDATE group_buy.seats SET held_until = clock_timestamp() - interval '1 minute'")
    return lambda mortal: mortal.keeper.end_lapsed_holds(mortal.turn())


async def completing_by_hand(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    ann, _, _ = await three(room, campaign, paid=1)
    return lambda mortal: mortal.teams.complete(an_act("why"), ann.team.team_id)


async def failing_by_hand(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    ann, _, _ = await three(room, campaign, paid=1)
    return lambda mortal: mortal.teams.fail(an_act("why"), ann.team.team_id)


async def nudging(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    ann = await room.opens(campaign, "ann")
    await room.joins(ann, "bob")
    await room.pays(ann)
    return lambda mortal: mortal.nudges()


async def ending_the_campaign(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    return lambda mortal: mortal.group_buys.end(an_act(), campaign.group_buy_id)


async def drafting(room: Room, campaign: GroupBuy) -> Callable[[Room], Awaitable[Any]]:
    return lambda mortal: mortal.group_buys.create(an_act(), a_draft(), "k", b"")


@pytest.mark.parametrize(
    "story",
    [
        opening,
        joining,
        leading_and_leaving,
        paying_the_last_seat,
        paying_late,
        paying_too_late,
        refunding_the_leader,
        expiring,
        lapsing,
        completing_by_hand,
        failing_by_hand,
        nudging,
        ending_the_campaign,
        drafting,
    ],
)
async def test_a_process_that_dies_anywhere_leaves_nothing_half_done(room: Room, story: Story) -> None:
    campaign = await room.campaign(late_payment="open_new_team" if story is paying_too_late else "refund")
    act = await story(room, campaign)
    await dies_anywhere(room.database, TABLES, lambda mortal: act(assemble(mortal)))


async def test_an_answer_lost_at_commit_is_given_again_under_the_same_key(room: Room) -> None:
    campaign = await room.campaign()
    first = await room.opens(campaign, "ann", key="k")
    again = await room.opens(campaign, "ann", key="k")
    assert (again.replayed, again.seat) == (True, first.seat)
