"""A crowd of threads on the running service: acts, hooks, merges and erasures over all rooms, all at once.

Two api processes, whose clocks differ, and a worker. Nobody waits for anybody; a hook is told again, by another thread,
to the other process. When all are done and listeners have caught up, each room is compared with a fold of what was
answered: who is whom by then does not depend on the order in which it came.
"""

import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import anyio
import httpx
import pytest
from msgspec import Struct, field

from growth.embedded import EmbeddedServers
from growth.plumbing.http.signatures import sign
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from growth.vocabulary.ids import new_id
from tests.app import JSON, RunningApp, running_app
from tests.faults.houses import faults, house
from tests.kit.invariants import violations
from tests.patience import PATIENCE_SECONDS
from tests.shop.order import telling
from tests.shop.order.telling import SECRET
from tests.test_merges import does, react
from tests.test_people_machine import BOUGHT, TAPPED, VIEWS, Campaigns, put_campaigns
from tests.test_shoppers import places, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.one_day, pytest.mark.slow]

THREADS = 8
ACTS = 45
"""Of each thread."""
SKEW_SECONDS = 2
"""By which the clocks of both processes differ from that of the stores."""
PEOPLE, IDS = 6, 3
"""So many of them, each under so many ids that become one; and as many who are erased."""
MERGES = [(f"p{n}-{at}-id", f"p{n}-{at - 1}-id") for at in range(IDS - 1, 0, -1) for n in range(PEOPLE)]
ERASED = [f"gone{n}-id" for n in range(PEOPLE)]
SKUS = ("x", "y")
LINE = {"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 5000}
MAY_STAY = ("plumbing.", "shop.events", "retention.former_ids")
"""The audit names former ids, what is on its way out, and the reader that learnt of merges first."""


def _told_at(who: str) -> datetime:
    """What is told of who is to be erased was before: or they come back, as somebody new."""
    return now() - timedelta(hours=who in ERASED)


class Facts(Struct):
    """What was answered, by the id that asked."""

    viewed: set[tuple[str, str]] = field(default_factory=set)
    tapped: set[str] = field(default_factory=set)
    coupons: dict[str, str] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    seats: dict[str, str] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)
    refunded: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    merged: set[tuple[str, str]] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    hooks: list[JSON] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


class Turn(Struct, frozen=True):
    """One act: by whom, under a name that no other has."""

    client: httpx.Client
    dice: Random
    who: str
    name: str


