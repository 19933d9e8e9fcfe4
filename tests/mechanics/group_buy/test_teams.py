"""Teams from the first seat to the last payment."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from tests.kit.outcomes import outcomes, refusal
from tests.mechanics.group_buy.conftest import PRICE_FEN, Room, an_act, assemble, order_of, paid

pytestmark = pytest.mark.anyio


async def test_three_who_pay_are_a_complete_team_and_everybody_is_told(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    bob, cat = await room.joins(ann, "bob"), await room.joins(ann, "cat")
    assert await refusal(room.joins(ann, "dan")) == "group_buy.team_full"
    for one in (ann, bob, cat):
        assert (await room.pays(one)).outcome == "applied"
    team = await room.team(ann)
    assert (team.state, team.end_reason, team.seats_paid) == ("complete", "full", 3)
    assert await room.states(ann, bob, cat) == ["confirmed"] * 3
    assert await room.taken(campaign) == 3
    (told,) = await room.events("team_complete")
    assert sorted(told["user_ids"]) == ["ann", "bob", "cat"]
    assert await refusal(room.joins(ann, "dan")) == "group_buy.team_ended"
    assert not await room.owed()


async def test_a_seat_is_held_before_payment_at_the_price_of_its_place(room: Room) -> None:
    campaign = await room.campaign(leader_price_fen=3000)
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    assert (ann.seat.state, ann.seat.price_fen, bob.seat.price_fen) == ("held", 3000, PRICE_FEN)
    assert ann.seat.held_until - ann.seat.held_at == timedelta(seconds=900)
    assert (await room.team(ann)).seats_taken == 2


@pytest.mark.parametrize("_round", range(10))
async def test_the_last_seat_goes_to_exactly_one_of_64(room: Room, _round: int) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    await room.joins(ann, "bob")
    rooms = [room, assemble(room.database), assemble(room.database)]
    got = await outcomes(*[rooms[n % 3].joins(ann, f"u{n}") for n in range(64)])
    assert got == {"done": 1, "group_buy.team_full": 63}
    assert (await room.team(ann)).seats_taken == 3


async def test_a_crowd_opens_no_more_teams_than_there_are_units(room: Room) -> None:
    campaign = await room.campaign(units_total=20)
    rooms = [room, assemble(room.database)]
    got = await outcomes(*[rooms[n % 2].opens(campaign, f"u{n}") for n in range(100)])
    assert got == {"done": 20, "group_buy.sold_out": 80}
    assert await room.taken(campaign) == 20


async def test_a_shopper_is_in_one_forming_team_of_a_campaign_however_often_she_taps(room: Room) -> None:
    campaign = await room.campaign(max_per_shopper=5)
    teams = [await room.opens(campaign, f"leader{n}") for n in range(8)]
    other = assemble(room.database)
    got = await outcomes(
        *[one.joins(team, "ann") for team in teams for one in (room, other)],
        *[one.opens(campaign, "ann") for one in (room, other)],
    )
    assert got == {"done": 1, "group_buy.already_in_team": 17}


async def test_a_shopper_gets_no_more_seats_over_all_teams_than_the_campaign_allows(room: Room) -> None:
    campaign = await room.campaign(max_per_shopper=2, team_size=2)
    for n in range(2):
        ann = await room.opens(campaign, "ann")
        await room.pays(ann)
        await room.pays(await room.joins(ann, f"friend{n}"))
    assert await refusal(room.opens(campaign, "ann")) == "group_buy.limit_reached"


async def test_the_same_key_is_the_same_seat_however_often_and_wherever(room: Room) -> None:
    campaign = await room.campaign()
    other = assemble(room.database)
    got = await outcomes(*[one.opens(campaign, "ann", key="k") for one in (room, other) for _ in range(16)])
    assert got == {"done": 1, "replayed": 31}
    ann = await room.opens(campaign, "ann", key="k")
    got = await outcomes(*[one.joins(ann, "bob", key="k") for one in (room, other) for _ in range(16)])
    assert got == {"done": 1, "replayed": 31}
    assert (await room.team(ann)).seats_taken == 2


async def test_the_same_key_with_another_name_is_refused(room: Room) -> None:
    campaign = await room.campaign()
    await room.opens(campaign, "ann", key="k", name="Ann")
    with pytest.raises(Refusal) as refused:
        await room.opens(campaign, "ann", key="k", name="Zoe")
    assert refused.value.kind.status == 422


async def test_a_key_still_names_its_seat_when_the_team_is_over(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann", key="k")
    await room.pays(ann)
    await room.expire(ann)
    again = await room.opens(campaign, "ann", key="k")
    assert (again.replayed, again.seat.state, again.seat.seat_id) == (True, "refund_due", ann.seat.seat_id)


@pytest.mark.parametrize(
    ("changes", "state", "code"),
    [
        ({"opens_at": now() + timedelta(hours=1)}, "published", "not_open"),
        ({}, "paused", "paused"),
        ({}, "ended", "ended"),
        ({"opens_at": now() - timedelta(days=2), "closes_at": now() - timedelta(days=1)}, "published", "ended"),
        ({}, "draft", "not_found"),
    ],
)
async def test_a_campaign_that_is_not_open_gives_no_seats(
    room: Room, changes: dict[str, Any], state: str, code: str
) -> None:
    campaign = await room.campaign(state=state, **changes)
    assert await refusal(room.opens(campaign, "ann")) == f"group_buy.{code}"


async def test_a_paused_campaign_lets_nobody_join_and_what_is_held_can_be_paid(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    await room.group_buys.pause(an_act(), campaign.group_buy_id)
    assert await refusal(room.joins(ann, "bob")) == "group_buy.paused"
    assert (await room.pays(ann)).outcome == "applied"
    await room.group_buys.resume(an_act(), campaign.group_buy_id)
    await room.joins(ann, "bob")


async def test_one_who_is_refused_harms_nobody_in_the_same_batch(room: Room) -> None:
    campaign = await room.campaign(team_size=10)
    ann = await room.opens(campaign, "ann")
    got = await outcomes(*[room.joins(ann, user_id) for user_id in ("bob", "ann", "bob", "cat", "dan")])
    assert got == {"done": 3, "group_buy.already_in_team": 2}


async def test_a_lapsed_seat_is_free_again(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    bob = await room.joins(ann, "bob")
    assert await refusal(room.joins(ann, "cat")) == "group_buy.team_full"
    assert await room.lapse(bob) == 1
    assert (await room.seat(bob)).release_reason == "lapsed"
    cat = await room.joins(ann, "cat")
    await room.pays(cat)
    assert (await room.team(ann)).state == "complete"


async def test_a_leader_who_leaves_before_anyone_paid_releases_the_team(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    await room.leaves(ann)
    team = await room.team(ann)
    assert (team.state, team.end_reason) == ("failed", "leader_left")
    assert (await room.seat(bob)).release_reason == "team_failed"
    assert await room.taken(campaign) == 0
    (told,) = await room.events("team_failed")
    assert told["reason"] == "leader_left"
    assert (await room.leaves(ann)).state == "released"  # again: the same answer


async def test_when_the_leader_leaves_who_paid_first_leads(room: Room) -> None:
    campaign = await room.campaign(team_size=5)
    ann = await room.opens(campaign, "ann")
    bob, cat, dan = [await room.joins(ann, name) for name in ("bob", "cat", "dan")]
    await room.pays(cat)
    await room.pays(bob)
    await room.lapse(ann)
    assert (await room.team(ann)).leader_seat_id == cat.seat.seat_id
    await room.refunds(cat)
    assert (await room.team(ann)).leader_seat_id == bob.seat.seat_id
    assert [told["user_id"] for told in await room.events("leader_changed")] == ["cat", "bob"]
    await room.refunds(bob)  # nobody paid is left
    assert (await room.team(ann)).end_reason == "leader_left"
    assert (await room.seat(dan)).release_reason == "team_failed"


async def test_a_team_that_expires_owes_each_member_his_own_order_once(room: Room) -> None:
    campaign = await room.campaign(team_size=4)
    ann = await room.opens(campaign, "ann")
    bob, cat = await room.joins(ann, "bob"), await room.joins(ann, "cat")
    await room.pays(ann)
    await room.pays(bob)
    await asyncio.gather(*[room.expire() for _ in range(8)])
    assert (await room.team(ann)).end_reason == "expired"
    assert await room.states(ann, bob, cat) == ["refund_due", "refund_due", "released"]
    assert await room.owed() == {order_of(one.seat): ("group_buy.team_failed", PRICE_FEN) for one in (ann, bob)}
    told = await room.events("refund_required")
    assert sorted((one["user_id"], one["order_id"]) for one in told) == [
        ("ann", order_of(ann.seat)),
        ("bob", order_of(bob.seat)),
    ]
    assert await room.taken(campaign) == 0
    # The shop is told again for as long as it has not paid back.
    (again,) = await room.tells(paid(ann.seat) | {"id": "again"})
    assert (again.outcome, again.code) == ("refund_required", "group_buy.team_failed")
    assert (await room.refunds(ann)).outcome == "applied"
    assert (await room.seat(ann)).state == "refunded"
    assert len(await room.events("refund_required")) == 2


async def test_an_honest_threshold_completes_with_those_who_paid(room: Room) -> None:
    campaign = await room.campaign(team_size=4, complete_at_least=2)
    ann = await room.opens(campaign, "ann")
    bob, cat = await room.joins(ann, "bob"), await room.joins(ann, "cat")
    await room.pays(ann)
    await room.pays(bob)
    await room.expire()
    team = await room.team(ann)
    assert (team.state, team.end_reason, team.seats_paid, team.seats_taken) == ("complete", "threshold", 2, 2)
    assert await room.states(ann, bob, cat) == ["confirmed", "confirmed", "released"]
    assert await room.taken(campaign) == 2


async def test_what_a_lower_tier_makes_too_much_is_owed_back_to_each(room: Room) -> None:
    tiers = [{"size": 2, "price_fen": 5000}, {"size": 3, "price_fen": 4500}, {"size": 5, "price_fen": 4000}]
    campaign = await room.campaign(team_size=5, tiers=tiers, leader_price_fen=4200)
    ann = await room.opens(campaign, "ann")
    bob, cat = await room.joins(ann, "bob"), await room.joins(ann, "cat")
    for one in (ann, bob, cat):
        await room.pays(one)
    await room.expire()
    assert (await room.team(ann)).end_reason == "threshold"
    assert await room.owed() == {order_of(one.seat): ("group_buy.overpaid", 500) for one in (bob, cat)}
    (again,) = await room.tells(paid(bob.seat) | {"id": "again"})
    assert (again.outcome, again.lines[0].code) == ("ignored", "group_buy.overpaid")


async def test_the_largest_tier_pays_back_when_the_team_is_full(room: Room) -> None:
    campaign = await room.campaign(
        team_size=2, tiers=[{"size": 1, "price_fen": 5000}, {"size": 2, "price_fen": 4000}], complete_at_least=1
    )
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    await room.pays(ann)
    await room.pays(bob, amount_fen=300)  # a coupon paid the rest: no more than what was paid goes back
    assert (await room.team(ann)).end_reason == "full"
    assert await room.owed() == {
        order_of(ann.seat): ("group_buy.overpaid", 1000),
        order_of(bob.seat): ("group_buy.overpaid", 300),
    }


async def test_newcomer_teams_keep_seats_for_who_never_bought(room: Room) -> None:
    campaign = await room.campaign(team_size=3, newcomers_at_least=2)
    for user_id in ("old1", "old2"):
        (bought,) = await room.tells(telling_paid(user_id))
        assert bought.outcome == "applied"
    leader = await room.opens(campaign, "old1")
    assert await refusal(room.joins(leader, "old2")) == "group_buy.newcomers_only"
    new = [await room.joins(leader, f"new{n}") for n in range(2)]
    for one in (leader, *new):
        assert (await room.pays(one)).outcome == "applied"
    assert (await room.team(leader)).state == "complete"


async def test_who_bought_between_holding_and_paying_is_judged_when_paying(room: Room) -> None:
    campaign = await room.campaign(team_size=2, newcomers_at_least=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    bob = await room.joins(ann, "bob")
    await room.tells(telling_paid("bob"))
    assert (await room.pays(bob)).outcome == "refund_required"
    assert (await room.seat(bob)).release_reason == "newcomers_only"
    assert await room.owed() == {order_of(bob.seat): ("group_buy.newcomers_only", PRICE_FEN)}
    await room.pays(await room.joins(ann, "cat"))
    assert (await room.team(ann)).state == "complete"


async def test_who_was_paid_back_for_everything_is_a_newcomer_again(room: Room) -> None:
    campaign = await room.campaign(team_size=2, newcomers_at_least=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    await room.refunds(ann)
    again = await room.opens(campaign, "ann")
    assert (await room.pays(again)).outcome == "applied"


async def test_a_threshold_without_its_newcomers_is_not_reached(room: Room) -> None:
    campaign = await room.campaign(team_size=3, newcomers_at_least=1, complete_at_least=2)
    for user_id in ("old1", "old2"):
        await room.tells(telling_paid(user_id))
    one = await room.opens(campaign, "old1")
    two = await room.joins(one, "old2")
    await room.pays(one)
    await room.pays(two)
    await room.expire()
    assert (await room.team(one)).state == "failed"


async def test_an_operator_completes_with_those_who_paid_and_never_invents_members(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    assert await refusal(room.teams.complete(an_act("kind"), ann.team.team_id)) == "group_buy.nobody_paid"
    await room.pays(ann)
    team = await room.teams.complete(an_act("kind"), ann.team.team_id)
    assert (team.state, team.end_reason, team.seats_paid, team.seats_taken) == ("complete", "operator", 1, 1)
    assert await room.states(ann, bob) == ["confirmed", "released"]
    assert await refusal(room.teams.fail(an_act("mean"), ann.team.team_id)) == "group_buy.team_not_forming"
    (entry,) = await room.database.fetch("SELECT action, reason FROM plumbing.audit")
    assert tuple(entry) == ("group_buy.complete_team", "kind")


async def test_an_operator_fails_a_team_and_who_paid_is_owed(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    await room.teams.fail(an_act("fraud"), ann.team.team_id)
    assert await room.states(ann) == ["refund_due"]
    assert order_of(ann.seat) in await room.owed()


async def test_nudges_are_told_once_each(room: Room) -> None:
    campaign = await room.campaign(team_size=3, team_hours=1, nudge_lead_seconds=3600)
    ann = await room.opens(campaign, "ann")
    await room.nudges()
    await room.joins(ann, "bob")
    await room.nudges()
    assert not await room.events("one_seat_left")  # nobody has paid: nobody waits for the last one
    await room.pays(ann)
    for _ in range(3):
        await room.nudges()
    (told,) = await room.events("one_seat_left")
    assert sorted(told["user_ids"]) == ["ann", "bob"]
    assert not await room.events("expiring_soon")
    await room.database.fetchval("UPDATE group_buy.teams SET nudge_at = clock_timestamp() - interval '1 second'")
    for _ in range(3):
        await room.nudges()
    (told,) = await room.events("expiring_soon")
    assert told["seats_missing"] == 2


async def test_a_team_never_outlives_its_campaign(room: Room) -> None:
    campaign = await room.campaign(closes_at=now() + timedelta(minutes=5))
    ann = await room.opens(campaign, "ann")
    assert ann.team.expires_at == campaign.closes_at
    assert ann.seat.held_until == campaign.closes_at


async def test_teams_to_join_come_with_fewest_missing_first_then_soonest_to_expire(room: Room) -> None:
    campaign = await room.campaign(team_size=3)
    first, second, third, full = [await room.opens(campaign, f"u{n}") for n in range(4)]
    await room.joins(third, "a")
    await room.joins(full, "b")
    await room.joins(full, "c")
    cards = await room.teams.joinable(campaign.group_buy_id, None, 10)
    assert [card.team_id for card in cards] == [one.team.team_id for one in (third, first, second)]
    assert [card.seats_missing for card in cards] == [1, 2, 2]
    assert {card.leader for card in cards} == {"张*"}
    place = (cards[0].seats_missing, cards[0].expires_at, cards[0].team_id)
    rest = await room.teams.joinable(campaign.group_buy_id, place, 10)
    assert rest == cards[1:]


def telling_paid(user_id: str) -> dict[str, Any]:
    from tests.shop.order import telling  # noqa: PLC0415

    return telling.paid(f"before-{user_id}", telling.line(), user_id=user_id)
