"""Erasing is no way to a second welcome: who comes back gets nothing a second time that is given once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.task.service import Tasks
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests.app import RunningApp, running_app
from tests.test_merges import SOLD, asks, campaign, does, merge, pays, points, react, returns

pytestmark = pytest.mark.anyio

COUPON = {
    "title": "Ten off",
    "discount": {"type": "fixed", "off_fen": 1000},
    "threshold_fen": 0,
    "validity": {"type": "days", "days": 30},
    "units_total": 1000,
    "claimable": True,
}


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app


async def erase(app: RunningApp, who: str) -> None:
    await does(app, "DELETE", f"/admin/v1/shoppers/{who}?reason=asked")


async def is_back(app: RunningApp, who: str) -> None:
    await erase(app, who)
    await returns(app, who)


async def template(app: RunningApp, **changes: Any) -> str:
    made = await does(app, "POST", "/admin/v1/coupon-templates", {**COUPON, **changes})
    await does(app, "POST", f"/admin/v1/coupon-templates/{made['template_id']}/publish")
    return str(made["template_id"])


async def refused(app: RunningApp, who: str, path: str, body: object = None) -> str:
    answer = await app.shopper(who, "POST", path, body)
    assert answer.status_code == 409, answer.text
    return str(answer.json()["code"])


async def test_what_was_taken_of_a_template_counts_against_its_limit_in_every_life(app: RunningApp) -> None:
    template_id = await template(app, max_per_shopper=3)
    page = f"/v1/coupon-templates/{template_id}"
    for taken in (1, 2):
        await asks(app, "ann", "POST", f"{page}/coupons")
        await is_back(app, "ann")
        told = await asks(app, "ann", "GET", page)
        assert (told["taken_by_me"], told["can_take"]) == (taken, True)
    await asks(app, "ann", "POST", f"{page}/coupons")
    assert await refused(app, "ann", f"{page}/coupons") == "coupon.limit_reached"
    (shown,) = (await asks(app, "ann", "GET", "/v1/coupon-templates"))["items"]
    assert (shown["taken_by_me"], shown["can_take"]) == (3, False)
    # Others are none the worse for it.
    await asks(app, "bob", "POST", f"{page}/coupons")


async def test_what_was_taken_today_counts_against_the_limit_of_the_day(app: RunningApp) -> None:
    template_id = await template(app, max_per_shopper=9, max_per_shopper_per_day=1)
    await asks(app, "ann", "POST", f"/v1/coupon-templates/{template_id}/coupons")
    await is_back(app, "ann")
    code = await refused(app, "ann", f"/v1/coupon-templates/{template_id}/coupons")
    assert code == "coupon.limit_reached_today"


async def test_a_printed_code_is_no_way_around_what_was_taken_before(app: RunningApp) -> None:
    template_id = await template(app, max_per_shopper=1)
    path = f"/admin/v1/coupon-templates/{template_id}/code-batches"
    codes = (await does(app, "POST", path, {"name": "Flyer", "codes": 2}))["codes"]
    await asks(app, "ann", "POST", "/v1/coupons/redeem", {"code": codes[0]})
    await is_back(app, "ann")
    assert await refused(app, "ann", "/v1/coupons/redeem", {"code": codes[1]}) == "coupon.limit_reached"


async def test_an_erased_id_that_becomes_anothers_brings_along_what_it_had(app: RunningApp) -> None:
    template_id = await template(app, max_per_shopper=1)
    path = f"/v1/coupon-templates/{template_id}/coupons"
    await asks(app, "ann", "POST", path)
    await erase(app, "ann")
    await merge(app, "ann", "bob")
    assert await refused(app, "bob", path) == "coupon.limit_reached"
    # Erased as well, with all ids that led here, both remember it.
    await erase(app, "bob")
    for who in ("ann", "bob"):
        await returns(app, who)
        assert await refused(app, who, path) == "coupon.limit_reached"


TASK = {"event_type": "shop.order_paid", "count": 1, "reward": [{"type": "points", "points": 10}]}


@pytest.mark.parametrize("period", ["once", "weekly"])
async def test_a_task_is_done_once_in_its_period_however_many_others_were_done(app: RunningApp, period: str) -> None:
    task_id = await campaign(app, "tasks", "task_id", period=period, **TASK)
    daily = await campaign(app, "tasks", "task_id", period="daily", **{**TASK, "event_type": "checkin.checked_in"})
    app.growth.of(Tasks)._board.forget()
    await pays(app, "o-1", "ann")
    await react(app)
    assert await points(app, "ann") == 10
    async with app.growth.database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO task.progress (user_id, period_on, task_id, done, state, attempt, grant_id, changed_at)
            SELECT user_id, period_on - n, $1, 1, 'rewarded', 1, gen_random_uuid(), now()
            FROM task.progress CROSS JOIN generate_series(1, 300) AS n
            WHERE task_id = $2
            """,
            daily,
            task_id,
        )
    await is_back(app, "ann")
    await pays(app, "o-2", "ann", at=now() + timedelta(seconds=1))
    await react(app)
    assert await points(app, "ann") == 0