class Crowd:
    """Everybody who asks. Sets, dicts and lists of facts grow by single steps, which threads may take at once."""

    def __init__(self, app: RunningApp, addresses: list[str], operator: str, put: Campaigns) -> None:
        self.facts = Facts()
        self.put = put
        self._addresses = addresses
        self._operator = operator
        # Signed before anybody is erased: none of them is ever good again for one who was.
        self._tokens = {
            user_id: app.shopper_headers(user_id)["authorization"]
            for user_id in [*(f"p{n}-{at}-id" for n in range(PEOPLE) for at in range(IDS)), *ERASED]
        }

    def go(self) -> None:
        """Do it all; return when everybody has got their answers."""
        changes = [partial(self._merge, *pair) for pair in MERGES] + [partial(self._erase, one) for one in ERASED]
        Random(1).shuffle(changes)
        shares = [changes[at::2] for at in range(2)]
        threads = [threading.Thread(target=self._safely, args=(self._act, n)) for n in range(THREADS)]
        threads += [threading.Thread(target=self._safely, args=(self._change, share)) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert not any(thread.is_alive() for thread in threads)

    def _safely(self, work: Callable[[httpx.Client, Any], None], what: Any) -> None:
        try:
            with httpx.Client(timeout=PATIENCE_SECONDS) as client:
                work(client, what)
        except Exception as error:  # noqa: BLE001 - told to the test
            self.facts.wrong.append(f"{what}: {error!r}")

    def _act(self, client: httpx.Client, n: int) -> None:
        dice = Random(n)
        ids = list(self._tokens)
        acts = [self._view, self._view, self._tap, self._take, self._claim, self._sit, self._bind]
        acts += [self._pay, self._pay, self._refund, self._tell_again, self._register]
        for number in range(ACTS):
            dice.choice(acts)(Turn(client, dice, dice.choice(ids), f"{n}-{number}"))

    def _change(self, client: httpx.Client, changes: list[Callable[[httpx.Client], None]]) -> None:
        for change in changes:
            change(client)
            threading.Event().wait(0.15)

    def _ask(self, client: httpx.Client, who: str, method: str, path: str, **told: Any) -> httpx.Response:
        """Ask until there is an answer: 503 says to come again."""
        headers = {"authorization": who if who == self._operator else self._tokens[who]} | told.pop("headers", {})
        dice = Random(path)
        while True:
            answer = client.request(method, dice.choice(self._addresses) + path, headers=headers, **told)
            self.facts.answers[f"{method} {answer.status_code}"] += 1
            if answer.status_code != 503:
                break
            threading.Event().wait(0.05)
        if answer.status_code >= 500:
            self.facts.wrong.append(f"{who} {method} {path}: {answer.status_code} {answer.text}")
        return answer

    def _tell(self, client: httpx.Client, dice: Random, hook: JSON) -> JSON:
        raw = json.dumps(hook).encode()
        while True:
            signed = sign(SECRET, new_id(now()), now(), raw) | {"content-type": "application/json"}
            answer = client.post(f"{dice.choice(self._addresses)}/shop/v1/events", content=raw, headers=signed)
            self.facts.answers[f"hook {answer.status_code}"] += 1
            if answer.status_code != 503:
                break
            threading.Event().wait(0.05)
        assert answer.status_code == 200, answer.text
        self.facts.hooks.append(hook)
        result: JSON = answer.json()["results"][0]
        return result

    # --- acts -----------------------------------------------------------------------------------------------------

    def _view(self, turn: Turn) -> None:
        sku = turn.dice.choice(SKUS)
        did = {"id": new_id(now()), "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": sku}}
        if self._ask(turn.client, turn.who, "POST", "/v1/events", json={"events": [did]}).status_code == 202:
            self.facts.viewed.add((turn.who, sku))

    def _tap(self, turn: Turn) -> None:
        if self._ask(turn.client, turn.who, "POST", "/v1/check-ins").status_code in {200, 201}:
            self.facts.tapped.add(turn.who)

    def _take(self, turn: Turn) -> None:
        answer = self._ask(turn.client, turn.who, "POST", f"/v1/coupon-templates/{self.put.template_id}/coupons")
        if answer.status_code == 201:
            self.facts.coupons[answer.json()["coupon_id"]] = turn.who

    def _claim(self, turn: Turn) -> None:
        path, headers = f"/v1/flash-sales/{self.put.sale_id}/claims", {"idempotency-key": turn.name}
        if not self._may_hold(turn.who):
            return
        answer = self._ask(turn.client, turn.who, "POST", path, json={"units": 1}, headers=headers)
        if answer.status_code in {200, 201}:
            claim_id = answer.json()["claim_id"]
            self.facts.claims[claim_id] = turn.who
            self._buys(turn, claim_id=claim_id)

    def _sit(self, turn: Turn) -> None:
        path = f"/v1/group-buys/{self.put.group_buy_id}/teams"
        if not self._may_hold(turn.who):
            return
        answer = self._ask(turn.client, turn.who, "POST", path, json={"nickname": turn.who})
        if answer.status_code in {200, 201}:
            seat_id = answer.json()["seat"]["seat_id"]
            self.facts.seats[seat_id] = turn.who
            self._buys(turn, seat_id=seat_id)

    def _bind(self, turn: Turn) -> None:
        told = {"code": self.put.code}
        if self._ask(turn.client, turn.who, "PUT", "/v1/referral/inviter", json=told).status_code == 200:
            self.facts.bound.add(turn.who)

    @staticmethod
    def _may_hold(who: str) -> bool:
        """Who has a stake in a sale that goes on is neither merged into another nor erased: only survivors have one."""
        return who.endswith("-0-id")

    # --- facts of the shop ----------------------------------------------------------------------------------------

    def _pay(self, turn: Turn) -> None:
        self._buys(turn)

    def _buys(self, turn: Turn, **uses: str) -> None:
        at = rfc3339(_told_at(turn.who))
        hook = telling.paid(f"o-{turn.name}", LINE | uses, user_id=turn.who, paid_fen=5000, time=at)
        hook["data"]["paid_at"] = at
        result = self._tell(turn.client, turn.dice, hook)
        if result["outcome"] != "applied" and turn.who not in ERASED:
            self.facts.wrong.append(f"{hook} {result}")
        self.facts.orders[f"o-{turn.name}"] = turn.who

    def _refund(self, turn: Turn) -> None:
        if plain := [hook for hook in list(self.facts.hooks) if hook["type"] == "order.paid"]:
            order_id = turn.dice.choice(plain)["data"]["order_id"]
            hook = telling.refunded(order_id, f"r-{order_id}", telling.of(1, 5000), time=rfc3339(now()))
            self._tell(turn.client, turn.dice, hook)
            self.facts.refunded.add(order_id)

    def _register(self, turn: Turn) -> None:
        """Said again with another source: the last word counts."""
        data = {"user_id": turn.who, "registered_at": rfc3339(now() - timedelta(days=1)), "source": turn.name}
        self._tell(turn.client, turn.dice, telling.event("shopper.registered", data, time=rfc3339(_told_at(turn.who))))

    def _tell_again(self, turn: Turn) -> None:
        if told := list(self.facts.hooks):
            other = {"id": f"again-{turn.name}"} if turn.dice.random() < 0.5 else {}
            self._tell(turn.client, turn.dice, turn.dice.choice(told) | other)

    # --- ids that change hands ------------------------------------------------------------------------------------

    def _merge(self, old: str, new: str, client: httpx.Client) -> None:
        told = {"into": new, "reason": "one phone"}
        answer = self._ask(client, self._operator, "POST", f"/admin/v1/shoppers/{old}/merge", json=told)
        if answer.status_code == 200:
            self.facts.merged.add((old, new))
        else:
            self.facts.wrong.append(f"{old} into {new}: {answer.text}")

    def _erase(self, who: str, client: httpx.Client) -> None:
        answer = self._ask(client, self._operator, "DELETE", f"/admin/v1/shoppers/{who}?reason=asked")
        if answer.status_code == 200:
            self.facts.erased.add(who)
        else:
            self.facts.wrong.append(f"{who}: {answer.text}")


