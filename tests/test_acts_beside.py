"""A shopper acts at the very moment at which the id is merged, or erased: one waits for the other, whoever comes first.

Each kind of act runs beside a merge, and beside an erasure, again and again, over HTTP on the real stores. Afterwards
nothing stands under an id that is nobody's, every sentence of every room holds, and what was acknowledged is there.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from growth.demo import ROOMS
from growth.plumbing.person.memory import People
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.take import store
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now, rfc3339
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.test_shoppers import event, listeners_catch_up, places, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROUNDS = 20
AT_ONCE = 5
AHEAD = 40
"""Turns of the loop."""
TOLD_BEFORE = ("plumbing.outbox", "plumbing.audit", "retention.former_ids", "pack.recipients", "granting.grants.key")
"""What was true when it was written: a merge leaves it, an erasure does not. Keys of grants name who tapped."""

Do = Callable[[RunningApp, str], Awaitable[httpx.Response]]


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        act = Act(Operator("demo", Role.ADMIN), now(), reason="demo")
        for room in ROOMS:
            await room.put(app.growth, act)
        await _look(app)
        yield app


_numbers = itertools.count()
_first: dict[str, str] = {}
"""What shoppers are offered, looked up before the rounds: nothing comes between an act and a change."""


async def _look(app: RunningApp) -> None:
    sales = (await app.shopper("somebody", "GET", "/v1/flash-sales?state=open")).json()["items"]
    campaigns = (await app.shopper("somebody", "GET", "/v1/group-buys")).json()["items"]
    templates = (await app.shopper("somebody", "GET", "/v1/coupon-templates")).json()["items"]
    _first["sale"], _first["campaign"] = sales[-1]["sale_id"], campaigns[0]["group_buy_id"]
    _first["template"] = templates[0]["template_id"]
    _first["code"] = (await app.shopper("inviter", "GET", "/v1/referral")).json()["code"]


async def _claims(app: RunningApp, who: str) -> httpx.Response:
    return await app.shopper(who, "POST", f"/v1/flash-sales/{_first['sale']}/claims", {"units": 1}, idempotency_key="c")


async def _sits(app: RunningApp, who: str) -> httpx.Response:
    return await app.shopper(
        who, "POST", f"/v1/group-buys/{_first['campaign']}/teams", {"nickname": "N"}, idempotency_key="s"
    )


async def _takes(app: RunningApp, who: str) -> httpx.Response:
    return await app.shopper(who, "POST", f"/v1/coupon-templates/{_first['template']}/coupons", idempotency_key="t")


async def _taps(app: RunningApp, who: str) -> httpx.Response:
    return await app.shopper(who, "POST", "/v1/check-ins")


async def _tells(app: RunningApp, who: str) -> httpx.Response:
    did = {"id": "viewed", "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": "tea"}}
    return await app.shopper(who, "POST", "/v1/events", {"events": [did]})


async def _binds(app: RunningApp, who: str) -> httpx.Response:
    return await app.shopper(who, "PUT", "/v1/referral/inviter", {"code": _first["code"]})


async def _withdraws(app: RunningApp, who: str) -> httpx.Response:
    return await app.shopper(who, "POST", "/v1/withdrawals", {"amount_fen": 1000}, idempotency_key="w")


async def _buys(app: RunningApp, who: str) -> httpx.Response:
    line = {"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 5000}
    paid = {"user_id": who, "paid_at": rfc3339(now()), "paid_fen": 5000, "lines": [line]}
    number = f"{next(_numbers)}"
    await app.shop_tells(event("order.paid", number, paid | {"order_id": f"order-{number}"}))
    return httpx.Response(200)


ACTS: dict[str, Do] = {
    "claims": _claims,
    "sits": _sits,
    "takes": _takes,
    "taps": _taps,
    "tells": _tells,
    "binds": _binds,
    "withdraws": _withdraws,
    "buys": _buys,
}
DONE = {200, 201, 202}
NOT_NOW = {401, 503}
"""The id changed hands a moment ago: ask again, sign in again."""


async def _money(app: RunningApp, who: str) -> None:
    gift = {"reward": {"type": "commission", "amount_fen": 5000}, "reason": "a gift"}
    made = await app.operator("POST", f"/admin/v1/shoppers/{who}/grants", gift, role=Role.ADMIN)
    assert made.status_code == 201, made.text
    payee = {"kind": "alipay", "account": "zoe", "name": "Zoe"}
    assert (await app.shopper(who, "PUT", "/v1/payee", payee)).status_code == 200


async def _beside(
    app: RunningApp, do: Do, who: str, changes: Callable[[], Awaitable[httpx.Response]], number: int
) -> bool:
    """Act and change at once, now one a few steps ahead, now the other; return whether the act is acknowledged."""
    calls = [lambda: do(app, who), changes]
    first = number % 2
    ahead = asyncio.ensure_future(calls[first]())
    for _ in range(2 * number % AHEAD):
        await asyncio.sleep(0)
    behind = asyncio.ensure_future(calls[1 - first]())
    await asyncio.wait([ahead, behind])
    told, changed = (ahead.result(), behind.result()) if first == 0 else (behind.result(), ahead.result())
    assert told.status_code in DONE | NOT_NOW | {409}, told.text
    assert changed.status_code in {200, 409, 503}, changed.text
    return told.status_code in DONE


async def _rooms_with(app: RunningApp, text: str) -> list[str]:
    return [place for place in await places(app, text) if not place.startswith(TOLD_BEFORE)]


@pytest.mark.parametrize("kind", ACTS)
async def test_an_act_beside_a_merge_is_the_survivors_or_did_not_happen(app: RunningApp, kind: str) -> None:
    acknowledged = merged = 0

    async def once(number: int) -> None:
        nonlocal acknowledged, merged
        old, new = f"old-{kind}-{number}.", f"new-{kind}-{number}."
        if kind == "withdraws":
            await _money(app, old)
        answers: list[httpx.Response] = []

        async def merge() -> httpx.Response:
            body = {"into": new, "reason": "one person"}
            answers.append(await app.operator("POST", f"/admin/v1/shoppers/{old}/merge", body, role=Role.ADMIN))
            return answers[0]

        acknowledged += await _beside(app, ACTS[kind], old, merge, number)
        if answers[0].status_code == 200:
            merged += 1
            assert await _rooms_with(app, old) == [], kind

    for start in range(0, ROUNDS, AT_ONCE):
        await asyncio.gather(*[once(number) for number in range(start, start + AT_ONCE)])
    assert acknowledged + merged
    await listeners_catch_up(app)
    assert await violations(app.growth.database) == []


@pytest.mark.parametrize("kind", ACTS)
async def test_an_act_beside_an_erasure_is_erased_or_did_not_happen(app: RunningApp, kind: str) -> None:
    acknowledged = 0
    erased: list[str] = []

    async def once(number: int) -> None:
        nonlocal acknowledged
        who = f"gone-{kind}-{number}."
        if kind == "withdraws":
            await _money(app, who)

        async def erase() -> httpx.Response:
            told = await app.operator("DELETE", f"/admin/v1/shoppers/{who}?reason=asked", role=Role.ADMIN)
            if told.status_code == 200:
                erased.append(who)
            return told

        acknowledged += await _beside(app, ACTS[kind], who, erase, number)

    for start in range(0, ROUNDS, AT_ONCE):
        await asyncio.gather(*[once(number) for number in range(start, start + AT_ONCE)])
    assert acknowledged + len(erased)
    await listeners_catch_up(app)
    await sweep(app)
    for who in erased:
        back = kind == "buys" and await app.growth.database.people.closed(app.growth.database, who) is None
        if not back:
            assert await places(app, who) == [], (who, await places(app, who))
    assert await violations(app.growth.database) == []


async def test_without_the_lock_an_act_is_committed_under_an_id_that_is_no_more(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same act, held open between its decision and its end, with and without the lock."""
    real, deciding, may_end = store.take, asyncio.Event(), asyncio.Event()

    async def slow(*told: Any) -> Any:
        deciding.set()
        await may_end.wait()
        return await real(*told)

    async def merge(old: str) -> httpx.Response:
        body: JSON = {"into": f"{old}new", "reason": "one person"}
        return await app.operator("POST", f"/admin/v1/shoppers/{old}/merge", body, role=Role.ADMIN)

    async def takes_beside_merge(old: str) -> list[str]:
        deciding.clear()
        may_end.clear()
        taking = asyncio.create_task(_takes(app, old))
        await deciding.wait()
        merging = asyncio.create_task(merge(old))
        # With the lock it waits for the act, which waits for us; without, it is through by itself.
        await asyncio.wait([merging], timeout=1)
        may_end.set()
        assert (await taking).status_code == 201
        assert (await merging).status_code == 200
        rows = await app.growth.database.fetch("SELECT user_id FROM coupon.coupons WHERE user_id LIKE $1", f"{old}%")
        return [row["user_id"] for row in rows]

    monkeypatch.setattr(store, "take", slow)
    assert await takes_beside_merge("locked.") == ["locked.new"]

    async def begin(_: People, connection: Any, *__: object, **___: object) -> None:
        await connection.execute("BEGIN")

    monkeypatch.setattr(People, "begin", begin)
    assert await takes_beside_merge("unlocked.") == ["unlocked."]
