"""Whom campaigns are for, held at every door through which a shopper is admitted: over HTTP, on real stores."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec import Struct

from growth.embedded import EmbeddedServers
from growth.kit.campaign import store as campaigns
from growth.kit.campaign.audience import Asked, AudienceKeeper, Audiences, Candidate
from growth.kit.campaign.model import CampaignKind
from growth.mechanics.flash_sale.board import SaleBoard
from growth.mechanics.task.service import Tasks
from growth.plumbing.outbox import outbox
from growth.plumbing.postgres.database import Reader
from growth.tables import reactions
from growth.vocabulary.actors import Role
from growth.vocabulary.audience import Condition, Listed, Newcomers
from growth.vocabulary.clock import now, rfc3339
from growth.vocabulary.ids import new_id
from tests import servers as test_servers
from tests.app import JSON, RunningApp, running_app
from tests.kit.carried_over import carried_over
from tests.kit.invariants import violations
from tests.kit.test_campaign import TRIED, WARNED, asked, draft_of
from tests.shop.order import telling

pytestmark = pytest.mark.anyio

CROWD = 64
NOT_ADMITTED = "campaign.not_in_audience"
BY_PATH = {tried.kind.path: tried for tried in TRIED}


class Told(Struct, frozen=True):
    """What became of somebody who asked to be admitted."""

    admitted: bool
    code: str | None = None
    condition: str | None = None


class Entrance(Struct, frozen=True):
    """One way in."""

    name: str
    path: str
    ask: Callable[[RunningApp, str, str], Awaitable[Told]]
    """Asks for a shopper, of a campaign."""
    changes: JSON = {}
    """Of the plain draft."""
    page: Callable[[RunningApp, str, str], Awaitable[bool | None]] | None = None
    """Whether the shopper's own page says that they are admitted."""


async def plain(app: RunningApp, user_id: str, method: str, path: str, body: object = None) -> Told:
    answer = await app.shopper(user_id, method, path, body)
    if answer.is_success:
        return Told(admitted=True)
    problem = answer.json()
    return Told(admitted=False, code=problem["code"], condition=problem.get("condition"))


async def claim(app: RunningApp, sale_id: str, user_id: str) -> Told:
    return await plain(app, user_id, "POST", f"/v1/flash-sales/{sale_id}/claims", {})


async def claim_in_a_round(app: RunningApp, series_id: str, user_id: str) -> Told:
    """Nobody waits for the round to open: the dry run goes there."""
    rounds = (await asked(app, "POST", f"/admin/v1/flash-sale-series/{series_id}/dry-run", {}))["rounds"]
    first = rounds[0]
    tried = {"user_id": user_id, "now": first["opens_at"]}
    told = await asked(app, "POST", f"/admin/v1/flash-sales/{first['sales'][0]['sale_id']}/dry-run", tried)
    condition = next((one for one in ("list", "newcomers") if f"meet {one}" in told["because"]), None)
    return Told(told["would"] == "win", told["code"], condition)


async def open_team(app: RunningApp, group_buy_id: str, user_id: str) -> Told:
    return await plain(app, user_id, "POST", f"/v1/group-buys/{group_buy_id}/teams", {})


async def join_team(app: RunningApp, group_buy_id: str, user_id: str) -> Told:
    """A team whose leader was admitted before the campaign asked for anything."""
    teams = (await asked(app, "GET", f"/admin/v1/teams?group_buy_id={group_buy_id}&limit=1"))["items"]
    return await plain(app, user_id, "POST", f"/v1/teams/{teams[0]['team_id']}/seats", {})


async def take(app: RunningApp, template_id: str, user_id: str) -> Told:
    return await plain(app, user_id, "POST", f"/v1/coupon-templates/{template_id}/coupons")


async def redeem(app: RunningApp, template_id: str, user_id: str) -> Told:
    batches = f"/admin/v1/coupon-templates/{template_id}/code-batches"
    made = await asked(app, "POST", batches, {"name": user_id[:30], "codes": 1})
    return await plain(app, user_id, "POST", "/v1/coupons/redeem", {"code": made["codes"][0]})


async def check_in(app: RunningApp, _program_id: str, user_id: str) -> Told:
    return await plain(app, user_id, "POST", "/v1/check-ins")


async def invite(app: RunningApp, _program_id: str, user_id: str) -> Told:
    code = (await app.shopper(user_id, "GET", "/v1/referral")).json()["code"]
    return await plain(app, a_name("friend"), "PUT", "/v1/referral/inviter", {"code": code})