# --- the fold -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def service(servers: EmbeddedServers, *, is_locked: bool = True) -> AsyncIterator[tuple[RunningApp, Crowd]]:
    """Two api processes, a worker, and one more process, of the test, that only looks."""
    async with house(servers) as here, running_app(here.dsn, servers.valkey.url) as app:
        put = await put_campaigns(app)
        published = now()
        if not is_locked:
            async with app.growth.database.transaction() as tx:
                await tx.execute("ALTER FUNCTION plumbing.enter RENAME TO entered")
                await tx.execute(
                    "CREATE FUNCTION plumbing.enter(integer[], bigint) RETURNS void LANGUAGE sql AS 'SELECT'"
                )
        here.add_apis(faults(clock_seconds=-SKEW_SECONDS), faults(clock_seconds=SKEW_SECONDS))
        (worker,) = here.add_workers(faults())
        await here.ready()
        # By the slow clock too, what the crowd does comes after the campaigns: before them it would not count.
        await anyio.sleep(max(0.0, SKEW_SECONDS - (now() - published).total_seconds()))
        operator = (await app.operator_headers(Role.ADMIN))["authorization"]
        crowd = Crowd(app, here.addresses, operator, put)
        await anyio.to_thread.run_sync(crowd.go)
        worker.ask_to_stop()
        assert await worker.ended() == 0
        await react(app)
        await sweep(app)
        await react(app)
        yield app, crowd


