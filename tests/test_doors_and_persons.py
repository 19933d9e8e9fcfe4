"""An id changes hands, and whoever comes under it is known at every door: hooks, readers, pages, re-sent requests."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from growth.demo import ROOMS
from growth.plumbing.person.memory import People
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now, rfc3339
from growth.vocabulary.ids import is_alias
from tests.app import ENVIRONMENT, JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.test_shoppers import event, listeners_catch_up

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        act = Act(Operator("demo", Role.ADMIN), now(), reason="demo")
        for room in ROOMS:
            await room.put(app.growth, act)
        yield app
        assert await violations(app.growth.database) == []


async def merge(app: RunningApp, old: str, new: str) -> None:
    body = {"into": new, "reason": "one person"}
    told = await app.operator("POST", f"/admin/v1/shoppers/{old}/merge", body, role=Role.ADMIN)
    assert told.status_code == 200, told.text


async def erase(app: RunningApp, who: str) -> JSON:
    told = await app.operator("DELETE", f"/admin/v1/shoppers/{who}?reason=asked", role=Role.ADMIN)
    assert told.status_code == 200, told.text
    answer: JSON = told.json()
    return answer


def paid(who: str, order: str, at: str | None = None, **line: object) -> JSON:
    lines = [{"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 5000} | line]
    return {"order_id": order, "user_id": who, "paid_at": at or rfc3339(now()), "paid_fen": 5000, "lines": lines}


def placed(who: str, order: str, at: str | None = None) -> JSON:
    told = paid(who, order)
    return {"order_id": order, "user_id": who, "placed_at": at or rfc3339(now()), "lines": told["lines"]}


def ago(seconds: float) -> str:
    return rfc3339(now() - timedelta(seconds=seconds))


async def owner(app: RunningApp, order: str) -> str | None:
    found: str | None = await app.growth.database.fetchval("SELECT user_id FROM shop.orders WHERE order_id = $1", order)
    return found


async def points(app: RunningApp, who: str) -> int:
    told = (await app.shopper(who, "GET", "/v1/points")).json()
    return int(told["points"])


async def gift(app: RunningApp, who: str, key: str, amount: int = 100) -> tuple[int, JSON]:
    body = {"reward": {"type": "points", "points": amount}, "reason": "a gift"}
    told = await app.operator("POST", f"/admin/v1/shoppers/{who}/grants", body, role=Role.ADMIN, idempotency_key=key)
    return told.status_code, told.json()


# --- hooks ------------------------------------------------------------------------------------------------------------


async def test_an_order_placed_by_a_guest_is_paid_by_whoever_the_guest_is_now(app: RunningApp) -> None:
    await app.shop_tells(event("order.placed", "1", placed("guest", "o1")))
    await merge(app, "guest", "user")
    (told,) = await app.shop_tells(event("order.paid", "1", paid("guest", "o1")))
    assert (told["outcome"], told["code"]) == ("applied", "")
    assert await owner(app, "o1") == "user"
    (again,) = await app.shop_tells(event("order.paid", "2", paid("user", "o1", at=None)))
    assert again["outcome"] in {"ignored", "rejected"}
    (fresh,) = await app.shop_tells(event("order.paid", "3", paid("guest", "o2")))
    assert fresh["outcome"] == "applied"
    assert await owner(app, "o2") == "user"


async def test_a_fact_told_again_word_for_word_after_a_merge_is_answered_as_at_first(app: RunningApp) -> None:
    assert (await gift(app, "guest", "k"))[0] == 201
    spent = {"spend_id": "s1", "user_id": "guest", "points": 30}
    hook = event("points.spent", "1", spent)
    order = event("order.paid", "1", paid("guest", "o1"))
    assert [one["outcome"] for one in await app.shop_tells(hook, order)] == ["applied", "applied"]
    await merge(app, "guest", "user")
    assert [one["outcome"] for one in await app.shop_tells(hook, order)] == ["duplicate", "duplicate"]
    others = [event("points.spent", "2", spent), event("order.paid", "2", order["data"])]
    assert [one["outcome"] for one in await app.shop_tells(*others)] == ["applied", "ignored"]
    (stranger,) = await app.shop_tells(event("points.spent", "1", spent | {"user_id": "stranger"}))
    assert (stranger["outcome"], stranger["code"]) == ("rejected", "shop.other_content")
    assert await points(app, "user") == 70


async def test_an_order_placed_before_the_erasure_is_paid_under_its_alias_and_nothing_is_given(app: RunningApp) -> None:
    code = (await app.shopper("inviter", "GET", "/v1/referral")).json()["code"]
    assert (await app.shopper("gone", "PUT", "/v1/referral/inviter", {"code": code})).status_code == 200
    await app.shop_tells(event("order.placed", "1", placed("gone", "o1")))
    alias = (await erase(app, "gone"))["alias"]
    (told,) = await app.shop_tells(event("order.paid", "1", paid("gone", "o1")))
    assert (told["outcome"], told["code"]) == ("applied", "shop.erased")
    assert await owner(app, "o1") == alias
    await listeners_catch_up(app)
    assert await app.growth.database.fetchval("SELECT count(*) FROM referral.commissions") == 0
    (received,) = await app.shop_tells(event("order.received", "1", {"order_id": "o1"}))
    assert received["outcome"] == "applied"


async def test_an_unknown_order_of_before_the_erasure_is_dropped_unless_stock_hangs_on_it(app: RunningApp) -> None:
    await app.shop_tells(event("order.paid", "0", paid("gone", "o0")))
    before = ago(60)
    await erase(app, "gone")
    plain = event("order.paid", "1", paid("gone", "o1", at=before))
    (told,) = await app.shop_tells(plain)
    assert (told["outcome"], told["code"]) == ("ignored", "shop.erased")
    assert await owner(app, "o1") is None
    held = paid("gone", "o2", at=before, claim_id="01234567-0123-7123-8123-0123456789ab")
    (told,) = await app.shop_tells(event("order.paid", "2", held))
    assert told["outcome"] in {"rejected", "refund_required"}
    assert is_alias(await owner(app, "o2"))
    (told,) = await app.shop_tells(event("shopper.registered", "1", {"user_id": "gone", "registered_at": before}))
    assert (told["outcome"], told["code"]) == ("ignored", "shop.erased")
    (told,) = await app.shop_tells(event("points.spent", "1", {"spend_id": "s", "user_id": "gone", "points": 1}))
    assert (told["outcome"], told["code"]) == ("ignored", "shop.erased")
    known = await app.operator("GET", "/admin/v1/shoppers/gone")
    assert known.json()["rooms"]["shop"]["orders"] == []


async def test_a_spending_of_an_erased_life_is_not_rejected_when_it_is_told_again_of_the_new_one(
    app: RunningApp,
) -> None:
    assert (await gift(app, "gone", "k"))[0] == 201
    spent = {"spend_id": "s1", "user_id": "gone", "points": 30}
    (told,) = await app.shop_tells(event("points.spent", "1", spent))
    assert told["outcome"] == "applied"
    await erase(app, "gone")
    # The id is back.
    await app.shop_tells(event("order.paid", "1", paid("gone", "o1", at=ago(-1))))
    assert (await gift(app, "gone", "k2"))[0] == 201
    (told,) = await app.shop_tells(event("points.spent", "2", spent))
    assert (told["outcome"], told["code"]) == ("ignored", "shop.erased")
    (told,) = await app.shop_tells(event("points.spent", "3", {**spent, "spend_id": "s2"}))
    assert told["outcome"] == "applied"
    (told,) = await app.shop_tells(event("points.spent", "4", {**spent, "user_id": "stranger"}))
    assert (told["outcome"], told["code"]) == ("rejected", "points.other_content")


async def test_an_order_of_after_the_erasure_is_a_new_persons(app: RunningApp) -> None:
    await app.shop_tells(event("order.paid", "0", paid("gone", "o0")))
    await erase(app, "gone")
    assert (await app.shopper("gone", "GET", "/v1/points")).status_code in {200, 401}
    (told,) = await app.shop_tells(event("order.paid", "1", paid("gone", "o1", at=ago(-1))))
    assert (told["outcome"], told["code"]) == ("applied", "")
    assert await owner(app, "o1") == "gone"
    assert is_alias(await owner(app, "o0"))
    # The old order is still the alias'.
    (told,) = await app.shop_tells(
        event(
            "order.refunded",
            "1",
            {"order_id": "o0", "refund_id": "r", "lines": [{"line_id": "1", "units": 1, "amount_fen": 5000}]},
        )
    )
    assert told["outcome"] == "applied"


# --- readers ----------------------------------------------------------------------------------------------------------


async def test_events_on_their_way_are_the_survivors(app: RunningApp) -> None:
    registered = {"user_id": "guest", "registered_at": rfc3339(now())}
    await app.shop_tells(event("shopper.registered", "1", registered))
    did = {"id": "viewed", "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": "tea"}}
    await app.shopper("guest", "POST", "/v1/events", {"events": [did]})
    await merge(app, "guest", "user")
    await listeners_catch_up(app)
    for table in ("retention.shoppers", "granting.grants", "task.progress", "ledger.accounts"):
        column = "owner" if table == "ledger.accounts" else "user_id"
        assert await app.growth.database.fetchval(f"SELECT count(*) FROM {table} WHERE {column} = 'guest'") == 0, table
    assert await app.growth.database.fetchval("SELECT count(*) FROM retention.shoppers WHERE user_id = 'user'") == 1


async def test_events_on_their_way_of_an_erased_shopper_are_nobodys(app: RunningApp) -> None:
    await app.shop_tells(event("shopper.registered", "1", {"user_id": "gone", "registered_at": rfc3339(now())}))
    await app.shop_tells(event("order.paid", "1", paid("gone", "o1")))
    await erase(app, "gone")
    await listeners_catch_up(app)
    for table in ("retention.shoppers", "granting.grants", "pack.recipients"):
        rows = await app.growth.database.fetch(f"SELECT user_id FROM {table}")
        assert [row["user_id"] for row in rows if row["user_id"] == "gone" or is_alias(row["user_id"])] == [], table


# --- pages, and requests that are sent again --------------------------------------------------------------------------


async def test_operators_find_a_former_id_on_every_page(app: RunningApp) -> None:
    assert (await gift(app, "guest", "k"))[0] == 201
    await merge(app, "guest", "user")
    pages = ["/admin/v1/grants?user_id=guest", "/admin/v1/shoppers/guest/ledger/points"]
    for page in pages:
        told = await app.operator("GET", page)
        assert told.status_code == 200, told.text
        assert len(told.json()["items"]) == 1, page
    status, made = await gift(app, "guest", "k2")
    assert (status, made["user_id"]) == (201, "user")
    await erase(app, "user")
    status, refused = await gift(app, "user", "k3")
    assert (status, refused["code"]) == (404, "shopper.erased")


@pytest.mark.parametrize("survivor", ["user", "us/er", "用户%2F+&=#?"])
@pytest.mark.parametrize("former", ["g/1", "g%2F1", "a b+c&d=e#f?", "顾客", "g/merge", "merge", "../admins", "é"])
async def test_operators_find_a_former_id_whatever_its_characters(app: RunningApp, former: str, survivor: str) -> None:
    at = f"/admin/v1/shoppers/{quote(former, safe='')}"
    body = {"reward": {"type": "points", "points": 7}, "reason": "a gift"}
    made = await app.operator("POST", f"{at}/grants", body, role=Role.ADMIN, idempotency_key="k")
    assert (made.status_code, made.json()["user_id"]) == (201, former), made.text
    told = await app.operator("POST", f"{at}/merge", {"into": survivor, "reason": "one person"}, role=Role.ADMIN)
    assert (told.status_code, told.json()) == (200, {"user_id": survivor}), told.text
    for page in (f"{at}/ledger/points", f"/admin/v1/grants?user_id={quote(former, safe='')}"):
        answer = await app.operator("GET", page)
        assert answer.status_code == 200, (page, answer.text)
        assert len(answer.json()["items"]) == 1, page
    known = await app.operator("GET", at)
    assert (known.status_code, known.json()["user_id"]) == (200, survivor), known.text


async def test_what_was_asked_before_a_merge_is_answered_after_it_as_at_first(app: RunningApp) -> None:
    (template, *_) = (await app.shopper("guest", "GET", "/v1/coupon-templates")).json()["items"]
    path = f"/v1/coupon-templates/{template['template_id']}/coupons"
    first = await app.shopper("guest", "POST", path, idempotency_key="one")
    assert first.status_code == 201
    assert (await gift(app, "guest", "k"))[0] == 201
    await merge(app, "guest", "user")
    again = await app.shopper("guest", "POST", path, idempotency_key="one")
    assert (again.status_code, again.json()["coupon_id"]) == (201, first.json()["coupon_id"])
    assert again.headers["idempotent-replayed"] == "true"
    assert (await gift(app, "guest", "k"))[1]["grant_id"] == (await gift(app, "user", "k"))[1]["grant_id"]
    assert await points(app, "user") == 100


async def test_a_claim_that_is_sent_again_right_after_a_merge_is_not_told_that_the_sale_is_over(
    app: RunningApp,
) -> None:
    (sale, *_) = (await app.shopper("guest", "GET", "/v1/flash-sales?state=open")).json()["items"]
    path = f"/v1/flash-sales/{sale['sale_id']}/claims"
    first = await app.shopper("guest", "POST", path, {"units": 1}, idempotency_key="one")
    assert first.status_code == 201, first.text
    uses = {"sku": sale["sku"], "claim_id": first.json()["claim_id"]}
    await app.shop_tells(event("order.paid", "1", paid("guest", "o1", **uses)))
    ended = f"/admin/v1/flash-sales/{sale['sale_id']}/end"
    assert (await app.operator("POST", ended, {"reason": "over"})).status_code == 200
    # The board knows who has won, and turns the others away.
    assert (await app.shopper("guest", "POST", path, {"units": 1}, idempotency_key="one")).status_code == 201
    assert (await app.shopper("other", "POST", path, {"units": 1})).status_code == 409
    await merge(app, "guest", "user")
    again = await app.shopper("guest", "POST", path, {"units": 1}, idempotency_key="one")
    assert (again.status_code, again.json().get("claim_id")) == (201, first.json()["claim_id"])


async def test_erasing_forgets_nobody_elses_answers(app: RunningApp) -> None:
    for who in ("gr", "grants", "a", "anna", "POST"):
        assert (await gift(app, who, "k"))[0] == 201
    for who in ("gr", "a", "POST"):
        await erase(app, who)
    assert (await gift(app, "grants", "k"))[0] == 201
    assert (await gift(app, "anna", "k"))[0] == 201
    assert [await points(app, who) for who in ("grants", "anna")] == [100, 100]


# --- what is given once -----------------------------------------------------------------------------------------------


async def test_erasing_and_coming_back_is_no_second_welcome(app: RunningApp) -> None:
    pack = (await app.operator("GET", "/admin/v1/new-shopper-pack")).json()["pack"]
    draft = {"enabled": True, "rewards": [{"type": "points", "points": 5}]}
    made = await app.operator(
        "PUT", "/admin/v1/new-shopper-pack", draft, role=Role.ADMIN, if_match=f'"{pack["version"]}"'
    )
    assert made.status_code == 200, made.text
    await app.shop_tells(event("shopper.registered", "1", {"user_id": "twice", "registered_at": rfc3339(now())}))
    code = (await app.shopper("inviter", "GET", "/v1/referral")).json()["code"]
    assert (await app.shopper("twice", "PUT", "/v1/referral/inviter", {"code": code})).status_code == 200
    await listeners_catch_up(app)
    assert await points(app, "twice") == 5
    assert (await erase(app, "twice"))["remembered_until"] > rfc3339(now())
    back = {"user_id": "twice", "registered_at": ago(-1)}
    (told,) = await app.shop_tells(event("shopper.registered", "2", back))
    assert (told["outcome"], told["code"]) == ("applied", "")
    await listeners_catch_up(app)
    assert await app.growth.database.fetchval("SELECT count(*) FROM granting.grants WHERE user_id = 'twice'") == 0
    # Signed in anew a moment later: tokens tell whole seconds.
    token = app.growth.identity.sign("twice", now=now() + timedelta(seconds=2), lifetime_seconds=9_999)
    headers = {"authorization": f"Bearer {token}"}
    again = await app.client.put("/v1/referral/inviter", json={"code": code}, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "referral.not_new")


# --- words that are not the shop's ------------------------------------------------------------------------------------

RESERVED = ["house/x", "house/", "house/shop", "house/referral"]
LIKE_AN_ALIAS = "erased:" + "0" * 24


@pytest.mark.parametrize("who", [*RESERVED, LIKE_AN_ALIAS])
async def test_nobody_is_called_like_the_house_or_like_an_alias(app: RunningApp, who: str) -> None:
    at = rfc3339(now())
    spent = event("points.spent", "1", {"spend_id": "s", "user_id": who, "points": 1_000_000})
    registered = event("shopper.registered", "1", {"user_id": who, "registered_at": at})
    did = event("product.viewed", "1", {"user_id": who, "sku": "tea"})
    orders = [event("order.paid", "1", paid(who, "o1")), event("order.placed", "1", placed(who, "o1"))]
    for told in await app.shop_tells(spent, registered, did, *orders):
        assert told["outcome"] == "rejected", told
        assert told["code"] in {"request.invalid", "event.bad_data"}
        assert "user_id" in told["detail"]
    token = jwt.encode(
        {"sub": who, "iat": now(), "exp": now() + timedelta(hours=1)}, ENVIRONMENT["GROWTH_JWT_SECRET"], "HS256"
    )
    refused = await app.client.get("/v1/points", headers={"authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["code"]) == (401, "auth.token_invalid")
    body = {"into": who, "reason": "one person"}
    refused = await app.operator("POST", "/admin/v1/shoppers/guest/merge", body, role=Role.ADMIN)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "into")


@pytest.mark.parametrize("who", RESERVED)
async def test_operators_give_the_house_nothing(app: RunningApp, who: str) -> None:
    status, refused = await gift(app, quote(who, safe=""), "k")
    assert (status, refused["errors"][0]["field"]) == (400, "user_id")


@pytest.mark.parametrize(
    "who", ["house", "House/x", "a house/x", "erased:", "erased:" + "0" * 23, "erased:" + "g" * 24]
)
async def test_names_that_only_resemble_them_are_anybodys(app: RunningApp, who: str) -> None:
    status, made = await gift(app, quote(who, safe=""), "k")
    assert (status, made["user_id"]) == (201, who)
    assert await points(app, who) == 100
    spent = event("points.spent", "1", {"spend_id": "s", "user_id": who, "points": 1_000_000})
    (told,) = await app.shop_tells(spent)
    assert (told["outcome"], told["code"]) == ("rejected", "points.insufficient")


async def test_what_was_erased_is_made_nobodys(app: RunningApp) -> None:
    assert (await gift(app, "gone", "k"))[0] == 201
    alias = (await erase(app, "gone"))["alias"]
    body = {"into": "thief", "reason": "one person"}
    refused = await app.operator("POST", f"/admin/v1/shoppers/{alias}/merge", body, role=Role.ADMIN)
    assert (refused.status_code, refused.json()["code"]) == (404, "shopper.erased")
    assert await points(app, "thief") == 0


async def test_a_token_of_before_an_erasure_is_refused_whoever_the_id_is_by_now(app: RunningApp) -> None:
    before = {
        name: app.growth.identity.sign(name, now=now() - timedelta(minutes=9), lifetime_seconds=9_999) for name in "ab"
    }

    async def statuses() -> list[int]:
        told = [await app.client.get("/v1/points", headers={"authorization": f"Bearer {before[one]}"}) for one in "ab"]
        return [one.status_code for one in told]

    assert await statuses() == [200, 200]
    for one in "ab":
        await erase(app, one)
    assert await statuses() == [401, 401]
    # A telephone number changes hands: one comes back as somebody new, one becomes another's.
    (told,) = await app.shop_tells(event("order.paid", "1", paid("a", "o1", at=ago(-5))))
    assert (told["outcome"], told["code"]) == ("applied", "")
    assert (await gift(app, "a", "k"))[0] == 201
    await merge(app, "b", "bob")
    assert await statuses() == [401, 401]
    for one in "ab":
        after = app.growth.identity.sign(one, now=now() + timedelta(seconds=9), lifetime_seconds=9_999)
        answer = await app.client.get("/v1/points", headers={"authorization": f"Bearer {after}"})
        assert answer.status_code == 200


async def test_lists_find_a_former_id_however_it_is_spelt_and_whatever_the_parameter(app: RunningApp) -> None:
    composed, decomposed = "\u00e9lan", "e\u0301lan"
    assert (await gift(app, quote(composed), "k"))[0] == 201
    await merge(app, quote(composed), "user")
    for spelt in (composed, decomposed):
        told = await app.operator("GET", f"/admin/v1/grants?user_id={quote(spelt)}")
        assert len(told.json()["items"]) == 1
    code = (await app.shopper("user", "GET", "/v1/referral")).json()["code"]
    assert (await app.shopper("friend", "PUT", "/v1/referral/inviter", {"code": code})).status_code == 200
    await listeners_catch_up(app)
    asked = []
    for who in ("user", composed, decomposed):
        for name in ("inviter", "inviter_id"):
            answer = await app.operator("GET", f"/admin/v1/retention?{name}={quote(who)}")
            assert answer.status_code == 200, answer.text
            asked.append(answer.json()["cohorts"])
    assert "1" in str(asked[0]), asked
    assert all(one == asked[0] for one in asked)


async def test_who_has_shown_no_key_makes_nobody_look_an_id_up(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await merge(app, "guest", "user")
    await app.growth.database.people.refresh(app.growth.database)
    looked: list[Any] = []
    standings = People.standings

    async def counted(people: People, reads: Any, user_ids: Any) -> Any:
        looked.append(user_ids)
        return await standings(people, reads, user_ids)

    monkeypatch.setattr(People, "standings", counted)
    urls = ["/admin/v1/grants?user_id=guest", "/admin/v1/shoppers/guest/ledger/points"]
    urls.append("/admin/v1/claims?" + "&".join(["user_id=guest"] * 200))
    for url in urls:
        for headers in ({}, {"authorization": "Bearer gop_" + "x" * 43}, app.shopper_headers("user")):
            assert (await app.client.get(url, headers=headers)).status_code == 401
    assert looked == []
    for url in urls:
        await app.operator("GET", url)
    assert len(looked) == len(urls), "one look for an id, however often it is named"