async def view(app: RunningApp, task_id: str, user_id: str) -> Told:
    event = {"id": new_id(now()), "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": "tea"}}
    answer = await app.shopper(user_id, "POST", "/v1/events", {"events": [event]})
    assert answer.json()["accepted"] == 1, answer.text
    await count(app)
    return await counted(app, task_id, user_id)


async def count(app: RunningApp) -> None:
    """Let tasks hear of what was told."""
    for subscription in reactions(app.growth):
        if subscription.name.startswith("task."):
            while await outbox.deliver(app.growth.database, subscription):
                pass


async def counted(app: RunningApp, task_id: str, user_id: str) -> Told:
    return Told((await own_task(app, task_id, user_id))["done"] == 1)


async def own_task(app: RunningApp, task_id: str, user_id: str) -> JSON:
    app.growth.of(Tasks)._board.forget()
    items = (await app.shopper(user_id, "GET", "/v1/tasks")).json()["items"]
    found: JSON = next(one for one in items if one["task_id"] == task_id)
    return found


async def task_page(app: RunningApp, task_id: str, user_id: str) -> bool:
    return bool((await own_task(app, task_id, user_id))["is_admitted"])


async def coupon_page(app: RunningApp, template_id: str, user_id: str) -> bool:
    shown = (await app.shopper(user_id, "GET", f"/v1/coupon-templates/{template_id}")).json()
    assert shown["can_take"] is shown["is_admitted"]
    return bool(shown["is_admitted"])


async def calendar(app: RunningApp, _program_id: str, user_id: str) -> bool:
    return bool((await app.shopper(user_id, "GET", "/v1/check-ins")).json()["is_admitted"])


async def inviter_page(app: RunningApp, _program_id: str, user_id: str) -> bool:
    return bool((await app.shopper(user_id, "GET", "/v1/referral")).json()["program"]["is_admitted"])


ENTRANCES = [
    Entrance("claim", "flash-sales", claim, {"max_per_shopper": 2}),
    Entrance("draw", "flash-sales", claim, {"protection": {"draw_seconds": 3600}}),
    Entrance("round", "flash-sale-series", claim_in_a_round, {"plan_ahead_days": 8}),
    Entrance("open", "group-buys", open_team),
    Entrance("join", "group-buys", join_team, {"team_size": 100}),
    Entrance("take", "coupon-templates", take, {"claimable": True, "units_total": 500}, coupon_page),
    Entrance("code", "coupon-templates", redeem, {"units_total": 500}),
    Entrance("check-in", "check-in-programs", check_in, {}, calendar),
    Entrance("invite", "referral-programs", invite, {}, inviter_page),
    Entrance("task", "tasks", view, {"count": 2}, task_page),
]
every_entrance = pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda entrance: entrance.name)


@pytest.fixture(scope="module")
async def house(servers: EmbeddedServers) -> AsyncIterator[RunningApp]:
    servers.ensure_running()
    async with test_servers.database(servers) as dsn, running_app(dsn, await test_servers.empty_valkey(servers)) as app:
        yield app
        assert not await violations(app.growth.database)


@pytest.fixture
async def app(house: RunningApp) -> RunningApp:
    """The house, without a live campaign: some kinds take only one at a time."""
    for tried in TRIED:
        for state in ("published", "paused"):
            for one in (await asked(house, "GET", f"{tried.url}?state={state}&limit=100"))["items"]:
                if one["state"] != "ended":
                    await house.operator("POST", f"{tried.url}/{one[tried.kind.id_field]}/end", role=Role.ADMIN)
    return house


def a_name(prefix: str) -> str:
    return f"{prefix}-{new_id(now())[-12:]}"


def only(*user_ids: str) -> list[JSON]:
    return [{"type": "list", "user_ids": list(user_ids)}]


NEWCOMERS: list[JSON] = [{"type": "newcomers"}]


async def published(app: RunningApp, entrance: Entrance, audience: list[JSON]) -> str:
    """A live campaign for these. Of teams there is one, opened while the campaign was for everybody."""
    tried = BY_PATH[entrance.path]
    changes: dict[str, Any] = dict(entrance.changes)
    draft = draft_of(tried, app, **changes)
    first = [] if entrance.name == "join" else audience
    made = await asked(app, "POST", tried.url, draft | {"audience": first})
    made_id = str(made[tried.kind.id_field])
    await asked(app, "POST", f"{tried.url}/{made_id}/publish{WARNED}")
    if entrance.name == "join":
        assert (await open_team(app, made_id, a_name("leader"))).admitted
        await edited(app, entrance, made_id, audience)
    return made_id


