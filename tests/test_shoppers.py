"""One shopper over all rooms: known, erased without a trace, and two ids made one."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from growth.demo import ROOMS
from growth.plumbing.outbox import outbox
from growth.plumbing.person.erasure import Erasures
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.periodic import Held, Turn
from growth.tables import reactions
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now, rfc3339
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations

pytestmark = pytest.mark.anyio

WHO = "zoe-4711"
DEVICE = "device-of-zoe"


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        act = Act(Operator("demo", Role.ADMIN), now(), reason="demo")
        for room in ROOMS:
            await room.put(app.growth, act)
        yield app
        assert await violations(app.growth.database) == []


def event(type_: str, number: str, data: JSON) -> JSON:
    return {
        "specversion": "1.0",
        "id": f"{type_}-{number}",
        "source": "shop",
        "type": type_,
        "time": rfc3339(now()),
        "data": data,
    }


async def lives(app: RunningApp, who: str, device: str, number: str = "1") -> None:
    """Do a bit of everything, and have it end."""
    registered = {
        "user_id": who,
        "registered_at": rfc3339(now()),
        "source": "poster",
        "device_id": device,
        "address": "203.0.113.9",
    }
    await app.shop_tells(event("shopper.registered", number, registered))
    assert (await app.shopper(who, "POST", "/v1/check-ins", idempotency_key="1")).status_code == 201
    (sale, *_) = (await app.shopper(who, "GET", "/v1/flash-sales?state=open")).json()["items"]
    claim = await app.shopper(
        who, "POST", f"/v1/flash-sales/{sale['sale_id']}/claims", {"units": 1}, idempotency_key="2"
    )
    assert claim.status_code == 201, claim.text
    await app.shopper(who, "DELETE", f"/v1/claims/{claim.json()['claim_id']}")
    did = {"id": "viewed", "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": "tea"}}
    assert (await app.shopper(who, "POST", "/v1/events", {"events": [did]})).status_code == 202
    inviter = (await app.shopper("inviter", "GET", "/v1/referral")).json()
    bound = await app.shopper(who, "PUT", "/v1/referral/inviter", {"code": inviter["code"]})
    assert bound.status_code == 200, bound.text
    line = {"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 5000}
    paid = {"order_id": f"order-{number}", "user_id": who, "paid_at": rfc3339(now()), "paid_fen": 5000, "lines": [line]}
    (told,) = await app.shop_tells(event("order.paid", number, paid))
    assert told["outcome"] == "applied", told
    given = {"reward": {"type": "points", "points": 50}, "reason": f"a gift for {device}"}
    made = await app.operator(
        "POST", f"/admin/v1/shoppers/{who}/grants", given, role=Role.ADMIN, idempotency_key=number
    )
    assert made.status_code == 201, made.text
    # Keys of grants have the shopper's id in them.
    given = (await app.operator("GET", f"/admin/v1/grants?user_id={who}")).json()["items"]
    tapped = next(grant["grant_id"] for grant in given if grant["reason"].startswith("checkin."))
    why = {"reason": "by mistake"}
    taken = await app.operator("POST", f"/admin/v1/grants/{tapped}/revoke", why, role=Role.ADMIN)
    assert taken.status_code == 200, taken.text


async def listeners_catch_up(app: RunningApp) -> None:
    for _ in range(50):
        passed = [await outbox.deliver(app.growth.database, one) for one in reactions(app.growth)]
        if not any(passed):
            return
        await asyncio.sleep(0)
    raise AssertionError("listeners go on and on")


async def places(app: RunningApp, text: str) -> list[str]:
    """Return every column of every table of every room that has `text` in it."""
    database = app.growth.database
    tables = await database.fetch(
        """
        SELECT format('%I.%I', namespace.nspname, class.relname) AS name, array_agg(attribute.attname::text) AS columns
        FROM pg_catalog.pg_class AS class
        JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
        JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = class.oid
        WHERE class.relkind = 'r'
          AND attribute.attnum > 0
          AND NOT attribute.attisdropped
          AND namespace.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        GROUP BY 1
        """
    )
    found = []
    for name, columns in tables:
        has_it = ", ".join(f'bool_or(strpos("{column}"::text, $1) > 0)' for column in columns)
        (row,) = await database.fetch(f"SELECT {has_it} FROM {name}", text)
        found += [f"{name}.{column}" for column, has in zip(columns, row, strict=True) if has]
    return sorted(found)


async def samples(app: RunningApp, place: str) -> list[str]:
    table, _, column = place.rpartition(".")
    rows = await app.growth.database.fetch(
        f'SELECT "{column}"::text AS text FROM {table} WHERE strpos("{column}"::text, $1) > 0 LIMIT 3', WHO
    )
    return [row["text"] for row in rows]


async def sweep(app: RunningApp) -> None:
    database = app.growth.database
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO plumbing.leases (name, holder, fence, expires_at)"
            " VALUES ('t', 't', 1, now() + INTERVAL '9 seconds')"
            " ON CONFLICT (name) DO UPDATE SET expires_at = excluded.expires_at"
        )
    turn = Turn(database, "t", Held("t", 1, now()))
    while await app.growth.of(Erasures).sweep(turn):
        pass


async def rooms_of(app: RunningApp, who: str) -> dict[str, Any]:
    known = await app.operator("GET", f"/admin/v1/shoppers/{who}", role=Role.ADMIN)
    assert known.status_code == 200, known.text
    rooms: dict[str, Any] = known.json()["rooms"]
    return rooms


async def test_all_that_is_known_is_told(app: RunningApp) -> None:
    await lives(app, WHO, DEVICE)
    await listeners_catch_up(app)
    rooms = await rooms_of(app, WHO)
    assert rooms["shop"]["device_id"] == DEVICE
    assert [order["order_id"] for order in rooms["shop"]["orders"]] == ["order-1"]
    assert rooms["flash_sale"]["claims"][0]["state"] == "released"
    assert {grant["reason"] for grant in rooms["granting"]["grants"]} >= {"granting.operator"}
    points = next(one for one in rooms["ledger"]["accounts"] if one["currency"] == "points")
    assert points["posted"] >= 50


async def test_an_erased_shopper_is_in_no_column_of_no_table(app: RunningApp) -> None:
    await lives(app, WHO, DEVICE)
    await listeners_catch_up(app)
    assert len(await places(app, WHO)) > 10
    answer = await app.operator("DELETE", f"/admin/v1/shoppers/{WHO}?reason=asked+by+mail", role=Role.ADMIN)
    assert answer.status_code == 200, answer.text
    alias = answer.json()["alias"]
    assert re.fullmatch(r"erased:[0-9a-f]{24}", alias)
    await sweep(app)
    await listeners_catch_up(app)
    assert [(place, await samples(app, place)) for place in await places(app, WHO)] == []
    assert await places(app, DEVICE) == ["plumbing.audit.reason"], "what an operator wrote is the operator's word"
    rooms = await rooms_of(app, WHO)
    assert rooms["shop"] == {"registered_at": None, "source": None, "device_id": None, "address": None, "orders": []}
    assert (await rooms_of(app, alias))["ledger"]["accounts"][0]["posted"] >= 50


@pytest.mark.parametrize("who", ['zoe"the"tea', "zoe\\tea", "zoe/\u8336", 'zoe",{"x":"'])
async def test_an_erased_shopper_is_found_however_json_spells_the_id(app: RunningApp, who: str) -> None:
    (sale, *_) = (await app.shopper(who, "GET", "/v1/flash-sales?state=open")).json()["items"]
    claim = await app.shopper(who, "POST", f"/v1/flash-sales/{sale['sale_id']}/claims", {"units": 1})
    assert claim.status_code == 201, claim.text
    await app.shopper(who, "DELETE", f"/v1/claims/{claim.json()['claim_id']}")
    await listeners_catch_up(app)
    spelt = json.dumps(who, ensure_ascii=False)[1:-1]
    assert len(await places(app, spelt)) > 0
    gone = await app.operator("DELETE", f"/admin/v1/shoppers/{quote(who, safe='')}?reason=asked", role=Role.ADMIN)
    assert gone.status_code == 200, gone.text
    await sweep(app)
    assert await places(app, spelt) == await places(app, who) == []


async def test_erasing_waits_until_nothing_is_under_way(app: RunningApp) -> None:
    (sale, *_) = (await app.shopper(WHO, "GET", "/v1/flash-sales?state=open")).json()["items"]
    await app.shopper(WHO, "POST", f"/v1/flash-sales/{sale['sale_id']}/claims", {"units": 1}, idempotency_key="1")
    answer = await app.operator("DELETE", f"/admin/v1/shoppers/{WHO}?reason=asked", role=Role.ADMIN)
    assert (answer.status_code, answer.json()["code"]) == (409, "flash_sale.shopper_busy")


async def test_two_ids_of_one_person_become_one_with_nothing_lost_or_doubled(app: RunningApp) -> None:
    await lives(app, WHO, DEVICE)
    await lives(app, "zoe-2", "another-device", "2")
    await listeners_catch_up(app)
    before = [await rooms_of(app, who) for who in (WHO, "zoe-2")]

    def points(rooms: dict[str, Any]) -> int:
        return sum(one["posted"] for one in rooms["ledger"]["accounts"] if one["currency"] == "points")

    for _ in range(2):
        told = {"into": "zoe-2", "reason": "the same phone number"}
        answer = await app.operator("POST", f"/admin/v1/shoppers/{WHO}/merge", told, role=Role.ADMIN)
        assert answer.status_code == 200, answer.text
    await sweep(app)
    after = await rooms_of(app, "zoe-2")
    assert points(after) == sum(map(points, before))
    assert {order["order_id"] for order in after["shop"]["orders"]} == {"order-1", "order-2"}
    # The old id is the new one: its path tells of the survivor.
    assert await rooms_of(app, WHO) == after
