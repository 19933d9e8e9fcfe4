"""Coupons over HTTP: what shoppers, operators and the shop see."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from growth.vocabulary.ids import new_id
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.rewards.coupon.conftest import INVARIANTS, line, paid, placed, refunded

pytestmark = pytest.mark.anyio

TEMPLATES = "/admin/v1/coupon-templates"


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app
        assert not await violations(app.growth.database, INVARIANTS)


def draft(**changes: Any) -> JSON:
    return {
        "title": "Ten off",
        "discount": {"type": "fixed", "off_fen": 1000},
        "threshold_fen": 3000,
        "validity": {"type": "days", "days": 30},
        "units_total": 100,
        "claimable": True,
    } | changes


async def published(app: RunningApp, **changes: Any) -> str:
    made = await app.operator("POST", TEMPLATES, draft(**changes))
    assert made.status_code == 201, made.text
    template_id: str = made.json()["template_id"]
    step = await app.operator("POST", f"{TEMPLATES}/{template_id}/publish")
    assert step.json()["state"] == "published"
    return template_id


async def taken(app: RunningApp, template_id: str, user_id: str = "ann", **headers: str) -> JSON:
    answer = await app.shopper(user_id, "POST", f"/v1/coupon-templates/{template_id}/coupons", **headers)
    assert answer.status_code == 201, answer.text
    coupon: JSON = answer.json()
    return coupon


async def test_a_coupon_from_the_counter_to_the_till_and_back(app: RunningApp) -> None:
    template_id = await published(app)
    (shown,) = (await app.shopper("ann", "GET", "/v1/coupon-templates")).json()["items"]
    assert (shown["template_id"], shown["can_take"], shown["units_left"]) == (template_id, True, 100)
    coupon = await taken(app, template_id)
    assert (coupon["state"], coupon["title"], coupon["discount"]) == (
        "issued",
        "Ten off",
        {"type": "fixed", "off_fen": 1000},
    )
    cart = {"lines": [{"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 4000}]}
    (quote,) = (await app.shopper("ann", "POST", "/v1/coupons/quote", cart)).json()["quotes"]
    assert (quote["coupon_id"], quote["applies"], quote["lines"]) == (
        coupon["coupon_id"],
        True,
        [{"line_id": "1", "off_fen": 1000}],
    )
    for event, state in (
        (placed("o1", line(coupon["coupon_id"])), "locked"),
        (paid("o1", line(coupon["coupon_id"])), "used"),
        (refunded("o1"), "issued"),
    ):
        (result,) = await app.shop_tells(event)
        assert (result["outcome"], result["code"]) == ("applied", "")
        (mine,) = (await app.shopper("ann", "GET", f"/v1/coupons?state={state}")).json()["items"]
        assert (await app.shopper("ann", "GET", f"/v1/coupons/{mine['coupon_id']}")).json()["state"] == state


async def test_the_shop_hears_of_a_coupon_in_two_orders(app: RunningApp) -> None:
    coupon = await taken(app, await published(app))
    events = [placed("o1", line(coupon["coupon_id"])), placed("o2", line(coupon["coupon_id"]))]
    first, second = await app.shop_tells(*events)
    assert (first["outcome"], second["outcome"], second["code"]) == ("applied", "rejected", "coupon.of_other_order")
    third, fourth = await app.shop_tells(*[paid(order, line(coupon["coupon_id"])) for order in ("o2", "o1")])
    # Who pays first has it, whoever placed first.
    assert third["outcome"] == "applied"
    assert (fourth["outcome"], fourth["lines"][0]["line_id"]) == ("refund_required", "1")


async def test_of_64_requests_for_the_last_coupon_one_is_answered_201(app: RunningApp) -> None:
    template_id = await published(app, units_total=1)
    answers = await asyncio.gather(
        *[app.shopper(f"u{number}", "POST", f"/v1/coupon-templates/{template_id}/coupons") for number in range(64)]
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 63}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"coupon.sold_out"}


async def test_a_repeated_take_is_told_so(app: RunningApp) -> None:
    template_id = await published(app, max_per_shopper=2)
    path = f"/v1/coupon-templates/{template_id}/coupons"
    first = await app.shopper("ann", "POST", path, idempotency_key="tap")
    again = await app.shopper("ann", "POST", path, idempotency_key="tap")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["coupon_id"] == again.json()["coupon_id"]
    await taken(app, template_id)
    limit = await app.shopper("ann", "POST", path)
    assert (limit.status_code, limit.json()["code"], limit.json()["taken"]) == (409, "coupon.limit_reached", 2)


async def test_a_key_names_a_coupon_for_a_day_and_then_another(app: RunningApp) -> None:
    template_id = await published(app, max_per_shopper=2)
    path = f"/v1/coupon-templates/{template_id}/coupons"
    first = await app.shopper("ann", "POST", path, idempotency_key="constant")
    await app.growth.database.fetch("UPDATE coupon.coupons SET issued_at = issued_at - interval '50 h'")
    second = await app.shopper("ann", "POST", path, idempotency_key="constant")
    assert (second.status_code, "idempotent-replayed" in second.headers) == (201, False)
    assert second.json()["coupon_id"] != first.json()["coupon_id"]
    again = await app.shopper("ann", "POST", path, idempotency_key="constant")
    assert again.json()["coupon_id"] == second.json()["coupon_id"]
    assert again.headers["idempotent-replayed"] == "true"


async def test_nobody_sees_anothers_coupon(app: RunningApp) -> None:
    coupon = await taken(app, await published(app))
    for user_id, coupon_id in (("bob", coupon["coupon_id"]), ("ann", new_id(now()))):
        answer = await app.shopper(user_id, "GET", f"/v1/coupons/{coupon_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "coupon.not_found")
    assert (await app.shopper("bob", "GET", "/v1/coupons")).json() == {"items": [], "next_cursor": None}


async def test_my_coupons_come_in_pages_newest_first(app: RunningApp) -> None:
    template_id = await published(app, max_per_shopper=5)
    made = [(await taken(app, template_id))["coupon_id"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await app.shopper("ann", "GET", f"/v1/coupons?limit=2{cursor}")).json()
        seen += [one["coupon_id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == made[::-1]


async def test_the_life_of_a_template(app: RunningApp) -> None:
    made = await app.operator("POST", TEMPLATES, draft(), idempotency_key="once")
    again = await app.operator("POST", TEMPLATES, draft(), idempotency_key="once")
    assert made.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    path = f"{TEMPLATES}/{made.json()['template_id']}"
    assert (await app.operator("PUT", path, draft())).status_code == 412
    changed = await app.operator("PUT", path, draft(threshold_fen=5000), if_match=made.headers["etag"])
    assert (changed.status_code, changed.json()["threshold_fen"]) == (200, 5000)
    stale = await app.operator("PUT", path, draft(), if_match=made.headers["etag"])
    assert (stale.status_code, stale.json()["code"]) == (412, "coupon.version_mismatch")
    for step, state in (("publish", "published"), ("pause", "paused"), ("resume", "published")):
        assert (await app.operator("POST", f"{path}/{step}")).json()["state"] == state
        assert (await app.operator("GET", path)).json()["state"] == state
    live = await app.operator("GET", path)
    for change in (
        {"threshold_fen": 1},
        {"discount": {"type": "percent", "percent_off": 10}},
        {"validity": {"type": "days", "days": 1}},
        {"skus": ["tea"]},
        {"after_refund": "stay_used"},
    ):
        no = await app.operator("PUT", path, draft(threshold_fen=5000) | change, if_match=live.headers["etag"])
        assert (no.status_code, no.json()["code"], no.json()["field"]) == (
            409,
            "coupon.locked_field",
            next(iter(change)),
        )
    more = await app.operator(
        "PUT", path, draft(threshold_fen=5000, units_total=200, title="Now 200"), if_match=live.headers["etag"]
    )
    assert (more.status_code, more.json()["units_total"]) == (200, 200)
    assert (await app.operator("POST", f"{path}/end")).json()["state"] == "ended"
    for step in ("publish", "pause", "resume", "end"):
        no = await app.operator("POST", f"{path}/{step}")
        assert (no.status_code, no.json()["code"]) == (409, "coupon.wrong_state")
    actions = [entry["action"] for entry in (await app.operator("GET", "/admin/v1/audit?limit=100")).json()["items"]]
    assert actions == [
        f"coupon_template.{one}" for one in ("end", "change", "resume", "pause", "publish", "change", "create")
    ]


async def test_a_quota_never_drops_below_what_is_given(app: RunningApp) -> None:
    template_id = await published(app)
    for user_id in ("ann", "bob"):
        await taken(app, template_id, user_id)
    version = (await app.operator("GET", f"{TEMPLATES}/{template_id}")).headers["etag"]
    no = await app.operator("PUT", f"{TEMPLATES}/{template_id}", draft(units_total=1), if_match=version)
    assert (no.status_code, no.json()["code"], no.json()["units_taken"]) == (409, "coupon.locked_field", 2)


async def test_a_template_over_its_dates_is_not_published(app: RunningApp) -> None:
    past = now() - timedelta(days=1)
    dates = {"type": "dates", "valid_from": rfc3339(past - timedelta(days=1)), "valid_until": rfc3339(past)}
    made = await app.operator("POST", TEMPLATES, draft(validity=dates))
    no = await app.operator("POST", f"{TEMPLATES}/{made.json()['template_id']}/publish")
    assert (no.status_code, no.json()["code"]) == (409, "coupon.wrong_state")


async def test_a_wrong_field_is_named(app: RunningApp) -> None:
    wrong: list[tuple[JSON, str]] = [
        ({"discount": {"type": "fixed", "off_fen": 0}}, "discount.off_fen"),
        ({"discount": {"type": "percent", "percent_off": 101}}, "discount.percent_off"),
        ({"discount": {"type": "magic"}}, "discount.type"),
        ({"discount": {"type": "fixed", "off_fen": 1, "percent_off": 1}}, "discount.percent_off"),
        ({"validity": {"type": "days", "days": 0}}, "validity.days"),
        ({"units_total": 0}, "units_total"),
        ({"units_total": 1.5}, "units_total"),
        ({"units_total": True}, "units_total"),
        ({"threshold_fen": -1}, "threshold_fen"),
        ({"skus": ["tea", "tea"]}, "skus"),
        ({"units_per_day": 101}, "units_per_day"),
        ({"issued": 5}, "issued"),
        ({"state": "published"}, "state"),
    ]
    for change, field in wrong:
        answer = await app.operator("POST", TEMPLATES, draft() | change)
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["field"] == field


async def test_stats_count_and_value_coupons(app: RunningApp) -> None:
    template_id = await published(app, max_per_shopper=5)
    coupons = [await taken(app, template_id) for _ in range(5)]
    await app.shop_tells(
        placed("o1", line(coupons[0]["coupon_id"])), paid("o2", line(coupons[1]["coupon_id"], amount_fen=2500))
    )
    voided = await app.operator("POST", f"/admin/v1/coupons/{coupons[2]['coupon_id']}/void", {"reason": "a mistake"})
    assert voided.json()["state"] == "voided"
    stats = (await app.operator("GET", f"{TEMPLATES}/{template_id}/stats")).json()
    assert {name: stats[name] for name in ("issued", "outstanding", "locked", "used", "expired", "voided")} == {
        "issued": 5,
        "outstanding": 2,
        "locked": 1,
        "used": 1,
        "expired": 0,
        "voided": 1,
    }
    assert (stats["paid_fen"], stats["outstanding_max_fen"], stats["discount_max_fen"]) == (2500, 3000, 1000)
    assert (stats["use_rate"], stats["units_left"]) == (0.2, 95)
    dry = await app.operator("POST", f"{TEMPLATES}/{template_id}/dry-run", {"user_id": "ann"})
    assert (dry.json()["would"], dry.json()["code"]) == ("refuse", "coupon.limit_reached")


async def test_operators_list_coupons_by_any_filter_and_as_a_file(app: RunningApp) -> None:
    template_id, other_id = await published(app), await published(app)
    mine = await taken(app, template_id, "ann")
    other = await taken(app, other_id, "ann")
    hers = await taken(app, template_id, "-1|cmd")
    await app.shop_tells(placed("o1", line(mine["coupon_id"])))

    async def listed(query: str) -> set[str]:
        answer = await app.operator("GET", f"/admin/v1/coupons?{query}", role=Role.VIEWER)
        assert answer.status_code == 200, answer.text
        return {one["coupon_id"] for one in answer.json()["items"]}

    every = {mine["coupon_id"], other["coupon_id"], hers["coupon_id"]}
    assert await listed("") == every
    assert await listed(f"template_id={template_id}") == {mine["coupon_id"], hers["coupon_id"]}
    assert await listed("user_id=ann") == {mine["coupon_id"], other["coupon_id"]}
    assert await listed("state=locked") == {mine["coupon_id"]}
    assert await listed(f"state=issued&template_id={template_id}&user_id=ann") == set()
    assert await listed("order_id=o1") == {mine["coupon_id"]}
    assert await listed("order_id=o1&state=used") == set()
    first = (await app.operator("GET", "/admin/v1/coupons?limit=2")).json()
    rest = (await app.operator("GET", f"/admin/v1/coupons?limit=2&cursor={first['next_cursor']}")).json()
    assert [one["coupon_id"] for one in first["items"] + rest["items"]] == sorted(every)
    file = await app.operator("GET", "/admin/v1/coupons", accept="text/csv")
    assert file.headers["content-type"].startswith("text/csv")
    lines = file.text.splitlines()
    assert lines[0].removeprefix("\ufeff").startswith("coupon_id,template_id,user_id,state")
    assert len(lines) == 4
    # Nothing that a spreadsheet would run.
    assert ",'-1|cmd," in file.text


async def test_printed_codes_over_http(app: RunningApp) -> None:
    template_id = await published(app, claimable=False)
    path = f"{TEMPLATES}/{template_id}/code-batches"
    file = await app.operator("POST", path, {"name": "Flyer", "codes": 3}, accept="text/csv")
    assert (file.status_code, file.headers["cache-control"]) == (201, "no-store")
    codes = file.text.removeprefix("\ufeff").split()[1:]
    made = await app.operator("POST", path, {"name": "Poster", "codes": 2}, idempotency_key="k")
    again = await app.operator("POST", path, {"name": "Poster", "codes": 2}, idempotency_key="k")
    assert (len(made.json()["codes"]), again.json()["codes"]) == (2, [])
    redeemed = await app.shopper("ann", "POST", "/v1/coupons/redeem", {"code": codes[0]})
    assert (redeemed.status_code, redeemed.json()["state"]) == (200, "issued")
    answers = [
        await app.shopper("eve", "POST", "/v1/coupons/redeem", {"code": code})
        for code in [codes[0], "nonsense", "0" * 16]
    ]
    shown = {tuple((k, v) for k, v in answer.json().items() if k != "request_id") for answer in answers}
    assert len(shown) == 1
    assert answers[0].json()["code"] == "coupon.code_not_found"
    (poster, flyer) = (await app.operator("GET", path)).json()["items"]
    assert (poster["name"], flyer["redeemed"], "codes" in flyer) == ("Poster", 1, True)
    revoked = await app.operator("POST", f"/admin/v1/code-batches/{poster['batch_id']}/revoke", {"reason": "misprint"})
    assert revoked.json()["revoked_at"] is not None
    tries = [await app.shopper("mallory", "POST", "/v1/coupons/redeem", {"code": f"{number}"}) for number in range(12)]
    assert {answer.status_code for answer in tries} == {404, 429}
    assert int(tries[-1].headers["retry-after"]) >= 1


async def test_a_cart_is_bounded(app: RunningApp) -> None:
    one = {"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 1}
    for lines in ([], [one] * 2, [one | {"line_id": str(number)} for number in range(101)], [one | {"amount_fen": -1}]):
        assert (await app.shopper("ann", "POST", "/v1/coupons/quote", {"lines": lines})).status_code == 400


async def test_a_voided_coupon_is_audited(app: RunningApp) -> None:
    coupon = await taken(app, await published(app))
    path = f"/admin/v1/coupons/{coupon['coupon_id']}/void"
    assert (await app.operator("POST", path, {"reason": "fraud"}, role=Role.VIEWER)).status_code == 403
    for _ in range(2):
        assert (await app.operator("POST", path, {"reason": "fraud"})).json()["state"] == "voided"
    (entry,) = (await app.operator("GET", "/admin/v1/audit?action=coupon.void")).json()["items"]
    assert (entry["reason"], entry["before"]["state"], entry["after"]["state"]) == ("fraud", "issued", "voided")
    unknown = await app.operator("POST", f"/admin/v1/coupons/{new_id(now())}/void", {"reason": "fraud"})
    assert unknown.status_code == 404
