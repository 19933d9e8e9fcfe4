"""Who is a newcomer is what the orders say by time of payment, whichever is told first, while a team forms."""

from datetime import datetime, timedelta

import pytest

from tests.mechanics.group_buy.conftest import PRICE_FEN, Room, order_of
from tests.shop.order import telling

pytestmark = pytest.mark.anyio


def bought(user_id: str, *, days_before: int = 3, order_id: str = "") -> telling.JSON:
    """Another order, paid so many days before those that pay for seats."""
    told = telling.paid(order_id or f"old-{user_id}", telling.line(), user_id=user_id)
    told["data"]["paid_at"] = (
        datetime.fromisoformat(told["data"]["paid_at"]) - timedelta(days=days_before)
    ).isoformat()
    return told


@pytest.mark.parametrize("is_told_late", [False, True])
async def test_who_had_bought_is_owed_back_what_newcomers_need(room: Room, *, is_told_late: bool) -> None:
    campaign = await room.campaign(team_size=3, newcomers_at_least=2)
    await room.tells(bought("veteran"))
    ann = await room.opens(campaign, "ann")
    veteran = await room.joins(ann, "veteran")
    await room.pays(veteran)
    if not is_told_late:
        await room.tells(bought("ann"))
    paid = await room.pays(ann)
    if is_told_late:
        assert paid.outcome == "applied"
        await room.tells(bought("ann"))
    # Who had bought has the one place that newcomers do not need.
    assert await room.states(ann, veteran) == ["released", "paid"]
    assert (await room.seat(ann)).release_reason == "newcomers_only"
    assert await room.owed() == {order_of(ann.seat): ("group_buy.newcomers_only", PRICE_FEN)}
    (received,) = await room.tells(telling.received(order_of(ann.seat)))
    assert (received.outcome, received.code) == ("refund_required", "group_buy.newcomers_only")
    team = await room.team(veteran)
    assert (team.state, team.seats_taken, team.leader_seat_id) == ("forming", 1, veteran.seat.seat_id)


@pytest.mark.parametrize("is_told_late", [False, True])
async def test_a_leader_alone_who_had_bought_leaves_no_team_of_newcomers(room: Room, *, is_told_late: bool) -> None:
    campaign = await room.campaign(team_size=2, newcomers_at_least=2)
    ann = await room.opens(campaign, "ann")
    if not is_told_late:
        await room.tells(bought("ann"))
    await room.pays(ann)
    if is_told_late:
        await room.tells(bought("ann"))
    assert (await room.states(ann), (await room.team(ann)).state) == (["released"], "failed")
    assert await room.owed() == {order_of(ann.seat): ("group_buy.newcomers_only", PRICE_FEN)}


async def test_a_paid_seat_of_a_forming_team_is_a_newcomers_or_not_as_the_orders_say_now(room: Room) -> None:
    campaign = await room.campaign(team_size=2, newcomers_at_least=1)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    for told, is_newcomer in (
        (bought("ann", days_before=-1, order_id="later"), True),
        (bought("ann", order_id="old"), False),
        (telling.refunded("old", "r", telling.of(2, 200)), True),
    ):
        await room.tells(told)
        assert ((await room.seat(ann)).is_newcomer, await room.states(ann)) == (is_newcomer, ["paid"])


async def test_a_team_that_is_complete_stays_so(room: Room) -> None:
    campaign = await room.campaign(team_size=2, newcomers_at_least=2)
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    await room.pays(ann)
    await room.pays(bob)
    await room.tells(bought("ann"))
    assert await room.states(ann, bob) == ["confirmed", "confirmed"]
    assert await room.owed() == {}