async def edited(app: RunningApp, entrance: Entrance, made_id: str, audience: list[JSON]) -> JSON:
    """Say anew whom a live campaign is for."""
    tried = BY_PATH[entrance.path]
    one = f"{tried.url}/{made_id}"
    live = await asked(app, "GET", one)
    draft = {name: live[name] for name in tried.kind.draft.__struct_fields__ if name in live}
    query = f"{one}{WARNED}"
    return await asked(app, "PUT", query, draft | {"audience": audience}, if_match=f'"{live["version"]}"')


async def bought(app: RunningApp, user_id: str) -> None:
    paid = telling.paid(f"order-{user_id}", telling.line(units=1, amount_fen=900), user_id=user_id, paid_fen=900)
    assert {one["outcome"] for one in await app.shop_tells(paid)} == {"applied"}


async def boards_hear(app: RunningApp) -> None:
    """What processes remember of campaigns for a moment is read anew."""
    await app.growth.of(SaleBoard).refresh_catalogue()


# --- sentences --------------------------------------------------------------------------------------------------------


def test_every_kind_of_the_house_has_an_entrance_here() -> None:
    assert {one.path for one in ENTRANCES} == set(BY_PATH)


async def test_every_condition_has_one_room_that_keeps_its_facts_and_every_kind_is_declared(app: RunningApp) -> None:
    keepers = [keeper.condition for room in app.growth.rooms for keeper in room.audience_keepers]
    assert {*keepers, Listed} == set(get_args(Condition))
    assert len(keepers) == len(set(keepers))
    assert {kind.path for room in app.growth.rooms for kind in room.campaigns} == set(BY_PATH)


@every_entrance
async def test_only_whom_a_campaign_is_for_is_admitted(app: RunningApp, entrance: Entrance) -> None:
    ann, bob = a_name("ann"), a_name("bob")
    made_id = await published(app, entrance, only(ann))
    assert (await entrance.ask(app, made_id, ann)).admitted
    outside = await entrance.ask(app, made_id, bob)
    told = (None, None) if entrance.name == "task" else (NOT_ADMITTED, "list")
    assert outside == Told(False, *told)
    if entrance.page is not None:
        assert [await entrance.page(app, made_id, one) for one in (bob, a_name("carl"))] == [False, False]
    await edited(app, entrance, made_id, [])
    await boards_hear(app)
    if entrance.name != "round":
        assert (await entrance.ask(app, made_id, bob)).admitted, "a live campaign may be opened to everybody"
    else:
        assert not (await entrance.ask(app, made_id, bob)).admitted, "rounds keep what they were planned with"


@every_entrance
async def test_newcomers_are_those_who_never_bought(app: RunningApp, entrance: Entrance) -> None:
    fresh, buyer = a_name("fresh"), a_name("buyer")
    await bought(app, buyer)
    made_id = await published(app, entrance, NEWCOMERS)
    if entrance.page is not None:
        assert [await entrance.page(app, made_id, one) for one in (fresh, buyer)] == [True, False]
    assert (await entrance.ask(app, made_id, fresh)).admitted
    told = (None, None) if entrance.name == "task" else (NOT_ADMITTED, "newcomers")
    assert await entrance.ask(app, made_id, buyer) == Told(False, *told)


