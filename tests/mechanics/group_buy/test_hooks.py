"""What the shop tells, in any order and any number of times, ends the same."""

import asyncio
import json
from itertools import permutations
from typing import Any

import pytest

from growth.mechanics.group_buy.team.service import Seated
from growth.shop.order.owed.service import RefundsRequired
from tests.mechanics.group_buy.conftest import PRICE_FEN, Room, closed, line, order_of, paid, placed, received, refunded
from tests.shop.order import telling

pytestmark = pytest.mark.anyio


async def as_told(room: Room, seated: Seated) -> tuple[Any, ...]:
    """What the facts imply for a seat and its team; not when."""
    seat, team = await room.seat(seated), await room.team(seated)
    owed = (await room.owed()).get(order_of(seat))
    return (seat.state, seat.order_id, seat.line_id, seat.paid_fen, team.seats_paid, owed)


@pytest.mark.parametrize(
    "told",
    [(placed, paid, received), (placed, paid, closed), (placed, closed), (placed, paid, refunded, received, closed)],
    ids=["bought", "paid although closed", "closed", "bought and paid back"],
)
async def test_any_order_of_arrival_ends_the_same(room: Room, told: tuple[Any, ...]) -> None:
    campaign = await room.campaign(team_size=4, max_per_shopper=100)
    ends = set()
    for number, order in enumerate(permutations(told)):
        leader = await room.opens(campaign, f"leader{number}")
        await room.pays(leader)
        member = await room.joins(leader, f"member{number}")
        for tell in order:
            await room.tells(tell(member.seat))
        for tell in order:  # all again
            (again,) = await room.tells(tell(member.seat))
            assert again.outcome == "duplicate"
        end = await as_told(room, member)
        ends.add((end[0], *end[2:]))
    assert len(ends) == 1, ends
    assert not await room.events("refund_required")