# --- the same key in another life -------------------------------------------------------------------------------------


async def test_a_key_names_another_claim_in_another_life(app: RunningApp) -> None:
    sale_id = await campaign(app, "flash-sales", "sale_id", **SOLD)
    path = f"/v1/flash-sales/{sale_id}/claims"
    first = await asks(app, "ann", "POST", path, {"units": 1}, idempotency_key="k")
    await app.shopper("ann", "DELETE", f"/v1/claims/{first['claim_id']}")
    await is_back(app, "ann")
    second = await asks(app, "ann", "POST", path, {"units": 1}, idempotency_key="k")
    assert second["claim_id"] != first["claim_id"]
    assert (await asks(app, "ann", "POST", path, {"units": 1}, idempotency_key="k"))["claim_id"] == second["claim_id"]
    # The life goes on under another name, and so does what was asked in it.
    await app.shopper("ann", "DELETE", f"/v1/claims/{second['claim_id']}")
    await merge(app, "ann", "bob")
    again = await app.shopper("ann", "POST", path, {"units": 1}, idempotency_key="k")
    assert again.json()["claim_id"] == second["claim_id"]


@pytest.mark.parametrize("how", ["open", "join"])
async def test_a_key_names_another_seat_in_another_life(app: RunningApp, how: str) -> None:
    group_buy_id = await campaign(app, "group-buys", "group_buy_id", **SOLD, team_size=3, max_per_shopper=3)
    path = f"/v1/group-buys/{group_buy_id}/teams"
    if how == "join":
        team_id = (await asks(app, "leader", "POST", path, {"nickname": "L"}))["seat"]["team_id"]
        path = f"/v1/teams/{team_id}/seats"

    async def asks_for_one() -> str:
        answer = await asks(app, "ann", "POST", path, {"nickname": "A"}, idempotency_key="k")
        return str(answer.get("seat", answer)["seat_id"])

    first = await asks_for_one()
    await app.shopper("ann", "DELETE", f"/v1/seats/{first}")
    await is_back(app, "ann")
    second = await asks_for_one()
    assert second != first
    assert await asks_for_one() == second


async def test_a_key_names_another_coupon_in_another_life(app: RunningApp) -> None:
    path = f"/v1/coupon-templates/{await template(app, max_per_shopper=5)}/coupons"
    first = await asks(app, "ann", "POST", path, idempotency_key="k")
    await is_back(app, "ann")
    second = await asks(app, "ann", "POST", path, idempotency_key="k")
    assert second["coupon_id"] != first["coupon_id"]
    mine = (await asks(app, "ann", "GET", "/v1/coupons"))["items"]
    assert [one["coupon_id"] for one in mine] == [second["coupon_id"]]
    assert (await asks(app, "ann", "POST", path, idempotency_key="k"))["coupon_id"] == second["coupon_id"]


async def test_erasing_with_nothing_remembered_lets_everything_be_had_again(app: RunningApp) -> None:
    """The control: it is the memory that refuses, and nothing else."""
    path = f"/v1/coupon-templates/{await template(app, max_per_shopper=1)}/coupons"
    await asks(app, "ann", "POST", path)
    await is_back(app, "ann")
    assert await refused(app, "ann", path) == "coupon.limit_reached"
    async with app.growth.database.transaction() as tx:
        await tx.execute("DELETE FROM plumbing.given_once")
    answer = await app.operator("GET", "/admin/v1/shoppers/ann", role=Role.ADMIN)
    assert answer.json()["rooms"]["coupon"]["coupons"] == []
    await asks(app, "ann", "POST", path)
