"""Two ids of one person, room by room: what the sum reaches is given, what the union forbids is not."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from growth.mechanics.task.service import Tasks
from growth.plumbing.outbox import outbox
from growth.tables import reactions
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from growth.vocabulary.ids import new_id
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.shop.order import telling

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app
        await react(app)
        assert not await violations(app.growth.database)


async def react(app: RunningApp) -> None:
    """Let every listener hear of what was told, as a worker does."""
    while sum([await outbox.deliver(app.growth.database, one) for one in reactions(app.growth)]):
        pass


async def does(app: RunningApp, method: str, path: str, body: object = None) -> Any:
    answer = await app.operator(method, path, body, role=Role.ADMIN)
    assert answer.status_code in {200, 201}, (path, answer.text)
    return answer.json()


async def asks(app: RunningApp, who: str, method: str, path: str, body: object = None, **headers: str) -> Any:
    answer = await app.shopper(who, method, path, body, **headers)
    assert answer.status_code in {200, 201, 202}, (path, answer.text)
    return answer.json()


async def campaign(app: RunningApp, room: str, id_: str, **draft: Any) -> str:
    opens_at = now() - timedelta(minutes=1)
    times = {"opens_at": rfc3339(opens_at), "closes_at": rfc3339(opens_at + timedelta(days=2))}
    made = await does(app, "POST", f"/admin/v1/{room}", {"title": "Tea", **times, **draft})
    await does(app, "POST", f"/admin/v1/{room}/{made[id_]}/publish?accept_warnings=true")
    return str(made[id_])


async def merge(app: RunningApp, old: str, new: str) -> None:
    answer = await does(app, "POST", f"/admin/v1/shoppers/{old}/merge", {"into": new, "reason": "one phone"})
    assert answer == {"user_id": new}


async def pays(app: RunningApp, order_id: str, who: str, at: datetime | None = None, **uses: Any) -> JSON:
    line = {"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 5000, **uses}
    hook = telling.paid(order_id, line, user_id=who, paid_fen=5000)
    hook["data"]["paid_at"] = rfc3339(at or now())
    (result,) = await app.shop_tells(hook)
    return result


async def receives(app: RunningApp, order_id: str) -> JSON:
    (result,) = await app.shop_tells(telling.received(order_id, time=rfc3339(now())))
    return result


async def points(app: RunningApp, who: str) -> int:
    answer: int = (await asks(app, who, "GET", "/v1/points"))["points"]
    return answer


SOLD = {"sku": "tea", "price_fen": 5000, "list_price_fen": 9900, "units_total": 300}


async def owed(app: RunningApp) -> list[str]:
    rows = await app.growth.database.fetch(
        "SELECT type FROM plumbing.outbox WHERE type LIKE '%refund\\_required' ORDER BY position"
    )
    return [row["type"] for row in rows]


async def test_who_bought_under_both_ids_in_one_sale_is_owed_nothing(app: RunningApp) -> None:
    sale_id = await campaign(app, "flash-sales", "sale_id", **SOLD)
    for who in ("ann", "bob"):
        claim = await asks(app, who, "POST", f"/v1/flash-sales/{sale_id}/claims", {"units": 1})
        assert (await pays(app, f"o-{who}", who, claim_id=claim["claim_id"]))["outcome"] == "applied"
    await does(app, "POST", f"/admin/v1/flash-sales/{sale_id}/end", {"reason": "over"})
    await merge(app, "ann", "bob")
    for who in ("ann", "bob"):
        assert (await receives(app, f"o-{who}"))["outcome"] == "applied"
    assert await owed(app) == []
    claims = (await does(app, "GET", "/admin/v1/shoppers/bob"))["rooms"]["flash_sale"]["claims"]
    assert [claim["state"] for claim in claims] == ["paid", "paid"]


async def test_who_bought_under_both_ids_in_one_team_is_owed_nothing(app: RunningApp) -> None:
    group_buy_id = await campaign(app, "group-buys", "group_buy_id", **{**SOLD, "list_price_fen": 9900}, team_size=2)
    opened = await asks(app, "ann", "POST", f"/v1/group-buys/{group_buy_id}/teams", {"nickname": "Ann"})
    joined = await asks(app, "bob", "POST", f"/v1/teams/{opened['team']['team_id']}/seats", {"nickname": "Bob"})
    for who, seat_id in (("ann", opened["seat"]["seat_id"]), ("bob", joined["seat_id"])):
        assert (await pays(app, f"o-{who}", who, seat_id=seat_id))["outcome"] == "applied"
    await merge(app, "ann", "bob")
    for who in ("ann", "bob"):
        assert (await receives(app, f"o-{who}"))["outcome"] == "applied"
    assert await owed(app) == []


async def views(app: RunningApp, who: str, sku: str) -> None:
    did = {"id": new_id(now()), "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": sku}}
    await asks(app, who, "POST", "/v1/events", {"events": [did]})


async def test_two_ids_that_finish_one_task_are_rewarded_once_and_others_go_on_counting(app: RunningApp) -> None:
    reward = [{"type": "points", "points": 10}]
    told = {"event_type": "product.viewed", "distinct_by": "sku", "count": 2, "period": "once", "reward": reward}
    await campaign(app, "tasks", "task_id", **told)
    app.growth.of(Tasks)._board.forget()
    await views(app, "ann", "a")
    await react(app)
    await merge(app, "ann", "bob")
    # The old phone goes on beside the new one, and both finish in one batch; so does a stranger.
    for who in ("ann", "bob", "cat"):
        await views(app, who, "b")
        await views(app, who, "c")
    await react(app)
    assert [await points(app, who) for who in ("bob", "cat")] == [10, 10]


async def test_the_refund_of_an_erased_life_takes_nothing_from_the_new_one(app: RunningApp) -> None:
    reward = [{"type": "points", "points": 40}]
    told = {"event_type": "shop.order_paid", "count": 1, "period": "daily", "reward": reward}
    first = await campaign(app, "tasks", "task_id", undo_on_refund="whole", **told)
    app.growth.of(Tasks)._board.forget()
    await pays(app, "o-1", "ann")
    await react(app)
    assert await points(app, "ann") == 40
    erased = await app.operator("DELETE", "/admin/v1/shoppers/ann?reason=asked", role=Role.ADMIN)
    assert erased.status_code == 200, erased.text
    await returns(app, "ann")
    # Another task: the first is done for today, in whatever life.
    await does(app, "POST", f"/admin/v1/tasks/{first}/end")
    await campaign(app, "tasks", "task_id", undo_on_refund="whole", **told)
    app.growth.of(Tasks)._board.forget()
    await pays(app, "o-2", "ann")
    await react(app)
    refund = telling.refunded("o-1", "r-1", telling.of(1, 5000), time=rfc3339(now()))
    (result,) = await app.shop_tells(refund)
    assert result["outcome"] == "applied"
    await react(app)
    ledger = (await does(app, "GET", "/admin/v1/shoppers/ann"))["rooms"]["ledger"]["accounts"]
    assert [one["posted"] for one in ledger if one["currency"] == "points"] == [40]


async def returns(app: RunningApp, who: str) -> None:
    """Have the shop sign an erased shopper in anew, a second later: tokens tell whole seconds."""
    app.signs_ahead = timedelta(seconds=2)
    await asks(app, who, "GET", "/v1/points")


REFERRAL = {
    "level_1": {"type": "fixed", "amount_fen": 1000},
    "inviter_rewards": [{"type": "points", "points": 100}],
    "invitee_rewards": [{"type": "points", "points": 7}],
}


async def referral(app: RunningApp) -> str:
    made = await does(app, "POST", "/admin/v1/referral-programs", {"title": "Friends", **REFERRAL})
    await does(app, "POST", f"/admin/v1/referral-programs/{made['program_id']}/publish?accept_warnings=true")
    code: str = (await asks(app, "inviter", "GET", "/v1/referral"))["code"]
    return code


async def earned(app: RunningApp) -> list[int]:
    commissions = await does(app, "GET", "/admin/v1/commissions")
    return [one["amount_fen"] for one in commissions["items"]]


async def test_a_guest_who_had_bought_makes_no_newcomer_of_the_account(app: RunningApp) -> None:
    code = await referral(app)
    await pays(app, "o-guest", "guest", now() - timedelta(days=3))
    await asks(app, "ann", "PUT", "/v1/referral/inviter", {"code": code})
    await merge(app, "guest", "ann")
    await pays(app, "o-ann", "ann")
    await receives(app, "o-ann")
    assert (await earned(app), await points(app, "inviter"), await points(app, "ann")) == ([0], 0, 0)


async def test_what_was_given_for_a_newcomer_who_was_none_goes_back(app: RunningApp) -> None:
    code = await referral(app)
    await pays(app, "o-guest", "guest", now() - timedelta(days=3))
    await asks(app, "ann", "PUT", "/v1/referral/inviter", {"code": code})
    await pays(app, "o-ann", "ann")
    await receives(app, "o-ann")
    assert (await earned(app), await points(app, "inviter"), await points(app, "ann")) == ([1000], 100, 7)
    await merge(app, "guest", "ann")
    assert (await earned(app), await points(app, "inviter"), await points(app, "ann")) == ([0], 0, 0)


async def test_a_guest_who_bought_after_the_binding_paid_the_first_order_of_the_account(app: RunningApp) -> None:
    """The control of the two above: one first order between the two, and it is the earlier one."""
    code = await referral(app)
    await asks(app, "ann", "PUT", "/v1/referral/inviter", {"code": code})
    await pays(app, "o-guest", "guest", now() + timedelta(minutes=4))
    await merge(app, "guest", "ann")
    await pays(app, "o-ann", "ann")
    await receives(app, "o-ann")
    # Newest first.
    assert await earned(app) == [0, 1000]
    await receives(app, "o-guest")
    assert (await points(app, "inviter"), await points(app, "ann")) == (100, 7)


async def test_an_id_that_was_merged_is_not_erased_in_place_of_its_survivor(app: RunningApp) -> None:
    await pays(app, "o-1", "bob")
    await merge(app, "ann", "bob")
    answer = await app.operator("DELETE", "/admin/v1/shoppers/ann?reason=asked", role=Role.ADMIN)
    assert (answer.status_code, answer.json()["code"], answer.json()["into"]) == (409, "shopper.merged", "bob")
    orders = (await does(app, "GET", "/admin/v1/shoppers/bob"))["rooms"]["shop"]["orders"]
    assert [order["order_id"] for order in orders] == ["o-1"]


async def test_rings_of_merges_lead_to_one_person(app: RunningApp) -> None:
    await pays(app, "o-1", "ann")
    await merge(app, "ann", "bob")
    # The other way round is the same person, whose name stays.
    answer = await does(app, "POST", "/admin/v1/shoppers/bob/merge", {"into": "ann", "reason": "one phone"})
    assert answer == {"user_id": "bob"}
    await merge(app, "bob", "cat")
    answer = await does(app, "POST", "/admin/v1/shoppers/cat/merge", {"into": "ann", "reason": "one phone"})
    assert answer == {"user_id": "cat"}
    for who in ("ann", "bob", "cat"):
        told = await does(app, "GET", f"/admin/v1/shoppers/{who}")
        assert told["user_id"] == "cat"
        assert len(told["rooms"]["shop"]["orders"]) == 1