async def differences(app: RunningApp, crowd: Crowd) -> list[str]:
    """Return where a room says something else than the facts."""
    facts, put = crowd.facts, crowd.put
    found = [*facts.wrong]
    whose = {f"p{n}-{at}-id": f"p{n}-0-id" for n in range(PEOPLE) for at in range(IDS)}
    for person in sorted(set(whose.values())):
        rooms = (await does(app, "GET", f"/admin/v1/shoppers/{person}"))["rooms"]
        skus = {sku for who, sku in facts.viewed if whose.get(who) == person}
        orders = {order_id for order_id, who in facts.orders.items() if whose.get(who) == person}
        standing = orders - facts.refunded
        done = {one["task_id"]: one["done"] for one in rooms["task"]["progress"]}
        points = sum(one["posted"] for one in rooms["ledger"]["accounts"] if one["currency"] == "points")
        taps = sum(whose.get(who) == person for who in facts.tapped)
        least = TAPPED * (taps > 0) + VIEWS * (len(skus) == len(SKUS)) + BOUGHT * bool(standing)
        most = TAPPED * taps + (VIEWS + BOUGHT) * IDS

        def held(by: dict[str, str], person: str = person) -> set[str]:
            return {one for one, who in by.items() if whose.get(who) == person}

        for what, is_said, is_so in (
            ("orders", {one["order_id"] for one in rooms["shop"]["orders"]}, orders),
            ("days", rooms["checkin"]["total_days"], int(taps > 0)),
            ("coupons", {one["coupon_id"] for one in rooms["coupon"]["coupons"]}, held(facts.coupons)),
            ("claims", {one["claim_id"] for one in rooms["flash_sale"]["claims"]}, held(facts.claims)),
            ("seats", {one["seat_id"] for one in rooms["group_buy"]["seats"]}, held(facts.seats)),
            ("inviter", bool(rooms["referral"]["as_invitee"]), any(whose.get(who) == person for who in facts.bound)),
            ("things looked at", done.get(put.looks, 0), len(skus)),
            ("orders that stand", done.get(put.buys, 0), len(standing)),
            ("points", min(max(points, least), most), points),
        ):
            if is_said != is_so:
                found.append(f"{person} {what}: {is_said} and not {is_so}")
    for former, _ in facts.merged:
        there = [place for place in await places(app, former) if not place.startswith(MAY_STAY)]
        found += [f"{former} is still in {place}" for place in there]
    for erased in facts.erased:
        found += [f"{erased} is still in {place}" for place in await places(app, erased)]
    return found + [f"{one.room}: {one.name}" for one in await violations(app.growth.database)]


async def test_a_crowd_and_ids_that_change_hands_leave_what_the_facts_say(servers: EmbeddedServers) -> None:
    async with service(servers) as (app, crowd):
        assert await differences(app, crowd) == []
        facts = crowd.facts
        assert len(facts.merged) == len(MERGES)
        assert len(facts.erased) == len(ERASED)
        # Or there was no crowd.
        assert all(len(some) >= PEOPLE for some in (facts.viewed, facts.tapped, facts.coupons, facts.orders))
        assert facts.claims
        assert facts.seats
        assert facts.bound
        assert facts.refunded


async def test_without_the_lock_of_a_person_facts_stay_with_ids_that_are_nobody(servers: EmbeddedServers) -> None:
    async with service(servers, is_locked=False) as (app, crowd):
        assert any("is still in" in one for one in await differences(app, crowd))