async def test_a_held_seat_whose_order_closes_is_free_again(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    await room.tells(placed(bob.seat), closed(bob.seat))
    assert (await room.seat(bob)).release_reason == "order_closed"
    assert (await room.team(ann)).seats_taken == 1


async def test_a_late_payer_gets_the_seat_again_while_there_is_room(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    bob = await room.joins(ann, "bob")
    await room.lapse(bob)
    assert (await room.pays(bob)).outcome == "applied"
    assert (await room.team(ann)).state == "complete"
    assert [told["late"] for told in await room.events("seat_paid")] == [False, True]


async def test_a_late_payer_of_a_full_team_is_owed_once(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    bob = await room.joins(ann, "bob")
    await room.lapse(bob)
    cat = await room.joins(ann, "cat")
    assert (await room.pays(bob)).outcome == "refund_required"
    (again,) = await room.tells(paid(bob.seat) | {"id": "again"})
    assert again.outcome == "refund_required"
    await room.pays(cat)
    assert (await room.team(ann)).seats_paid == 2
    assert len(await room.events("refund_required")) == 1
    assert await room.owed() == {order_of(bob.seat): ("group_buy.paid_late", PRICE_FEN)}
    assert (await room.refunds(bob)).outcome == "applied"


async def test_a_late_payer_leads_a_new_team_where_the_campaign_says_so(room: Room) -> None:
    campaign = await room.campaign(team_size=2, late_payment="open_new_team")
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    bob = await room.joins(ann, "bob")
    await room.lapse(bob)
    await room.pays(await room.joins(ann, "cat"))
    assert (await room.pays(bob)).outcome == "applied"
    seat = await room.seat(bob)
    assert seat.team_id != ann.team.team_id
    assert (await room.team(seat.team_id)).leader_seat_id == seat.seat_id
    await room.pays(await room.joins(seat.team_id, "dan"))
    assert (await room.seat(bob)).state == "confirmed"
    assert not await room.owed()


async def test_two_lines_that_name_a_seat_which_opens_a_team_of_its_own_are_settled(room: Room) -> None:
    campaign = await room.campaign(team_size=2, late_payment="open_new_team")
    ann = await room.opens(campaign, "ann")
    await room.lapse(ann)
    both = [line(ann.seat), line(ann.seat, line_id="2")]
    (result,) = await room.tells(telling.paid("both", *both, user_id="ann", paid_fen=2 * PRICE_FEN))
    assert [(one.outcome, one.code) for one in result.lines] == [
        ("applied", ""),
        ("refund_required", "group_buy.seat_of_other_line"),
    ]
    assert (await room.seat(ann)).state == "paid"


async def test_who_is_paid_back_before_another_pays_completes_no_team_in_one_hook(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    await room.tells(paid(ann.seat), telling.paid("other", user_id="ann"))
    # The receipt is of the same shopper as the refund, which only their orders say.
    await room.tells(telling.received("other"), refunded(ann.seat), paid(bob.seat))
    assert (await room.team(ann)).state == "failed"


async def test_a_late_payer_who_sits_elsewhere_by_now_is_owed(room: Room) -> None:
    campaign = await room.campaign(team_size=2, late_payment="open_new_team", max_per_shopper=2)
    ann = await room.opens(campaign, "ann")
    await room.lapse(ann)
    await room.opens(campaign, "ann")
    assert (await room.pays(ann)).outcome == "refund_required"


async def test_a_refund_after_completion_leaves_the_team_complete(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    await room.pays(ann)
    await room.pays(bob)
    await room.refunds(bob)
    assert (await room.team(ann)).state == "complete"
    assert await room.states(ann, bob) == ["confirmed", "refunded"]
    assert await room.taken(campaign) == 2


async def test_a_refund_before_completion_frees_the_seat(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    bob = await room.joins(ann, "bob")
    await room.pays(bob)
    await room.refunds(bob)
    assert (await room.team(ann)).seats_taken == 1
    cat = await room.joins(ann, "cat")
    await room.pays(ann)
    await room.pays(cat)
    assert (await room.team(ann)).state == "complete"


async def test_who_is_paid_back_in_the_same_breath_completes_no_team(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    bob = await room.joins(ann, "bob")
    await room.tells(refunded(bob.seat), paid(bob.seat))
    assert (await room.team(ann)).state == "forming"
    assert (await room.seat(bob)).state == "refunded"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"user_id": "eve"}, "group_buy.seat_of_other_shopper"),
        ({"sku": "coffee"}, "group_buy.other_sku"),
        ({"units": 2}, "group_buy.other_units"),
    ],
)
async def test_money_for_a_seat_that_the_line_does_not_fit_is_owed(
    room: Room, changes: dict[str, Any], code: str
) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    result = await room.pays(ann, **changes)
    assert (result.outcome, result.lines[0].code) == ("refund_required", code)
    assert (await room.seat(ann)).state == "held"


async def test_a_seat_is_paid_by_one_order_and_the_other_is_owed(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    results = await asyncio.gather(*[room.pays(ann, f"o{n}") for n in range(8)])
    assert sorted(result.outcome for result in results) == ["applied"] + ["refund_required"] * 7
    assert (await room.team(ann)).seats_paid == 1


async def test_an_unknown_seat_is_rejected(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    result = await room.pays(ann, seat_id="0199c0de-0000-7000-8000-000000000001")
    assert (result.outcome, result.lines[0].code) == ("rejected", "group_buy.seat_not_found")


@pytest.mark.parametrize("_round", range(8))
async def test_paying_and_expiring_at_the_same_instant_ends_in_one_way(room: Room, _round: int) -> None:
    campaign = await room.campaign(team_size=2, max_per_shopper=2)
    pairs = []
    for number in range(6):
        leader = await room.opens(campaign, f"leader{number}")
        member = await room.joins(leader, f"member{number}")
        await room.pays(leader)
        pairs.append((leader, member))
    await room.database.fetchval("UPDATE group_buy.teams SET expires_at = clock_timestamp() - interval '1 second'")
    await asyncio.gather(
        *[room.pays(member) for _, member in pairs], *[room.keeper.end_due_teams(room.turn()) for _ in range(3)]
    )
    await room.keeper.end_due_teams(room.turn())
    owed = await room.owed()
    for leader, member in pairs:
        state = (await room.team(leader)).state
        if state == "complete":
            assert await room.states(leader, member) == ["confirmed", "confirmed"]
            continue
        assert state == "failed"
        assert {order_of(leader.seat), order_of(member.seat)} <= owed.keys()
    assert len(await room.events("refund_required")) == len(owed)


@pytest.mark.parametrize("_round", range(4))
async def test_members_who_leave_pay_and_are_refunded_at_once_leave_a_sound_team(room: Room, _round: int) -> None:
    campaign = await room.campaign(team_size=8)
    leader = await room.opens(campaign, "leader")
    members = [await room.joins(leader, f"m{n}") for n in range(7)]
    await asyncio.gather(
        room.leaves(leader),
        *[room.pays(one) for one in members[:3]],
        *[room.refunds(one) for one in members[:2]],
        *[room.leaves(one) for one in members[3:5]],
        *[room.joins(leader, f"n{n}") for n in range(4)],
        return_exceptions=True,
    )
    # What must hold is asked after every test.
    assert (await room.team(leader)).state in {"forming", "failed"}


# --- facts that mean the same in every room ---------------------------------------------------------------------------


async def told_by_the_shop(room: Room) -> list[tuple[str, int, list[str]]]:
    rows = await room.database.fetch(
        "SELECT data::text FROM plumbing.outbox WHERE type = 'shop.refund_required' ORDER BY position"
    )
    found = [json.loads(row["data"]) for row in rows]
    return [(one["order_id"], one["amount_fen"], one["reasons"]) for one in found]


async def open_refunds(room: Room) -> list[tuple[str, int]]:
    page = await RefundsRequired(room.database).page(state="open", order_id=None, user_id=None, before=None, limit=99)
    return [(one.order_id, one.amount_fen) for one in page]


async def test_all_the_money_back_without_units_settles_the_seat_of_a_failed_team(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    order = order_of(ann.seat)
    await room.pays(ann)
    await room.expire(ann)
    assert await told_by_the_shop(room) == [(order, PRICE_FEN, ["group_buy.team_failed"])]
    assert await open_refunds(room) == [(order, PRICE_FEN)]
    (part, rest) = await room.tells(
        telling.refunded(order, "a", telling.of(0, PRICE_FEN - 1)), telling.refunded(order, "b", telling.of(0, 1))
    )
    assert (part.outcome, part.lines[0].owed_fen, rest.outcome) == ("refund_required", 1, "applied")
    assert await room.states(ann) == ["refunded"]
    assert await open_refunds(room) == []
    (again,) = await room.tells(received(ann.seat))
    assert again.outcome == "applied"
    assert len(await told_by_the_shop(room)) == 1


async def test_each_seat_of_a_failed_team_is_owed_by_one_row_and_one_event(room: Room) -> None:
    campaign = await room.campaign(team_size=4)
    ann = await room.opens(campaign, "ann")
    seats = [ann, await room.joins(ann, "bob"), await room.joins(ann, "cat")]
    for seat in seats:
        await room.pays(seat)
    await room.expire(ann)
    for seat in seats:
        (result,) = await room.tells(received(seat.seat))
        assert (result.outcome, result.lines[0].owed_fen) == ("refund_required", PRICE_FEN)
    owed = sorted((order_of(seat.seat), PRICE_FEN) for seat in seats)
    assert sorted(one[:2] for one in await told_by_the_shop(room)) == owed
    assert sorted(await open_refunds(room)) == owed


async def test_of_two_lines_that_name_one_seat_the_first_that_fits_pays(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    lines = [line(ann.seat, line_id="1", units=2), line(ann.seat, line_id="2"), line(ann.seat, line_id="3")]
    (result,) = await room.tells(telling.paid("o1", *lines, user_id="ann", paid_fen=3 * PRICE_FEN))
    assert [one.code for one in result.lines] == ["group_buy.other_units", "", "group_buy.seat_of_other_line"]
    assert [one.owed_fen for one in result.lines] == [PRICE_FEN, None, PRICE_FEN]
    assert await room.states(ann) == ["paid"]


async def test_an_order_that_is_split_at_payment_pays_for_its_seat_whether_it_is_closed_before_or_after(
    room: Room,
) -> None:
    campaign = await room.campaign(team_size=2, max_per_shopper=99)
    for number, arrival in enumerate(permutations(range(3))):
        for is_leader in (True, False):
            leader = await room.opens(campaign, f"leader{number}{is_leader}")
            if not is_leader:
                await room.pays(leader)
            mine = leader if is_leader else await room.joins(leader, f"member{number}")
            parent, child = f"o{number}{is_leader}", f"o{number}{is_leader}-1"
            facts = [placed(mine.seat, parent), paid(mine.seat, child), closed(mine.seat, parent)]
            results = await room.tells(*[facts[index] for index in arrival])
            assert "refund_required" not in {one.outcome for one in results}
            seat = await room.seat(mine)
            assert (seat.state, seat.order_id) == ("paid" if is_leader else "confirmed", child), arrival
            team = await room.team(seat.team_id)
            assert team.state == ("forming" if is_leader else "complete")
    assert await told_by_the_shop(room) == []


async def test_who_has_only_had_things_for_nothing_is_a_newcomer(room: Room) -> None:
    campaign = await room.campaign(team_size=2, newcomers_at_least=1)
    sample = telling.line("1", amount_fen=0)
    await room.tells(
        telling.paid("sample", sample, user_id="ann", paid_fen=0),
        telling.paid("freight", sample, user_id="ann", paid_fen=600),
        telling.paid("by-card", telling.line("1"), user_id="ann", paid_fen=0),
        telling.paid("back", telling.line("1"), user_id="ann"),
        telling.refunded("back", "r", telling.of(0, 200)),
        telling.paid("gift-kept", telling.line("1"), telling.line("2", amount_fen=0), user_id="ann"),
        telling.refunded("gift-kept", "r", telling.of(2, 200)),
        telling.paid("real", telling.line("1"), user_id="bob"),
    )
    bob = await room.opens(campaign, "bob")
    ann = await room.joins(bob, "ann")
    assert [(await room.seat(one)).is_newcomer for one in (bob, ann)] == [False, True]
    await room.pays(bob)
    await room.pays(ann)
    assert (await room.team(ann)).state == "complete"
