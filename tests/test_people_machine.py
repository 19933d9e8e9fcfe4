"""Acts, hooks, merges, erasures, refunds and redeliveries over all rooms, in any sequence, beside a fold of the facts.

The fold knows persons: each id leads to one, or to nobody. Listeners run whenever the machine says so, or late. At the
end everybody catches up, and each room says of each person what the facts say.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from msgspec import Struct, field

from growth.embedded import EmbeddedServers
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.outbox import outbox
from growth.tables import reactions
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from growth.vocabulary.ids import new_id
from tests import servers as test_servers
from tests.app import JSON, RunningApp, running_app
from tests.kit.examples import examples
from tests.kit.invariants import violations
from tests.shop.order import telling
from tests.test_merges import asks, campaign, does, react
from tests.test_shoppers import places, sweep

T = TypeVar("T")

STEPS = 30
IDS = ("a", "b", "c", "d")
ORDERS = ("1", "2", "3")
ID = st.sampled_from(IDS)
VIEWS, BOUGHT, TAPPED = 10, 40, 1
"""Points: for looking at two things, for an order that stands, for a day."""
_examples = count()


class Campaigns(Struct, frozen=True):
    """One of each, by its id."""

    looks: str
    buys: str
    template_id: str
    sale_id: str
    group_buy_id: str
    code: str
    """Of somebody who invites."""


async def put_campaigns(app: RunningApp) -> Campaigns:
    """Publish campaigns that give points for two things looked at, an order that stands, a day; and sell tea."""

    def points(number: int) -> JSON:
        return {"reward": [{"type": "points", "points": number}], "period": "once"}

    looks = {"event_type": "product.viewed", "distinct_by": "sku", "count": 2, **points(VIEWS)}
    buys = {"event_type": "shop.order_paid", "count": 1, "undo_on_refund": "whole", **points(BOUGHT)}
    taken = {"discount": {"type": "fixed", "off_fen": 1000}, "threshold_fen": 3000, "max_per_shopper": 1}
    taken |= {"validity": {"type": "days", "days": 30}, "units_total": 1_000_000, "claimable": True}
    sold = {"sku": "tea", "price_fen": 5000, "list_price_fen": 9900, "units_total": 10_000, "max_per_shopper": 99}
    day = str(app.growth.of(Almanacs).zone.day(now()))
    # Campaigns without an end, so without the times of the others.
    for room, draft in (
        ("check-in-programs", {"from_day": day, "rewards": [[{"type": "points", "points": TAPPED}]]}),
        ("referral-programs", {"level_1": {"type": "percent", "basis_points": 100}}),
    ):
        made = await does(app, "POST", f"/admin/v1/{room}", {"title": "Days", **draft})
        await does(app, "POST", f"/admin/v1/{room}/{made['program_id']}/publish?accept_warnings=true")
    made = await does(app, "POST", "/admin/v1/coupon-templates", {"title": "Tea", **taken})
    await does(app, "POST", f"/admin/v1/coupon-templates/{made['template_id']}/publish?accept_warnings=true")
    return Campaigns(
        await campaign(app, "tasks", "task_id", **looks),
        await campaign(app, "tasks", "task_id", **buys),
        made["template_id"],
        await campaign(app, "flash-sales", "sale_id", **sold),
        await campaign(app, "group-buys", "group_buy_id", **sold, team_size=3),
        (await asks(app, "inviter", "GET", "/v1/referral"))["code"],
    )


class Person(Struct):
    """What the facts say of one person."""

    name: str
    """The id that stands."""
    lives: int = 1
    """Ids that became this one: each may have been rewarded before."""
    skus: set[str] = field(default_factory=set)
    days: set[str] = field(default_factory=set)
    taps: int = 0
    """Days that were rewarded: of two ids both may have been, before they were one."""
    coupons: int = 0
    orders: dict[str, bool] = field(default_factory=dict)
    """Paid orders: whether they were refunded."""
    claims: set[str] = field(default_factory=set)
    seats: set[str] = field(default_factory=set)
    is_bound: bool = False
    """Whether somebody invited them."""

    @property
    def is_busy(self) -> bool:
        """Say whether they have a stake in what goes on: until that is over they are who they are."""
        return bool(self.claims or self.seats)


class PeopleMachine(RuleBasedStateMachine):
    """Four ids, three orders, one of each campaign."""

    runner: ClassVar[asyncio.Runner]
    app: ClassVar[RunningApp]
    put: ClassVar[Campaigns]

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"p{next(_examples)}x"
        self.who: dict[str, Person | None] = {}
        self.erased: set[str] = set()
        # By id, what is remembered of lives that were erased: coupons taken, days held. It adds up.
        self.had: dict[str, tuple[int, frozenset[str]]] = {}
        self.owner: dict[str, Person | None] = {}
        self.told: list[JSON] = []

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def id(self, name: str) -> str:
        return f"{self.prefix}-{name}-id"

    def person(self, name: str) -> Person:
        """Whoever the id is; somebody new, if it is nobody."""
        found = self.who.get(name)
        if found is None:
            found = self.who[name] = Person(name)
            self.erased.discard(name)
        return found

    def had_of(self, person: Person) -> tuple[int, set[str]]:
        """What any of the person's ids had in lives before."""
        found = [self.had[name] for name, one in self.who.items() if one is person and name in self.had]
        return sum(coupons for coupons, _ in found), {day for _, days in found for day in days}

    def asks(self, name: str, method: str, path: str, body: object = None) -> Any:
        # Signed in a moment from now: tokens tell whole seconds, and one of before an erasure is refused.
        token = self.app.growth.identity.sign(self.id(name), now=now() + timedelta(seconds=2), lifetime_seconds=600)
        headers = {"authorization": f"Bearer {token}"}
        return self.do(self.app.client.request(method, path, json=body, headers=headers))

    def tells(self, hook: JSON) -> JSON:
        self.told.append(hook)
        (result,) = self.do(self.app.shop_tells(hook))
        return result

    # --- acts -----------------------------------------------------------------------------------------------------

    @rule(name=ID, sku=st.sampled_from(["x", "y"]))
    def view(self, name: str, sku: str) -> None:
        did = {"id": new_id(now()), "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": sku}}
        answer = self.asks(name, "POST", "/v1/events", {"events": [did]})
        assert answer.status_code == 202, answer.text
        self.person(name).skus.add(sku)

    @rule(name=ID)
    def tap(self, name: str) -> None:
        answer = self.asks(name, "POST", "/v1/check-ins")
        person = self.person(name)
        _, days = self.had_of(person)
        if days - person.days:
            # One day is all there is in a test.
            assert (answer.status_code, answer.json()["code"]) == (409, "checkin.already_checked_in"), answer.text
            return
        assert answer.status_code in {200, 201}, answer.text
        day = answer.json()["day"]
        person.taps += day not in person.days
        person.days.add(day)

    @rule(name=ID)
    def take(self, name: str) -> None:
        answer = self.asks(name, "POST", f"/v1/coupon-templates/{self.put.template_id}/coupons")
        person = self.person(name)
        taken, _ = self.had_of(person)
        assert (answer.status_code == 201) == (person.coupons + taken == 0), answer.text
        person.coupons += answer.status_code == 201

    @rule(name=ID)
    def claim(self, name: str) -> None:
        answer = self.asks(name, "POST", f"/v1/flash-sales/{self.put.sale_id}/claims", {"units": 1})
        assert answer.status_code == 201, answer.text
        self.person(name).claims.add(answer.json()["claim_id"])

    @rule(name=ID)
    def sit(self, name: str) -> None:
        answer = self.asks(name, "POST", f"/v1/group-buys/{self.put.group_buy_id}/teams", {"nickname": name})
        person = self.person(name)
        assert (answer.status_code == 201) == (not person.seats), answer.text
        if answer.status_code == 201:
            person.seats.add(answer.json()["seat"]["seat_id"])

    @rule(name=ID)
    def bind(self, name: str) -> None:
        """Be invited, if one may be: who had bought may not, nor who was before."""
        answer = self.asks(name, "PUT", "/v1/referral/inviter", {"code": self.put.code})
        assert answer.status_code in {200, 409}, answer.text
        person = self.person(name)
        if any(not refunded for refunded in person.orders.values()):
            assert person.is_bound or answer.status_code == 409, answer.text
        person.is_bound |= answer.status_code == 200

    # --- facts of the shop ----------------------------------------------------------------------------------------

    @rule(name=ID, order=st.sampled_from(ORDERS))
    def pay(self, name: str, order: str) -> None:
        if order in self.owner:
            return
        line = {"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 5000}
        hook = telling.paid(f"{self.prefix}-{order}", line, user_id=self.id(name), paid_fen=5000)
        hook["data"]["paid_at"] = rfc3339(now())
        hook["time"] = rfc3339(now())
        result = self.tells(hook)
        assert result["outcome"] == "applied", result
        person = self.owner[order] = self.person(name)
        person.orders[order] = False

    @precondition(lambda self: self.owner)
    @rule(order=st.sampled_from(ORDERS))
    def refund(self, order: str) -> None:
        if order not in self.owner:
            return
        one = telling.of(1, 5000)
        refund = telling.refunded(f"{self.prefix}-{order}", f"{self.prefix}-{order}-r", one, time=rfc3339(now()))
        result = self.tells(refund)
        assert result["outcome"] in {"applied", "duplicate", "ignored"}, result
        person = self.owner[order]
        if person is not None and order in person.orders:
            person.orders[order] = True

    @precondition(lambda self: self.told)
    @rule(which=st.integers(0, 99))
    def tell_again(self, which: int) -> None:
        hook = self.told[which % len(self.told)]
        (result,) = self.do(self.app.shop_tells(hook))
        assert result["outcome"] == "duplicate", result
        (result,) = self.do(self.app.shop_tells({**hook, "id": f"{hook['id']}-again-{new_id(now())}"}))
        assert result["outcome"] in {"applied", "ignored"}, result

    # --- ids that change hands ------------------------------------------------------------------------------------

    @rule(old=ID, new=ID)
    def merge(self, old: str, new: str) -> None:
        if old == new:
            return
        told = {"into": self.id(new), "reason": "one phone"}
        answer = self.do(self.app.operator("POST", f"/admin/v1/shoppers/{self.id(old)}/merge", told, role=Role.ADMIN))
        gone, stays = self.person(old), self.person(new)
        if gone is not stays and gone.is_busy:
            assert (answer.status_code, answer.json()["code"].partition(".")[2]) == (409, "shopper_busy"), answer.text
            return
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"user_id": self.id(stays.name)}
        if gone is stays:
            return
        stays.lives += gone.lives
        stays.skus |= gone.skus
        stays.taps += gone.taps
        stays.days |= gone.days
        stays.coupons += gone.coupons
        stays.orders |= gone.orders
        stays.is_bound |= gone.is_bound
        for name, person in self.who.items():
            if person is gone:
                self.who[name] = stays
        for order, person in self.owner.items():
            if person is gone:
                self.owner[order] = stays

    @rule(name=ID)
    def erase(self, name: str) -> None:
        person = self.who.get(name)
        path = f"/admin/v1/shoppers/{self.id(name)}?reason=asked"
        answer = self.do(self.app.operator("DELETE", path, role=Role.ADMIN))
        if person is not None and person.name != name:
            assert (answer.status_code, answer.json()["code"]) == (409, "shopper.merged")
            return
        if person is not None and person.is_busy:
            assert (answer.status_code, answer.json()["code"].partition(".")[2]) == (409, "shopper_busy"), answer.text
            return
        assert answer.status_code == 200, answer.text
        if person is not None:
            coupons, days = self.had_of(person)
            remembered = (coupons + person.coupons, frozenset(days | person.days))
            self.had |= {one: remembered for one, known in self.who.items() if known is person}
        for one, known in list(self.who.items()):
            if known is person and person is not None:
                self.who[one] = None
                self.erased.add(one)
        self.who[name] = None
        self.erased.add(name)
        for order, known in self.owner.items():
            if known is person:
                self.owner[order] = None

    # --- listeners ------------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 20))
    def listen(self, which: int) -> None:
        found = list(reactions(self.app.growth))
        self.do(outbox.deliver(self.app.growth.database, found[which % len(found)]))

    # --- the fold -------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.do(self._compare())

    async def _compare(self) -> None:
        await react(self.app)
        await sweep(self.app)
        await react(self.app)
        for person in {id(one): one for one in self.who.values() if one is not None}.values():
            told = await does(self.app, "GET", f"/admin/v1/shoppers/{self.id(person.name)}")
            assert told["user_id"] == self.id(person.name)
            self._same(person, told["rooms"])
        for name in self.erased:
            assert await places(self.app, self.id(name)) == []
        for name, known in self.who.items():
            if known is not None and known.name != name:
                # The audit names it, what is on its way out, and the reader that learnt of merges first.
                found = await places(self.app, self.id(name))
                assert [
                    one for one in found if not one.startswith(("plumbing.", "shop.events", "retention.former_ids"))
                ] == []
        assert await violations(self.app.growth.database) == []

    def _same(self, person: Person, rooms: JSON) -> None:
        orders = {one["order_id"] for one in rooms["shop"]["orders"]}
        assert orders == {f"{self.prefix}-{order}" for order in person.orders}
        assert rooms["checkin"]["total_days"] == len(person.days)
        assert len(rooms["coupon"]["coupons"]) == person.coupons
        assert {one["claim_id"] for one in rooms["flash_sale"]["claims"]} == person.claims
        assert {one["seat_id"] for one in rooms["group_buy"]["seats"]} == person.seats
        assert bool(rooms["referral"]["as_invitee"]) == person.is_bound
        if any(known is person and name in self.had for name, known in self.who.items()):
            # What is given once is not given again: `test_welcomes.py` says what.
            return
        standing = sum(not refunded for refunded in person.orders.values())
        points = sum(one["posted"] for one in rooms["ledger"]["accounts"] if one["currency"] == "points")
        # Each of the ids may have been rewarded before they were one; nothing was given twice to one of them.
        least = person.taps * TAPPED + VIEWS * (len(person.skus) == 2) + BOUGHT * (standing > 0)
        most = person.taps * TAPPED + (VIEWS + BOUGHT) * person.lives
        if person.lives == 1:
            most = least
        assert least <= points <= most, (person, points)
        done = {one["task_id"]: one["done"] for one in rooms["task"]["progress"]}
        assert done.get(self.put.looks, 0) == len(person.skus)
        assert done.get(self.put.buys, 0) == standing
        is_active = bool(
            person.skus or person.days or person.orders or person.coupons or person.is_busy or person.is_bound
        )
        assert (rooms["retention"] is not None) == is_active


async def _house(opened: AsyncExitStack, servers: EmbeddedServers) -> RunningApp:
    dsn = await opened.enter_async_context(test_servers.database(servers))
    redis_url = await test_servers.empty_valkey(servers)
    return await opened.enter_async_context(running_app(dsn, redis_url))


def test_whatever_happens_to_ids_every_room_says_what_the_facts_say(servers: EmbeddedServers) -> None:
    servers.ensure_running()
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        try:
            PeopleMachine.runner = runner
            PeopleMachine.app = runner.run(_house(opened, servers))
            PeopleMachine.put = runner.run(put_campaigns(PeopleMachine.app))
            run_state_machine_as_test(
                PeopleMachine,
                settings=examples(15, stateful_step_count=STEPS),
            )
        finally:
            runner.run(opened.aclose())