@every_entrance
async def test_without_the_guard_on_audiences_everybody_is_admitted(
    app: RunningApp, entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_id = await published(app, entrance, only("nobody"))

    async def nobody(*_args: object) -> dict[Any, Any]:
        return {}

    monkeypatch.setattr(Audiences, "outside", nobody)
    assert (await entrance.ask(app, made_id, a_name("bob"))).admitted


@every_entrance
async def test_a_campaign_for_everybody_asks_nobody_about_anybody(
    app: RunningApp, entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_id = await published(app, entrance, [])

    async def fail(_self: Audiences, _reader: Reader, asked: Any) -> dict[Any, Any]:
        # On a page of tasks stand those of other tests too, by their ids.
        others = {key for key in asked if entrance.name == "task" and isinstance(key, str) and key != made_id}
        assert not any(one.audience for key, one in asked.items() if key not in others)
        return {}

    monkeypatch.setattr(Audiences, "outside", fail)
    assert (await entrance.ask(app, made_id, a_name("ann"))).admitted


@every_entrance
async def test_64_at_once_are_told_apart_with_a_few_questions(
    app: RunningApp, entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = [a_name(f"crowd-{number}") for number in range(CROWD)]
    admitted = set(crowd[::2])
    made_id = await published(app, entrance, [*only(*admitted), *NEWCOMERS])
    questions: list[int] = []
    outside = Audiences.outside

    async def noted(self: Audiences, reader: Reader, asked: Any) -> dict[Any, Any]:
        questions.append(len(asked))
        return await outside(self, reader, asked)

    monkeypatch.setattr(Audiences, "outside", noted)
    answers = await asyncio.gather(*[entrance.ask(app, made_id, one) for one in crowd])
    if entrance.name == "task":
        # Of what was told at once some is heard only when all of it is committed.
        await count(app)
        answers = [await counted(app, made_id, one) for one in crowd]
    assert {one for one, told in zip(crowd, answers, strict=True) if told.admitted} == admitted
    if entrance.name in {"claim", "draw", "open", "join", "take", "check-in"}:
        assert len(questions) < CROWD, "concurrent asks share their questions"


@every_entrance
async def test_a_list_follows_ids_that_are_merged_and_forgets_those_that_are_erased(
    app: RunningApp, entrance: Entrance
) -> None:
    old, survivor, gone = a_name("old"), a_name("survivor"), a_name("gone")
    made_id = await published(app, entrance, only(old, gone))
    url = f"{BY_PATH[entrance.path].url}/{made_id}"
    merged = {"into": survivor, "reason": "one person"}
    await asked(app, "POST", f"/admin/v1/shoppers/{old}/merge", merged)
    known = await asked(app, "GET", f"/admin/v1/shoppers/{gone}")
    assert made_id in known["rooms"]["audiences"]
    erased = await app.operator("DELETE", f"/admin/v1/shoppers/{gone}?reason=asked", role=Role.ADMIN)
    assert erased.status_code == 200, erased.text
    assert (await asked(app, "GET", url))["audience"] == only(survivor)
    await boards_hear(app)
    assert (await entrance.ask(app, made_id, survivor)).admitted
    again = await edited(app, entrance, made_id, only(old, survivor, gone))
    assert again["audience"] == only(survivor), "a draft that names former ids is written as of today"


@every_entrance
async def test_nobody_is_whom_an_empty_list_is_for(app: RunningApp, entrance: Entrance) -> None:
    made_id = await published(app, entrance, only())
    assert not (await entrance.ask(app, made_id, a_name("ann"))).admitted


@pytest.mark.parametrize("path", sorted(BY_PATH.keys() - {"flash-sale-series"}))
async def test_a_dry_run_says_which_condition_is_not_met(app: RunningApp, path: str) -> None:
    # That of a series is of its rounds, and asks about no shopper.
    entrance = next(one for one in ENTRANCES if one.path == path)
    ann, bob = a_name("ann"), a_name("bob")
    made_id = await published(app, entrance, only(ann))
    body: JSON = {"user_id": bob}
    if path == "tasks":
        body |= {"event_type": "product.viewed", "data": {"sku": "tea"}}
    if path == "referral-programs":
        code = (await app.shopper(bob, "GET", "/v1/referral")).json()["code"]
        body = {"user_id": a_name("friend"), "code": code}
    told = await asked(app, "POST", f"{BY_PATH[path].url}/{made_id}/dry-run", body)
    assert told["code"] == ("not_in_audience" if path == "tasks" else NOT_ADMITTED)
    assert "does not meet list" in told["because"]


@pytest.mark.parametrize("path", sorted(BY_PATH))
async def test_a_price_by_list_is_published_once_its_warning_is_read(app: RunningApp, path: str) -> None:
    tried = BY_PATH[path]
    found = {}
    for name, audience in (("list", only("ann")), ("newcomers", NEWCOMERS)):
        told = await asked(app, "POST", f"{tried.url}/check", draft_of(tried, app, audience=audience))
        found[name] = [one["severity"] for one in told["findings"] if one["rule"] == "price.discrimination"]
    prices = path in {"flash-sales", "flash-sale-series", "group-buys"}
    assert found == {"list": ["warn"] if prices else [], "newcomers": []}
    rules = (await asked(app, "GET", "/admin/v1/compliance-rules"))["items"]
    assert "price.discrimination" in {one["code"] for one in rules}


async def test_pages_for_everybody_say_whom_a_price_is_for_and_name_nobody(app: RunningApp) -> None:
    for entrance in (ENTRANCES[0], ENTRANCES[3]):
        made_id = await published(app, entrance, [*only("ann"), *NEWCOMERS])
        await boards_hear(app)
        shown = await app.shopper("bob", "GET", f"/v1/{entrance.path}/{made_id}")
        assert shown.json()["audience"] == ["list", "newcomers"]
        assert "ann" not in shown.text


async def test_a_newcomers_own_first_order_counts_for_a_task_and_the_second_does_not(app: RunningApp) -> None:
    tried, who = BY_PATH["tasks"], a_name("fresh")
    draft = draft_of(tried, app, event_type="shop.order_paid", count=3, audience=NEWCOMERS)
    task_id = (await asked(app, "POST", tried.url, draft))["task_id"]
    await asked(app, "POST", f"{tried.url}/{task_id}/publish{WARNED}")
    for number in range(2):
        line = telling.line(units=1, amount_fen=900)
        paid = telling.paid(f"{who}-{number}", line, user_id=who, paid_fen=900)
        paid["data"]["paid_at"] = rfc3339(now())
        await app.shop_tells(paid)
    for subscription in reactions(app.growth):
        if subscription.name.startswith("task."):
            while await outbox.deliver(app.growth.database, subscription):
                pass
    assert (await own_task(app, task_id, who))["done"] == 1


async def test_a_make_up_is_for_whom_the_program_is_for(app: RunningApp) -> None:
    made_id = await published(app, ENTRANCES[7], only("ann"))
    day = (await app.shopper("bob", "GET", "/v1/check-ins")).json()["today"]
    refused = await plain(app, "bob", "POST", "/v1/check-ins/make-ups", {"day": day})
    assert (refused.code, refused.condition) == (NOT_ADMITTED, "list")
    await edited(app, ENTRANCES[7], made_id, [])
    assert (await plain(app, "bob", "POST", "/v1/check-ins/make-ups", {"day": day})).code != NOT_ADMITTED


async def test_bounds_of_an_audience_are_told_by_field(app: RunningApp) -> None:
    tried = BY_PATH["tasks"]
    for audience in ([NEWCOMERS[0]] * 6, only(*map(str, range(1001))), [{"type": "moon"}], [{"type": "list"}]):
        answer = await app.operator("POST", f"{tried.url}/check", draft_of(tried, app, audience=audience))
        assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid")
        assert answer.json()["errors"][0]["field"].startswith("audience")


class Aged(Struct, frozen=True, tag="aged"):
    """A condition of a room to come."""

    years: int


async def test_a_room_adds_a_condition_by_declaring_who_keeps_its_facts(app: RunningApp) -> None:
    ages = {"ann": 30, "bob": 10}

    async def are_aged(_reader: Reader, questions: Sequence[Asked]) -> list[bool]:
        return [ages[one.user_id] >= one.condition.years for one in questions]

    audiences = Audiences([AudienceKeeper(Aged, are_aged)])
    both: Any = [Aged(18), Listed(user_ids=["ann", "bob"])]
    everyone = {who: Candidate(both, who) for who in ages}
    assert await audiences.outside(app.growth.database, everyone) == {"bob": "aged"}
    with pytest.raises(KeyError):
        await audiences.outside(app.growth.database, {"ann": Candidate([Newcomers()], "ann")})


def of_before(kind: CampaignKind[Any, Any], campaign_id: str) -> str:
    """The statement that writes a draft as the release before did, which knew of no audience."""
    assert kind.recipes is not None
    draft = kind.recipes(now(), ZoneInfo("Asia/Shanghai"))[0].draft
    stored = msgspec.json.decode(msgspec.json.encode(kind.stored(draft)))
    for holder in (stored, stored.get(kind.document)):
        if holder is not None:
            holder.pop("audience", None)
    names = ", ".join(stored)
    told = json.dumps(stored).replace("'", "''")
    return f"""
        INSERT INTO {kind.table} ({kind.id_field}, created_at, {names})
        SELECT '{campaign_id}', now(), {names}
        FROM jsonb_populate_record(NULL::{kind.table}, '{told}');
    """


async def test_campaigns_of_the_release_before_are_for_everybody(servers: EmbeddedServers, tmp_path: Path) -> None:
    ids = {path: new_id(now()) for path in BY_PATH}
    rows = "".join(of_before(BY_PATH[path].kind, campaign_id) for path, campaign_id in ids.items())
    async with (
        test_servers.database(servers, template="template1") as dsn,
        carried_over(dsn, tmp_path, before="0039", rows=rows) as database,
    ):
        for path, campaign_id in ids.items():
            kind = BY_PATH[path].kind
            assert (await campaigns.find(database, kind, [campaign_id]))[campaign_id].audience == []
            assert await campaigns.listing(database, kind, "ann") == []
