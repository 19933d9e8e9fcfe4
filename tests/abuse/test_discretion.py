"""What only admins see, and money that only admins give: tried over HTTP on every call there is."""

from datetime import timedelta
from typing import Any

import pytest

from growth.plumbing.http.discretion import discreet, discreet_url
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from tests import one_of_each as everything
from tests.app import JSON, RunningApp, running_app
from tests.one_of_each import ACCOUNT, Everything
from tests.shop.order import telling

pytestmark = pytest.mark.anyio

NAME, DEVICE, ADDRESS = "payee-name-5f1c", "device-77aa31", "203.0.113.77"
PATH_TOKEN, QUERY_TOKEN = "pathtoken9d2e", "querytoken4b8f"
SECRETS = (ACCOUNT, NAME, DEVICE, ADDRESS, PATH_TOKEN, QUERY_TOKEN)
MONEY = {"type": "commission", "amount_fen": 10_000_000}
POINTS = {"type": "points", "points": 1}


async def planted(app: RunningApp) -> Everything:
    """One of everything, and in every field of that kind a text that is nowhere else."""
    there = Everything(app, "ann", "bob")
    await there.put()
    await app.shopper("ann", "PUT", "/v1/payee", {"kind": "alipay", "account": ACCOUNT, "name": NAME})
    for user_id in ("ann", "cat"):
        await app.shop_tells(telling.registered(user_id, device_id=DEVICE, address=ADDRESS))
    seen = {"id": "e1", "type": "app.opened", "at": rfc3339(now()), "data": {"device": DEVICE, "address": ADDRESS}}
    await app.shopper("ann", "POST", "/v1/events", {"events": [seen]})
    url = f"/admin/v1/webhooks/{there.ids['endpoint_id']}"
    hook = {"url": f"http://127.0.0.1:9/{PATH_TOKEN}?token={QUERY_TOKEN}", "event_types": ["*"]}
    changed = await app.operator("PUT", url, hook, role=Role.ADMIN, if_match='"1"')
    assert changed.status_code == 200, changed.text
    done = await app.operator(
        "POST", f"/admin/v1/withdrawals/{there.ids['withdrawal_id']}/approve", {}, role=Role.ADMIN
    )
    assert done.status_code in {200, 400}, done.text
    return there


async def answers(app: RunningApp, there: Everything, role: Role) -> dict[str, str]:
    """What an operator of this role reads at every admin path, as JSON and as a file."""
    document = (await app.client.get("/openapi.json")).json()
    found: dict[str, str] = {}
    for path, operations in document["paths"].items():
        if path.startswith("/admin/") and "get" in operations:
            for accept in ("application/json", "text/csv"):
                answer = await app.operator("GET", there.url(path), role=role, accept=accept)
                assert answer.status_code in {200, 400, 403, 404, 406}, (path, answer.text)
                found[f"{path} {accept}"] = answer.text
    return found


async def test_no_account_device_address_or_token_is_seen_by_a_viewer_or_an_editor(
    postgres_dsn: str, redis_url: str
) -> None:
    async with running_app(postgres_dsn, redis_url, **everything.ENVIRONMENT) as app:
        there = await planted(app)
        for role in (Role.VIEWER, Role.EDITOR):
            told = await answers(app, there, role)
            assert len(told) >= 60
            assert [(path, secret) for path, text in told.items() for secret in SECRETS if secret in text] == []
        # Each of them is there to be seen, and an admin sees it.
        told = await answers(app, there, Role.ADMIN)
        assert {secret for text in told.values() for secret in SECRETS if secret in text} == set(SECRETS)


def test_whose_a_url_is_can_be_seen_and_nothing_behind_it() -> None:
    shown = {
        "https://shop.example/hooks/T0/secret?token=x#y": "https://shop.example/***",
        "https://user:pass@shop.example:8443/a": "https://shop.example:8443/***",
        "https://shop.example?token=x": "https://shop.example/***",
        "https://shop.example/": "https://shop.example/",
        "https://shop.example": "https://shop.example",
        "no url": "***",
    }
    assert {url: discreet_url(url, Role.EDITOR) for url in shown} == shown
    assert discreet_url("https://shop.example/a?b", Role.ADMIN) == "https://shop.example/a?b"


def test_what_is_hidden_is_hidden_however_deep_it_lies() -> None:
    deep = {"a": [{"payee": {"account": "1", "name": "2"}, "address": None}, {"url": "https://x/y", "device": "d"}]}
    hidden = {
        "a": [{"payee": {"account": "***", "name": "***"}, "address": None}, {"url": "https://x/***", "device": "***"}]
    }
    assert discreet(deep, Role.VIEWER) == hidden
    assert discreet(deep, Role.ADMIN) == deep


def task(reward: JSON) -> JSON:
    opens_at = now()
    return {
        "title": "Look",
        "event_type": "product.viewed",
        "reward": [reward],
        "opens_at": rfc3339(opens_at),
        "closes_at": rfc3339(opens_at + timedelta(days=300)),
    }


