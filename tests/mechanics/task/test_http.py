"""Tasks over HTTP: what operators decide, what rules say to it, and what shoppers see."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.task.board import MAX_AGE_SECONDS
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
        assert not await violations(app.growth.database)


def draft(**changes: Any) -> JSON:
    opens_at = now() - timedelta(minutes=10)
    return {
        "title": "Look at three teas",
        "description": "Ten points for looking at three different teas a day.",
        "event_type": "product.viewed",
        "distinct_by": "sku",
        "count": 3,
        "period": "daily",
        "reward": [{"type": "points", "points": 10}],
        "opens_at": rfc3339(opens_at),
        "closes_at": rfc3339(opens_at + timedelta(days=30)),
    } | changes


async def created(app: RunningApp, **changes: Any) -> JSON:
    made = await app.operator("POST", "/admin/v1/tasks", draft(**changes))
    assert made.status_code == 201, made.text
    task: JSON = made.json()
    return task


async def published(app: RunningApp, **changes: Any) -> str:
    task_id: str = (await created(app, **changes))["task_id"]
    step = await app.operator("POST", f"/admin/v1/tasks/{task_id}/publish")
    assert (step.status_code, step.json().get("state")) == (200, "published"), step.text
    app.growth.of(Tasks)._board.forget()
    return task_id


async def react(app: RunningApp) -> None:
    """Let the room hear of what was told, as a worker does."""
    for subscription in reactions(app.growth):
        if subscription.name.startswith("task."):
            while await outbox.deliver(app.growth.database, subscription):
                pass


async def views(app: RunningApp, user_id: str, *skus: str) -> None:
    events = [
        {"id": new_id(now()), "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": sku}} for sku in skus
    ]
    answer = await app.shopper(user_id, "POST", "/v1/events", {"events": events})
    assert answer.json()["accepted"] == len(skus), answer.text
    await react(app)


async def mine(app: RunningApp, user_id: str) -> list[JSON]:
    answer = await app.shopper(user_id, "GET", "/v1/tasks")
    assert answer.status_code == 200, answer.text
    items: list[JSON] = answer.json()["items"]
    return items


@pytest.mark.one_day
async def test_a_task_from_the_first_view_to_the_points(app: RunningApp) -> None:
    task_id = await published(app)
    (shown,) = await mine(app, "ann")
    assert (shown["task_id"], shown["done"], shown["count"], shown["state"]) == (task_id, 0, 3, "open")
    assert shown["reward"] == [{"type": "points", "points": 10, "valid_days": None}]
    await views(app, "ann", "tea", "tea", "cup")
    (shown,) = await mine(app, "ann")
    assert (shown["done"], shown["state"]) == (2, "open")
    await views(app, "ann", "pot")
    (shown,) = await mine(app, "ann")
    assert (shown["done"], shown["state"]) == (3, "rewarded")
    assert (await app.shopper("ann", "GET", "/v1/points")).json()["points"] == 10
    (others,) = await mine(app, "bob")
    assert (others["done"], others["state"]) == (0, "open")


async def test_a_first_order_and_its_refund(app: RunningApp) -> None:
    await published(
        app,
        event_type="shop.order_paid",
        filter=[{"field": "is_first_order", "equals": True}],
        distinct_by=None,
        count=1,
        period="once",
        undo_on_refund="whole",
    )
    order = telling.paid("o1", user_id="ann")
    order["data"]["paid_at"] = rfc3339(now())
    await app.shop_tells(order)
    await react(app)
    assert [one["state"] for one in await mine(app, "ann")] == ["rewarded"]
    await app.shop_tells(telling.refunded("o1", "r1", telling.of(2, 200)))
    await react(app)
    assert [(one["done"], one["state"]) for one in await mine(app, "ann")] == [(0, "open")]
    assert (await app.shopper("ann", "GET", "/v1/points")).json()["points"] == 0


async def test_paying_for_shares_is_refused_with_the_rule_named(app: RunningApp) -> None:
    made = await created(app, event_type="content.shared", title="分享有礼")
    path = f"/admin/v1/tasks/{made['task_id']}/publish"
    for suffix in ("", "?accept_warnings=true"):
        refused = await app.operator("POST", path + suffix)
        assert (refused.status_code, refused.json()["code"]) == (409, "task.not_compliant")
        findings = refused.json()["findings"]
        assert [(one["rule"], one["severity"]) for one in findings] == [
            ("share.paid", "refuse"),
            ("share.wording", "warn"),
        ]
        assert "微信小程序平台运营规范" in findings[0]["source"]
    assert await mine(app, "ann") == []


async def test_paying_for_an_invitees_visit_is_refused_and_for_a_purchase_it_is_not(app: RunningApp) -> None:
    visit = await created(app, event_type="referral.bound", distinct_by="invitee_id")
    refused = await app.operator("POST", f"/admin/v1/tasks/{visit['task_id']}/publish")
    assert [one["rule"] for one in refused.json()["findings"]] == ["share.opening_paid"]
    bought = await created(app, event_type="referral.invitee_bought", distinct_by="invitee_id")
    assert (await app.operator("POST", f"/admin/v1/tasks/{bought['task_id']}/publish")).status_code == 200


async def test_a_warning_is_to_be_accepted(app: RunningApp) -> None:
    made = await created(app, title="抽奖 tea")
    path = f"/admin/v1/tasks/{made['task_id']}/publish"
    warned = await app.operator("POST", path)
    assert (warned.status_code, [one["rule"] for one in warned.json()["findings"]]) == (409, ["share.wording"])
    assert (await app.operator("POST", f"{path}?accept_warnings=true")).json()["state"] == "published"
    stats = (await app.operator("GET", f"/admin/v1/tasks/{made['task_id']}/stats")).json()
    assert [one["rule"] for one in stats["findings"]] == ["share.wording"]


async def test_operators_read_the_rules_and_the_events(app: RunningApp) -> None:
    rules = (await app.operator("GET", "/admin/v1/compliance-rules", role=Role.VIEWER)).json()["items"]
    assert {"share.paid", "share.required", "share.opening_paid", "share.random"} <= {one["code"] for one in rules}
    events = {
        one["type"]: one
        for one in (await app.operator("GET", "/admin/v1/task-events", role=Role.VIEWER)).json()["items"]
    }
    assert events["product.viewed"] == {"type": "product.viewed", "fields": {"sku": "text"}, "can_be_undone": False}
    assert events["shop.order_paid"]["can_be_undone"]
    assert events["shop.order_paid"]["fields"]["lines.sku"] == "text"
    assert not [type_ for type_ in events if type_.startswith(("task.", "granting."))]


WRONG: list[tuple[JSON, str]] = [
    ({"event_type": "product.viewd"}, "event_type"),
    ({"event_type": "flash_sale.published"}, "event_type"),
    ({"event_type": "task.completed"}, "event_type"),
    ({"distinct_by": "colour"}, "distinct_by"),
    ({"distinct_by": "lines.sku"}, "distinct_by"),
    ({"filter": [{"field": "colour", "equals": "red"}]}, "filter[0].field"),
    ({"filter": [{"field": "sku", "equals": 1}]}, "filter[0].equals"),
    ({"filter": [{"field": "sku", "at_least": 1}]}, "filter[0].at_least"),
    ({"filter": [{"field": "sku", "in": ["tea", True]}]}, "filter[0].in"),
    ({"filter": [{"field": "sku"}]}, "filter[0]"),
    ({"filter": [{"field": "sku", "equals": "tea", "in": ["tea"]}]}, "filter[0]"),
    ({"filter": [{"field": "a.b.c", "equals": "tea"}]}, "filter[0].field"),
    ({"filter": [{"field": "sku", "equals": "tea"}] * 9}, "filter"),
    ({"undo_on_refund": "whole"}, "undo_on_refund"),
    ({"event_type": "shop.order_paid", "distinct_by": "is_first_order"}, "distinct_by"),
    ({"closes_at": "2020-01-01T00:00:00Z"}, "closes_at"),
    ({"reward": []}, "reward"),
    ({"count": 0}, "count"),
    ({"count": 1001}, "count"),
    ({"period": "hourly"}, "period"),
    ({"budget": {"max_grants": 0}}, "budget.max_grants"),
    ({"colour": "red"}, "colour"),
]


async def test_a_draft_that_cannot_be_is_refused_with_the_field_named(app: RunningApp) -> None:
    for changes, field in WRONG:
        answer = await app.operator("POST", "/admin/v1/tasks", draft(**changes))
        assert answer.status_code == 400, (changes, answer.text)
        assert answer.json()["errors"][0]["field"] == field, changes


async def test_the_life_of_a_task(app: RunningApp) -> None:
    made = await created(app)
    path = f"/admin/v1/tasks/{made['task_id']}"
    assert (await mine(app, "ann")) == []
    changed = await app.operator("PUT", path, draft(count=2), if_match='"1"')
    assert (changed.status_code, changed.json()["count"], changed.headers["etag"]) == (200, 2, '"2"')
    stale = await app.operator("PUT", path, draft(count=5), if_match='"1"')
    assert (stale.status_code, stale.json()["code"]) == (412, "task.version_mismatch")
    assert (await app.operator("POST", f"{path}/resume")).json()["code"] == "task.wrong_state"
    for step, state in (("publish", "published"), ("pause", "paused"), ("resume", "published")):
        answer = await app.operator("POST", f"{path}/{step}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    locked = await app.operator("PUT", path, draft(count=5), if_match='"5"')
    assert (locked.status_code, locked.json()["code"], locked.json()["field"]) == (409, "task.locked_field", "count")
    current = (await app.operator("GET", path)).json()
    fields = {name: current[name] for name in draft()} | {"title": "Look at two teas"}
    assert (await app.operator("PUT", path, fields, if_match='"5"')).status_code == 200
    worse = await app.operator("PUT", path, fields | {"title": "转发"}, if_match='"6"')
    assert (worse.status_code, worse.json()["code"]) == (409, "task.not_compliant")
    assert (await app.operator("POST", f"{path}/end")).json()["state"] == "ended"
    assert (await app.operator("POST", f"{path}/end")).status_code == 409
    audit = (await app.operator("GET", "/admin/v1/audit", role=Role.ADMIN)).json()["items"]
    actions = [one["action"] for one in audit if one["subject"] == made["task_id"]]
    assert actions[::-1] == [
        f"task.{step}" for step in ("create", "change", "publish", "pause", "resume", "change", "end")
    ]


async def test_a_dry_run_says_what_an_event_would_do_and_why(app: RunningApp) -> None:
    task_id = await published(app, count=2, filter=[{"field": "sku", "in": ["tea", "cup"]}])
    path = f"/admin/v1/tasks/{task_id}/dry-run"

    async def tried(**body: Any) -> tuple[str, str]:
        answer = await app.operator("POST", path, {"user_id": "ann", **body})
        assert answer.status_code == 200, answer.text
        return answer.json()["would"], answer.json()["code"]

    assert await tried(data={"sku": "tea"}) == ("count", "counts")
    assert await tried(data={"sku": "pot"}) == ("ignore", "filtered")
    assert await tried(data={}) == ("ignore", "filtered")
    assert await tried(data={"sku": "tea"}, event_type="app.opened") == ("ignore", "other_event")
    assert await tried(data={"sku": "tea"}, at=rfc3339(now() - timedelta(hours=1))) == ("ignore", "before_start")
    assert await tried(data={"sku": "tea"}, at=rfc3339(now() + timedelta(hours=1))) == ("ignore", "in_the_future")
    late = rfc3339(now() + timedelta(days=29))
    assert await tried(data={"sku": "tea"}, now=late) == ("count", "counts")
    after = rfc3339(now() + timedelta(days=31))
    assert await tried(data={"sku": "tea"}, now=after) == ("ignore", "after_end")
    await views(app, "ann", "tea")
    assert await tried(data={"sku": "tea"}) == ("ignore", "told_before")
    assert await tried(data={"sku": "cup"}) == ("reward", "counts")
    await views(app, "ann", "cup")
    assert await tried(data={"sku": "tea"}) == ("ignore", "done_before")
    await app.operator("POST", f"/admin/v1/tasks/{task_id}/pause")
    assert await tried(data={"sku": "tea"}) == ("ignore", "not_published")


async def test_the_numbers_of_a_task(app: RunningApp) -> None:
    task_id = await published(app, count=2, budget={"max_grants": 1, "per": "day"})
    await views(app, "ann", "tea", "cup")
    await views(app, "bob", "tea", "cup")
    await views(app, "cat", "tea")
    stats = (await app.operator("GET", f"/admin/v1/tasks/{task_id}/stats")).json()
    assert (stats["shoppers_open"], stats["shoppers_done"], stats["shoppers_rewarded"], stats["undone"]) == (1, 1, 1, 0)
    assert stats["budget_spent"] == {"grants": 1, "value": 10}
    assert len(stats["periods"]) == 1
    assert [one["state"] for one in await mine(app, "bob")] == ["done"]


async def test_what_is_over_is_shown_last_and_paused_is_told(app: RunningApp) -> None:
    ended, paused, open_ = [await published(app, title=title) for title in ("a", "b", "c")]
    await app.operator("POST", f"/admin/v1/tasks/{ended}/end")
    await app.operator("POST", f"/admin/v1/tasks/{paused}/pause")
    shown = await mine(app, "ann")
    assert {one["task_id"]: one["state"] for one in shown} == {ended: "ended", paused: "paused", open_: "open"}
    assert shown[-1]["task_id"] == ended
    assert all(one["period_ends_at"] <= one["closes_at"] for one in shown)


async def test_a_task_that_has_not_opened_is_not_shown(app: RunningApp) -> None:
    opens_at = now() + timedelta(hours=1)
    await published(app, opens_at=rfc3339(opens_at), closes_at=rfc3339(opens_at + timedelta(days=1)))
    assert await mine(app, "ann") == []
    assert MAX_AGE_SECONDS < 1
