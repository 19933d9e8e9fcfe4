"""What counts, how often, in which period; and what it earns."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from growth.mechanics.task.model import Condition
from growth.rewards.granting.model import Budget
from growth.shopper.activity import model as events_model
from growth.shopper.activity.model import Activity
from growth.vocabulary.clock import now
from growth.vocabulary.events.group_buy import GroupBuyTeamComplete
from growth.vocabulary.events.referral import ReferralInviteeBought, ReferralInviteeLost
from growth.vocabulary.ids import derived_id, new_id
from growth.vocabulary.rewards import MakeUpCardReward, PointsReward
from tests.mechanics.task.conftest import POINTS, ZONE, Room, an_act, assemble, in_zone, paid, viewed

pytestmark = pytest.mark.anyio


async def test_the_count_is_reached_and_rewarded_once(room: Room) -> None:
    task = await room.task(count=3)
    await room.does(viewed("ann", "1"), viewed("ann", "2"))
    assert await room.progress(task, "ann") == (2, "open")
    assert await room.points("ann") == 0
    await room.does(viewed("ann", "3"))
    assert await room.progress(task, "ann") == (3, "rewarded")
    await room.does(viewed("ann", "4"), viewed("ann", "5"))
    assert await room.progress(task, "ann") == (3, "rewarded")
    assert await room.points("ann") == POINTS
    (completed,) = await room.told("completed")
    assert (completed["user_id"], completed["period_on"]) == ("ann", "1970-01-01")
    assert completed["granted"] == [{"type": "points", "points": POINTS, "valid_days": None}]


async def test_what_is_told_again_counts_once(room: Room) -> None:
    task = await room.task(count=3)
    for _ in range(5):
        await room.does(viewed("ann", "1"), viewed("ann", "1"), viewed("ann", "2"))
    assert await room.progress(task, "ann") == (2, "open")


async def test_distinct_counts_different_values_not_events(room: Room) -> None:
    task = await room.task(count=3, distinct_by="sku")
    await room.does(*[viewed("ann", str(number), "tea") for number in range(10)], viewed("ann", "11", "cup"))
    assert await room.progress(task, "ann") == (2, "open")
    await room.does(viewed("ann", "12", "pot"))
    assert await room.progress(task, "ann") == (3, "rewarded")


async def test_an_event_without_the_distinct_value_does_not_count(room: Room) -> None:
    task = await room.task(distinct_by="sku")
    await room.does(msgspec.structs.replace(viewed("ann", "1"), data={"page": "tea"}))
    assert await room.progress(task, "ann") == (0, "nothing")


async def test_only_what_the_filter_lets_through_counts(room: Room) -> None:
    task = await room.task(count=2, filter=[Condition(field="sku", one_of=["tea", "cup"])])
    await room.does(viewed("ann", "1", "pot"), viewed("ann", "2", "tea"), viewed("ann", "3", "spoon"))
    assert await room.progress(task, "ann") == (1, "open")


async def test_every_day_is_a_period_of_its_own_in_the_merchants_zone(room: Room) -> None:
    task = await room.task(period="daily", published_at=now() - timedelta(days=20))
    yesterday = now().astimezone(ZONE).date() - timedelta(days=1)
    late, early = in_zone(yesterday, 0) - timedelta(seconds=1), in_zone(yesterday, 0)
    await room.does(viewed("ann", "1", at=late), viewed("ann", "2", at=early))
    assert await room.progress(task, "ann", yesterday - timedelta(days=1)) == (1, "rewarded")
    assert await room.progress(task, "ann", yesterday) == (1, "rewarded")
    assert await room.points("ann") == 2 * POINTS


async def test_a_week_begins_on_monday(room: Room) -> None:
    task = await room.task(period="weekly", count=2, published_at=now() - timedelta(days=25))
    monday = now().astimezone(ZONE).date()
    monday -= timedelta(days=monday.weekday() + 7)
    await room.does(
        viewed("ann", "1", at=in_zone(monday, 0)),
        viewed("ann", "2", at=in_zone(monday + timedelta(days=6), 23, 59)),
        viewed("ann", "3", at=in_zone(monday, 0) - timedelta(minutes=1)),
    )
    assert await room.progress(task, "ann", monday) == (2, "rewarded")
    assert await room.progress(task, "ann", monday - timedelta(days=7)) == (1, "open")


async def test_what_comes_late_and_out_of_order_falls_into_its_own_day(room: Room) -> None:
    task = await room.task(period="daily", count=2, published_at=now() - timedelta(days=29))
    today = now().astimezone(ZONE).date()
    days = [today - timedelta(days=back) for back in (1, 20, 3, 20, 1)]
    for number, day in enumerate(days):
        await room.does(viewed("ann", str(number), at=in_zone(day, 12)))
    assert await room.progress(task, "ann", today - timedelta(days=20)) == (2, "rewarded")
    assert await room.progress(task, "ann", today - timedelta(days=1)) == (2, "rewarded")
    assert await room.progress(task, "ann", today - timedelta(days=3)) == (1, "open")


async def test_what_is_too_late_early_or_outside_the_window_does_not_count(room: Room) -> None:
    task = await room.task(
        opens_at=now() - timedelta(days=35),
        closes_at=now() - timedelta(minutes=10),
        published_at=now() - timedelta(days=34),
    )
    await room.does(
        viewed("ann", "1", at=now() - timedelta(days=31)),  # too late
        viewed("ann", "2", at=now()),  # after the end
        viewed("ann", "3", at=now() - timedelta(days=36)),  # before it opened
    )
    assert await room.progress(task, "ann") == (0, "nothing")
    await room.does(viewed("ann", "4", at=now() - timedelta(minutes=11)))
    assert await room.progress(task, "ann") == (1, "rewarded")


async def test_what_happened_before_publication_does_not_count(room: Room) -> None:
    task = await room.task(published_at=now() - timedelta(minutes=5))
    await room.does(viewed("ann", "1", at=now() - timedelta(minutes=6)))
    assert await room.progress(task, "ann") == (0, "nothing")


async def test_what_has_not_happened_yet_does_not_count(room: Room) -> None:
    task = await room.task()
    await room.does(viewed("ann", "1", at=now() + timedelta(minutes=6)))
    assert await room.progress(task, "ann") == (0, "nothing")


@pytest.mark.parametrize("state", ["draft", "paused"])
async def test_drafts_and_paused_tasks_count_nothing(room: Room, state: str) -> None:
    task = await room.task(state=state)
    await room.does(viewed("ann", "1"))
    assert await room.progress(task, "ann") == (0, "nothing")


async def test_what_happened_before_the_end_counts_when_it_is_told_after(room: Room) -> None:
    task = await room.task(count=2)
    await room.does(viewed("ann", "1"))
    before = now()
    await room.tasks.end(an_act(), task.task_id)
    await room.does(viewed("ann", "2", at=before), viewed("ann", "3"))
    assert await room.progress(task, "ann") == (2, "rewarded")


async def test_every_reward_of_the_list_is_given(room: Room) -> None:
    await room.task(reward=[PointsReward(points=5), PointsReward(points=7), MakeUpCardReward(cards=1)])
    await room.does(viewed("ann", "1"))
    assert await room.points("ann") == 12


async def test_a_spent_budget_gives_nothing_and_says_so(room: Room) -> None:
    task = await room.task(budget=Budget(max_grants=2))
    await room.does(*[viewed(f"u{number}", "1") for number in range(5)])
    states = [await room.progress(task, f"u{number}") for number in range(5)]
    assert sorted(states) == [(1, "done")] * 3 + [(1, "rewarded")] * 2
    assert sum([await room.points(f"u{number}") for number in range(5)]) == 2 * POINTS
    assert sorted(len(one["granted"]) for one in await room.told("completed")) == [0, 0, 0, 1, 1]


async def test_an_event_of_a_room_counts_for_every_shopper_it_names(room: Room) -> None:
    task = await room.task(event_type="group_buy.team_complete")
    event = GroupBuyTeamComplete(
        at=now(), group_buy_id=new_id(now()), team_id=new_id(now()), reason="full", user_ids=["ann", "bob", "cat"]
    )
    await room.happens(event)
    assert [await room.progress(task, user_id) for user_id in event.user_ids] == [(1, "rewarded")] * 3


async def test_a_first_order_is_a_filter(room: Room) -> None:
    task = await room.task(event_type="shop.order_paid", filter=[Condition(field="is_first_order", equals=True)])
    await room.happens(paid("ann", "o2"), paid("bob", "o3", first=True))
    assert await room.progress(task, "ann") == (0, "nothing")
    assert await room.progress(task, "bob") == (1, "rewarded")


async def test_an_order_counts_on_the_day_it_was_paid_not_on_the_day_it_was_told(room: Room) -> None:
    task = await room.task(event_type="shop.order_paid", period="daily", published_at=now() - timedelta(days=20))
    day = now().astimezone(ZONE).date() - timedelta(days=3)
    event = paid("ann", "o1", at=in_zone(day, 12))
    await room.happens(msgspec.structs.replace(event, at=now()))
    assert await room.progress(task, "ann", day) == (1, "rewarded")


async def test_the_products_of_one_order_are_distinct_values(room: Room) -> None:
    task = await room.task(
        event_type="shop.order_paid",
        distinct_by="lines.sku",
        filter=[Condition(field="lines.sku", one_of=["tea", "cup", "pot"]), Condition(field="paid_fen", at_least=100)],
        count=3,
    )
    await room.happens(paid("ann", "o1", "tea", "cup", "spoon"), paid("ann", "o2", "pot", fen=99))
    assert await room.progress(task, "ann") == (2, "open")
    await room.happens(paid("ann", "o3", "pot", "tea"))
    assert await room.progress(task, "ann") == (3, "rewarded")


async def test_many_tasks_count_the_same_event_each_for_itself(room: Room) -> None:
    tasks = [await room.task(count=count, period=period) for count in (1, 2) for period in ("once", "daily")]
    await room.does(viewed("ann", "1"))
    assert [(await room.progress(task, "ann"))[0] for task in tasks] == [1] * 4
    assert await room.points("ann") == 2 * POINTS


async def test_64_processes_that_hear_the_same_at_once_count_it_once(room: Room) -> None:
    task = await room.task(count=2)
    others = [assemble(room.database) for _ in range(64)]
    both = [viewed("ann", "1"), viewed("ann", "2")]
    await asyncio.gather(*[other.does(*both[:: (-1) ** number]) for number, other in enumerate(others)])
    assert await room.progress(task, "ann") == (2, "rewarded")
    assert await room.points("ann") == POINTS
    assert len(await room.told("completed")) == 1


async def test_a_change_of_a_task_is_seen_by_the_next_batch(room: Room) -> None:
    task = await room.task(opens_at=now() + timedelta(hours=1), count=2)
    await room.does(viewed("ann", "1"))
    await room.database.fetchval(
        "UPDATE task.tasks SET opens_at = $1, version = version + 1", now() - timedelta(hours=2)
    )
    await room.does(viewed("ann", "2"))
    assert await room.progress(task, "ann") == (1, "open")


async def test_friends_who_bought_count_for_who_brought_them_until_they_return_it(room: Room) -> None:
    task = await room.task(
        event_type="referral.invitee_bought", distinct_by="invitee_id", count=2, undo_on_refund="whole"
    )

    def known(friend: str) -> dict[str, Any]:
        return {
            "at": now(),
            "relation_id": derived_id(task.task_id, friend),
            "inviter_id": "ann",
            "invitee_id": friend,
            "order_id": f"o-{friend}",
            "program_id": task.task_id,
        }

    await room.happens(*[ReferralInviteeBought(**known(friend)) for friend in ("bob", "cat")])
    assert await room.progress(task, "ann") == (2, "rewarded")
    assert await room.progress(task, "bob") == (0, "nothing")
    await room.happens(ReferralInviteeLost(**known("bob")))
    assert (await room.progress(task, "ann"), await room.points("ann")) == ((1, "open"), 0)


async def test_no_value_stops_the_counting(room: Room) -> None:
    task = await room.task(count=9, distinct_by="sku")
    await room.does(
        *[viewed("ann", str(place), sku) for place, sku in enumerate(("\x00", "\ud800", "", "'; --", "茶" * 300))]
    )
    assert await room.progress(task, "ann") == (5, "open")


def late(id_: str, **ago: float) -> Activity:
    """A view that a client tells of now, as if it had been so long ago."""
    return viewed("ann", id_, at=now() - timedelta(**ago), heard_at=now())


DAYS_AGO = (0, 1, 2)


async def test_a_client_that_says_it_was_yesterday_does_todays_task(room: Room) -> None:
    """Whoever may say so did the daily tasks of three days in a minute, each rewarded."""
    task = await room.task(period="daily", published_at=now() - timedelta(days=20))
    await room.does(*(late(f"view-{days}", days=days) for days in DAYS_AGO))
    assert (await room.progress(task, "ann"))[1] == "rewarded"
    assert await room.points("ann") == POINTS


async def test_without_the_bound_on_what_clients_say_three_days_are_done_in_a_minute(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_model, "MAX_AHEAD", timedelta(days=3))
    await room.task(period="daily", published_at=now() - timedelta(days=20))
    await room.does(*(late(f"view-{days}", days=days) for days in DAYS_AGO))
    assert await room.points("ann") == len(DAYS_AGO) * POINTS


async def test_the_shops_word_counts_on_its_day(room: Room) -> None:
    task = await room.task(period="daily", published_at=now() - timedelta(days=20))
    by_shop = msgspec.structs.replace(late("view", days=2), activity_id="shop/0123")
    await room.does(by_shop)
    assert await room.progress(task, "ann", by_shop.at.astimezone(ZONE).date()) == (1, "rewarded")


async def test_nobody_gets_into_a_task_that_has_ended_or_has_not_begun_by_telling_another_time(room: Room) -> None:
    ended = await room.task(
        opens_at=now() - timedelta(days=9), closes_at=now() - timedelta(hours=1), published_at=now() - timedelta(days=9)
    )
    begun = await room.task(published_at=now() - timedelta(hours=1))
    await room.does(late("1", hours=2))
    assert await room.progress(ended, "ann") == (0, "nothing")
    assert await room.progress(begun, "ann") == (0, "nothing")