def program(reward: JSON) -> JSON:
    return {"title": "Daily", "from_day": "2199-01-01", "rewards": [[POINTS], [reward]]}


def milestone(reward: JSON) -> JSON:
    return {"title": "Daily", "from_day": "2199-01-01", "milestones": [{"days": 3, "rewards": [reward]}]}


@pytest.mark.parametrize(
    ("room", "name", "draft"),
    [
        ("tasks", "task_id", task),
        ("check-in-programs", "program_id", program),
        ("check-in-programs", "program_id", milestone),
    ],
    ids=["task", "check-in day", "check-in milestone"],
)
async def test_no_editor_lets_a_campaign_give_money(
    postgres_dsn: str, redis_url: str, room: str, name: str, draft: Any
) -> None:
    async with running_app(postgres_dsn, redis_url) as app:

        async def does(
            method: str, path: str, body: Any = None, role: Role = Role.EDITOR, **headers: str
        ) -> tuple[int, Any]:
            answer = await app.operator(method, f"/admin/v1/{room}{path}", body, role=role, **headers)
            return answer.status_code, answer.json()

        async def is_refused(method: str, path: str, body: Any = None, **headers: str) -> None:
            status, told = await does(method, path, body, Role.EDITOR, **headers)
            assert (status, told["code"], told["needed"]) == (403, "auth.role_too_low", "admin"), told

        # A draft is free; what makes it give money is not.
        status, made = await does("POST", "", draft(MONEY))
        assert status == 201, made
        one = f"/{made[name]}"
        await is_refused("POST", f"{one}/publish")
        assert (await does("POST", f"{one}/publish", role=Role.ADMIN))[0] == 200
        # Nor may it be changed: neither what it gives nor for what.
        version = (await does("GET", one))[1]["version"]
        await is_refused("PUT", one, draft(MONEY) | {"title": "Other"}, if_match=f'"{version}"')
        await is_refused("PUT", one, draft(POINTS), if_match=f'"{version}"')
        # To stop it is free, to let it go on is not.
        assert (await does("POST", f"{one}/pause"))[0] == 200
        await is_refused("POST", f"{one}/resume")
        assert (await does("POST", f"{one}/resume", role=Role.ADMIN))[0] == 200
        assert (await does("POST", f"{one}/end"))[0] == 200
        # By the way round: published for points, then changed.
        status, made = await does("POST", "", draft(POINTS) | {"title": "Second"})
        one = f"/{made[name]}"
        assert (await does("POST", f"{one}/publish"))[0] == 200
        version = (await does("GET", one))[1]["version"]
        await is_refused("PUT", one, draft(MONEY), if_match=f'"{version}"')


@pytest.mark.parametrize(
    "rule", [{"type": "percent", "basis_points": 5000}, {"type": "fixed", "amount_fen": 100_000_000}]
)
async def test_no_editor_lets_orders_of_friends_earn_money(postgres_dsn: str, redis_url: str, rule: JSON) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        path = "/admin/v1/referral-programs"
        draft = {"title": "Friends", "level_1": rule}
        made = await app.operator("POST", path, draft)
        assert made.status_code == 201, made.text
        one = f"{path}/{made.json()['program_id']}"
        publish = f"{one}/publish?accept_warnings=true"
        refused = await app.operator("POST", publish)
        assert (refused.status_code, refused.json()["code"]) == (403, "auth.role_too_low")
        published = await app.operator("POST", publish, role=Role.ADMIN)
        assert published.status_code == 200, published.text
        version = f'"{published.json()["version"]}"'
        refused = await app.operator("PUT", f"{one}?accept_warnings=true", draft, if_match=version)
        assert refused.status_code == 403
        assert (await app.operator("POST", f"{one}/pause")).status_code == 200
        assert (await app.operator("POST", f"{one}/resume")).status_code == 403
        assert (await app.operator("POST", f"{one}/end")).status_code == 200


async def test_no_editor_puts_money_into_the_pack_for_newcomers(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        path = "/admin/v1/new-shopper-pack"

        async def puts(reward: JSON, role: Role) -> Any:
            version = (await app.operator("GET", path)).json()["pack"]["version"]
            return await app.operator(
                "PUT", path, {"enabled": True, "rewards": [reward]}, role=role, if_match=f'"{version}"'
            )

        assert (await puts(POINTS, Role.EDITOR)).status_code == 200
        refused = await puts(MONEY, Role.EDITOR)
        assert (refused.status_code, refused.json()["code"]) == (403, "auth.role_too_low")
        assert (await puts(MONEY, Role.ADMIN)).status_code == 200
        assert (await puts(POINTS, Role.EDITOR)).status_code == 403


async def test_a_referral_program_gives_no_money_as_a_reward_at_all(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        for field in ("inviter_rewards", "invitee_rewards"):
            draft = {"title": "Invite", field: [MONEY]}
            for role in (Role.EDITOR, Role.ADMIN):
                answer = await app.operator("POST", "/admin/v1/referral-programs", draft, role=role)
                assert answer.status_code == 400, answer.text
