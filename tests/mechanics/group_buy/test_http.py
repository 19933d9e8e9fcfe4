"""Group buys over HTTP: what shoppers, operators and the shop see."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.group_buy.team.board import MAX_AGE_SECONDS
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
    opens_at = now() - timedelta(minutes=1)
    return {
        "title": "Tea for three",
        "sku": "tea",
        "list_price_fen": 10000,
        "price_fen": 5000,
        "units_total": 300,
        "opens_at": rfc3339(opens_at),
        "closes_at": rfc3339(opens_at + timedelta(days=2)),
    } | changes


async def published(app: RunningApp, **changes: Any) -> str:
    made = await app.operator("POST", "/admin/v1/group-buys", draft(**changes))
    assert made.status_code == 201, made.text
    group_buy_id: str = made.json()["group_buy_id"]
    step = await app.operator("POST", f"/admin/v1/group-buys/{group_buy_id}/publish")
    assert step.json()["state"] == "published"
    return group_buy_id


async def opened(app: RunningApp, group_buy_id: str, user_id: str, **headers: str) -> JSON:
    answer = await app.shopper(user_id, "POST", f"/v1/group-buys/{group_buy_id}/teams", {"nickname": "张三"}, **headers)
    assert answer.status_code == 201, answer.text
    team: JSON = answer.json()
    return team


async def joined(app: RunningApp, team_id: str, user_id: str, **headers: str) -> Any:
    return await app.shopper(user_id, "POST", f"/v1/teams/{team_id}/seats", {"nickname": "Bob"}, **headers)


async def pay(app: RunningApp, user_id: str, seat: JSON) -> JSON:
    line = {
        "line_id": "1",
        "sku": "tea",
        "units": 1,
        "amount_fen": seat["price_fen"],
        "seat_id": seat["seat_id"],
    }
    (result,) = await app.shop_tells(telling.paid(f"o-{user_id}", line, user_id=user_id, paid_fen=seat["price_fen"]))
    return result


async def test_a_team_from_opening_to_complete(app: RunningApp) -> None:
    group_buy_id = await published(app)
    shown = (await app.shopper("ann", "GET", f"/v1/group-buys/{group_buy_id}")).json()
    assert (shown["state"], shown["team_size"], shown["units_left"]) == ("open", 3, 300)
    ann = await opened(app, group_buy_id, "ann")
    team_id = ann["team"]["team_id"]
    assert ann["seat"]["state"] == "held"
    assert ann["team"]["seats_held"] == 1
    seats = {"ann": ann["seat"]}
    for user_id in ("bob", "cat"):
        answer = await joined(app, team_id, user_id)
        assert answer.status_code == 201, answer.text
        seats[user_id] = answer.json()
    for user_id, seat in seats.items():
        assert (await pay(app, user_id, seat))["outcome"] == "applied"
    await asyncio.sleep(MAX_AGE_SECONDS)
    page = (await app.shopper("dan", "GET", f"/v1/teams/{team_id}")).json()
    assert (page["state"], page["seats_paid"], page["seats_held"], page["seats_missing"]) == ("complete", 3, 0, 0)
    assert page["members"][0] == {"nickname": "张*", "is_leader": True, "state": "confirmed"}
    mine = (await app.shopper("bob", "GET", f"/v1/seats/{seats['bob']['seat_id']}")).json()
    assert mine["state"] == "confirmed"


async def test_a_team_that_fails_and_is_refunded(app: RunningApp) -> None:
    group_buy_id = await published(app)
    ann = await opened(app, group_buy_id, "ann")
    await pay(app, "ann", ann["seat"])
    failed = await app.operator(
        "POST", f"/admin/v1/teams/{ann['team']['team_id']}/fail", {"reason": "out of tea"}, role=Role.EDITOR
    )
    assert (failed.status_code, failed.json()["state"]) == (200, "failed")
    (told,) = await app.shop_tells(telling.refunded("o-ann", "r1", telling.of(1, 5000)))
    assert told["outcome"] == "applied"
    mine = (await app.shopper("ann", "GET", f"/v1/seats/{ann['seat']['seat_id']}")).json()
    assert mine["state"] == "refunded"
    audit = (await app.operator("GET", "/admin/v1/audit", role=Role.ADMIN)).json()["items"]
    assert [(one["action"], one["reason"]) for one in audit[:1]] == [("group_buy.fail_team", "out of tea")]


async def test_the_page_to_share_leaks_no_ids_of_shoppers_seats_or_orders(app: RunningApp) -> None:
    group_buy_id = await published(app)
    ann = await opened(app, group_buy_id, "user-ann-secret")
    await pay(app, "user-ann-secret", ann["seat"])
    for path in (f"/v1/teams/{ann['team']['team_id']}", f"/v1/group-buys/{group_buy_id}/teams"):
        for _ in range(2):  # by the route, then by the front
            text = (await app.shopper("bob", "GET", path)).text
            assert ann["team"]["team_id"] in text
            for secret in ("secret", ann["seat"]["seat_id"], "o-user", "张三"):
                assert secret not in text


async def test_front_and_route_show_the_same_and_an_etag_saves_the_body(app: RunningApp) -> None:
    group_buy_id = await published(app)
    path = f"/v1/teams/{(await opened(app, group_buy_id, 'ann'))['team']['team_id']}"
    routed, fronted = [await app.shopper("bob", "GET", path) for _ in range(2)]
    assert routed.json() == fronted.json()
    assert routed.headers["etag"] == fronted.headers["etag"]
    again = await app.shopper("bob", "GET", path, if_none_match=fronted.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    await joined(app, path.rpartition("/")[2], "bob")
    changed = await app.shopper("bob", "GET", path, if_none_match=fronted.headers["etag"])
    assert (changed.status_code, changed.json()["seats_held"]) == (200, 2)
    assert (await app.client.get(path)).status_code == 401


@pytest.mark.parametrize("key", [None, "a-key"])
async def test_the_crowd_at_a_full_team_is_refused_from_memory_and_members_are_not(
    app: RunningApp, key: str | None
) -> None:
    group_buy_id = await published(app, team_size=2)
    team_id = (await opened(app, group_buy_id, "ann"))["team"]["team_id"]
    headers = {} if key is None else {"idempotency_key": key}
    seat = (await joined(app, team_id, "bob", idempotency_key="b")).json()
    for _ in range(3):
        refused = await joined(app, team_id, "cat", **headers)
        assert (refused.status_code, refused.json()["code"]) == (409, "group_buy.team_full")
        assert refused.json()["request_id"] == refused.headers["x-request-id"]
        await app.shopper("cat", "GET", f"/v1/teams/{team_id}")
    again = await joined(app, team_id, "bob", idempotency_key="b")
    assert (again.status_code, again.json()["seat_id"]) == (201, seat["seat_id"])
    assert again.headers["idempotent-replayed"] == "true"
    odd = await app.shopper("dan", "POST", f"/v1/teams/{team_id}/seats", {"nickname": 5})
    assert odd.status_code == 400


async def test_a_key_names_a_team_for_a_day_and_then_another(app: RunningApp) -> None:
    group_buy_id = await published(app)
    first = await opened(app, group_buy_id, "ann", idempotency_key="constant")
    left = await app.shopper("ann", "DELETE", f"/v1/seats/{first['seat']['seat_id']}")
    assert left.status_code == 200
    await app.growth.database.fetch(
        "UPDATE group_buy.seats SET held_at = held_at - interval '30 h', held_until = held_until - interval '30 h'"
    )
    second = await opened(app, group_buy_id, "ann", idempotency_key="constant")
    assert second["team"]["team_id"] != first["team"]["team_id"]
    assert second["seat"]["state"] == "held"
    assert (await opened(app, group_buy_id, "ann", idempotency_key="constant"))["seat"]["seat_id"] == (
        second["seat"]["seat_id"]
    )


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
async def test_no_name_keeps_anybody_from_a_seat(app: RunningApp, content_type: str) -> None:
    group_buy_id = await published(app)
    names = {
        r"a\u202eb": "a*",
        r"a\u200bb": "a*",
        r"\ud83d": "*",
        r"\ud83d\ude00\ud83d": "\U0001f600*",
        r"\u0000": "*",
        r"\ud83d\udc68\u200d\ud83d\udc69\u200d\ud83d\udc67": "\U0001f468\u200d\U0001f469\u200d\U0001f467*",
        "\U0001f1e8\U0001f1f3": "\U0001f1e8\U0001f1f3*",
        r"\u3164": "*",
        "": "*",
        "x" * 3_000: "x*",
    }
    opens = f"/v1/group-buys/{group_buy_id}/teams"

    async def asks(user_id: str, url: str, raw: bytes) -> JSON:
        headers = app.shopper_headers(user_id) | {"content-type": content_type}
        answer = await app.client.request("POST", url, content=raw, headers=headers)
        assert answer.status_code == 201, (raw[:40], answer.text)
        told: JSON = answer.json()
        return told

    for number, (name, shown) in enumerate(names.items()):
        raw = f'{{"nickname": "{name}"}}'.encode()
        team = (await asks(f"leader-{number}", opens, raw))["team"]
        assert team["members"][0]["nickname"] == shown
        await asks(f"member-{number}", f"/v1/teams/{team['team_id']}/seats", raw)
        page = (await app.shopper("zoe", "GET", f"/v1/teams/{team['team_id']}")).json()
        assert [member["nickname"] for member in page["members"]] == [shown, shown]
    broken = await asks("zoe", opens, b'{"nickname": "caf\xe9\xff"}')
    assert broken["team"]["members"][0]["nickname"] == "c*"


async def test_the_same_key_opens_one_team(app: RunningApp) -> None:
    group_buy_id = await published(app)
    first = await opened(app, group_buy_id, "ann", idempotency_key="k")
    again = await opened(app, group_buy_id, "ann", idempotency_key="k")
    assert again["seat"] | {"server_time": ""} == first["seat"] | {"server_time": ""}
    assert again["team"]["team_id"] == first["team"]["team_id"]
    other = await app.shopper(
        "ann", "POST", f"/v1/group-buys/{group_buy_id}/teams", {"nickname": "Zoe"}, idempotency_key="k"
    )
    assert other.status_code == 422


async def test_a_seat_is_given_back_once_and_only_by_its_shopper(app: RunningApp) -> None:
    group_buy_id = await published(app)
    ann = await opened(app, group_buy_id, "ann")
    path = f"/v1/seats/{ann['seat']['seat_id']}"
    assert (await app.shopper("eve", "GET", path)).status_code == 404
    assert (await app.shopper("eve", "DELETE", path)).status_code == 404
    for _ in range(2):
        given = await app.shopper("ann", "DELETE", path)
        assert (given.status_code, given.json()["state"]) == (200, "released")
    paid = await opened(app, group_buy_id, "ann")
    await pay(app, "ann", paid["seat"])
    kept = await app.shopper("ann", "DELETE", f"/v1/seats/{paid['seat']['seat_id']}")
    assert kept.json()["code"] == "group_buy.seat_not_held"


@pytest.mark.parametrize(
    "path", ["/v1/teams/{id}", "/v1/group-buys/{id}", "/v1/group-buys/{id}/teams", "/v1/seats/{id}"]
)
async def test_what_is_not_there_is_404(app: RunningApp, path: str) -> None:
    for _ in range(2):
        assert (await app.shopper("ann", "GET", path.format(id=new_id(now())))).status_code == 404
    assert (await app.shopper("ann", "GET", path.format(id="x" * 36))).status_code in {400, 404}


async def test_drafts_are_not_there_for_shoppers(app: RunningApp) -> None:
    group_buy_id = (await app.operator("POST", "/admin/v1/group-buys", draft())).json()["group_buy_id"]
    for path in (f"/v1/group-buys/{group_buy_id}", f"/v1/group-buys/{group_buy_id}/teams"):
        assert (await app.shopper("ann", "GET", path)).status_code == 404
    assert (await app.shopper("ann", "POST", f"/v1/group-buys/{group_buy_id}/teams", {})).status_code == 404
    assert (await app.shopper("ann", "GET", "/v1/group-buys")).json()["items"] == []


async def test_an_operators_campaign_from_draft_to_end(app: RunningApp) -> None:
    made = await app.operator("POST", "/admin/v1/group-buys", draft(), idempotency_key="k")
    again = await app.operator("POST", "/admin/v1/group-buys", draft(), idempotency_key="k")
    assert again.status_code in {201, 422}  # the same key; the draft's times may differ by a millisecond
    path = f"/admin/v1/group-buys/{made.json()['group_buy_id']}"
    assert made.headers["etag"] == '"1"'
    body = draft(title="Tea for many")
    changed = await app.operator("PUT", path, body, if_match='"1"')
    assert (changed.status_code, changed.json()["title"], changed.headers["etag"]) == (200, "Tea for many", '"2"')
    assert (await app.operator("PUT", path, body, if_match='"1"')).status_code == 412
    assert (await app.operator("PUT", path, body)).status_code == 412
    for step, state in (("publish", "published"), ("pause", "paused"), ("resume", "published"), ("end", "ended")):
        assert (await app.operator("POST", f"{path}/{step}")).json()["state"] == state
    assert (await app.operator("POST", f"{path}/publish")).json()["code"] == "group_buy.wrong_state"
    assert (await app.operator("POST", f"{path}/publish", role=Role.VIEWER)).status_code == 403
    actions = [one["action"] for one in (await app.operator("GET", "/admin/v1/audit", role=Role.ADMIN)).json()["items"]]
    assert actions == [f"group_buy.{step}" for step in ("end", "resume", "pause", "publish", "change", "create")]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"list_price_fen": 1}, "list_price_fen"),
        ({"leader_price_fen": 6000}, "leader_price_fen"),
        ({"units_total": 2}, "units_total"),
        ({"complete_at_least": 4}, "complete_at_least"),
        ({"newcomers_at_least": 4}, "newcomers_at_least"),
        ({"team_size": 1}, "team_size"),
        ({"hold_seconds": 59}, "hold_seconds"),
        ({"closes_at": "2020-01-01T00:00:00Z"}, "closes_at"),
        ({"tiers": [{"size": 3, "price_fen": 4000}]}, "tiers[0].price_fen"),
        ({"tiers": [{"size": 2, "price_fen": 5000}]}, "tiers"),
        ({"tiers": [{"size": 2, "price_fen": 5000}, {"size": 3, "price_fen": 5000}]}, "tiers[1].price_fen"),
        ({"tiers": [{"size": 3, "price_fen": 5000}, {"size": 3, "price_fen": 4000}]}, "tiers[1].size"),
        ({"taken": 5}, "taken"),
    ],
)
async def test_a_draft_that_does_not_fit_together_names_the_field(app: RunningApp, changes: JSON, field: str) -> None:
    refused = await app.operator("POST", "/admin/v1/group-buys", draft(**changes))
    assert refused.status_code == 400
    assert field in [error["field"] for error in refused.json()["errors"]]


async def test_prices_and_sizes_are_fixed_once_open(app: RunningApp) -> None:
    body = draft()
    made = (await app.operator("POST", "/admin/v1/group-buys", body)).json()
    path = f"/admin/v1/group-buys/{made['group_buy_id']}"
    await app.operator("POST", f"{path}/publish")
    edits: tuple[JSON, ...] = ({"price_fen": 4000}, {"team_size": 4}, {"complete_at_least": 2}, {"tiers": []})
    for changes in edits:
        answer = await app.operator("PUT", path, body | changes, if_match='"2"')
        if changes == {"tiers": []}:
            assert answer.status_code == 200  # nothing changes
        else:
            assert answer.json()["code"] == "group_buy.locked_field"


async def test_a_dry_run_says_what_and_why_and_does_nothing(app: RunningApp) -> None:
    group_buy_id = await published(app)
    path = f"/admin/v1/group-buys/{group_buy_id}/dry-run"
    would = (await app.operator("POST", path, {"user_id": "ann"}, role=Role.VIEWER)).json()
    assert (would["would"], would["code"]) == ("open", None)
    team_id = (await opened(app, group_buy_id, "ann"))["team"]["team_id"]
    would = (await app.operator("POST", path, {"user_id": "ann", "team_id": team_id})).json()
    assert (would["would"], would["code"]) == ("refuse", "group_buy.already_in_team")
    would = (await app.operator("POST", path, {"user_id": "bob", "team_id": team_id})).json()
    assert would["would"] == "join"
    late = rfc3339(now() + timedelta(days=3))
    would = (await app.operator("POST", path, {"user_id": "bob", "now": late})).json()
    assert would["code"] == "group_buy.ended"
    assert (await app.operator("GET", f"/admin/v1/group-buys/{group_buy_id}/stats")).json()["taken"] == 1


async def test_operators_list_teams_and_seats_and_take_them_as_csv(app: RunningApp) -> None:
    group_buy_id = await published(app)
    ann = await opened(app, group_buy_id, "@ann|cmd")
    await opened(app, group_buy_id, "bob")
    teams = (await app.operator("GET", f"/admin/v1/teams?group_buy_id={group_buy_id}&limit=1")).json()
    assert len(teams["items"]) == 1
    more = (await app.operator("GET", f"/admin/v1/teams?limit=1&cursor={teams['next_cursor']}")).json()
    assert (len(more["items"]), more["next_cursor"]) == (1, None)
    seats = (await app.operator("GET", "/admin/v1/seats?user_id=bob&state=held")).json()["items"]
    assert [seat["user_id"] for seat in seats] == ["bob"]
    csv = await app.operator("GET", f"/admin/v1/seats?team_id={ann['team']['team_id']}", accept="text/csv")
    assert csv.headers["content-type"].startswith("text/csv")
    assert "'@ann|cmd" in csv.text
    assert (await app.operator("GET", "/admin/v1/teams", accept="text/csv")).text.count("\n") == 3


async def test_stats_tell_teams_seats_and_money(app: RunningApp) -> None:
    group_buy_id = await published(app)
    ann, bob = await opened(app, group_buy_id, "ann"), await opened(app, group_buy_id, "bob")
    await pay(app, "ann", ann["seat"])
    await pay(app, "bob", bob["seat"])
    team = ann["team"]["team_id"]
    assert (await app.operator("POST", f"/admin/v1/teams/{team}/complete", {"reason": "kind"})).status_code == 200
    team = bob["team"]["team_id"]
    assert (await app.operator("POST", f"/admin/v1/teams/{team}/fail", {"reason": "no"})).status_code == 200
    stats = (await app.operator("GET", f"/admin/v1/group-buys/{group_buy_id}/stats", role=Role.VIEWER)).json()
    assert stats["complete_by_operator"] == {"teams": 1, "paid_seats": 1}
    assert stats["failed_by_operator"]["teams"] == 1
    assert stats["seats_refund_due"] == {"seats": 1, "paid_fen": 5000}
    assert stats["completion_rate"] == 0.5
    assert (await app.operator("POST", f"/admin/v1/teams/{team}/fail", {})).status_code == 400


async def test_lists_go_on_where_they_stopped(app: RunningApp) -> None:
    ids = {await published(app, sku=f"tea{n}") for n in range(3)}
    first = (await app.shopper("ann", "GET", "/v1/group-buys?limit=2&state=open")).json()
    rest = (await app.shopper("ann", "GET", f"/v1/group-buys?limit=2&cursor={first['next_cursor']}")).json()
    assert {one["group_buy_id"] for one in first["items"] + rest["items"]} == ids
    group_buy_id = ids.pop()
    teams = {(await opened(app, group_buy_id, f"u{n}"))["team"]["team_id"] for n in range(3)}
    path = f"/v1/group-buys/{group_buy_id}/teams?limit=2"
    first = (await app.shopper("ann", "GET", path)).json()
    rest = (await app.shopper("ann", "GET", f"{path}&cursor={first['next_cursor']}")).json()
    assert {one["team_id"] for one in first["items"] + rest["items"]} == teams
    assert (await app.shopper("ann", "GET", f"{path}&cursor=forged")).status_code == 400
