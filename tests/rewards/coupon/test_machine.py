"""Three orders, two coupons, told in whatever order: a slow and obvious model says who has which."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from growth.embedded import EmbeddedServers
from growth.rewards.coupon.model import Coupon
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.kit.invariants import violations
from tests.rewards.coupon.conftest import INVARIANTS, Room, assemble, closed, line, paid, placed, refunded
from tests.shop.order import telling
from tests.world import stores

LINES = ("1", "2")
ORDERS = 3
BUYERS = ("ann", "ann", "eve")
"""Both coupons are Ann's."""

_numbers = itertools.count()


class Told(Struct):
    """What the shop says of one order; each line has one of the coupons, or none."""

    placed: Mapping[str, int | None]
    paid: Mapping[str, int | None]


class Heard(Struct):
    """What was heard of one order."""

    placed: bool = False
    paid: bool = False
    closed: bool = False
    refunded: set[str] = set()


class Model:
    """Who has which coupon, told as a merchant would."""

    def __init__(self, orders: Sequence[Told]) -> None:
        self.orders = orders
        self.heard = [Heard(refunded=set()) for _ in orders]
        self.has: dict[int, tuple[int, str]] = {}
        self.owed: set[tuple[int, str]] = set()

    def hear(self, order: int, what: str) -> None:
        heard = self.heard[order]
        if what in LINES:
            heard.refunded.add(what)
        elif what != "received":
            setattr(heard, what, True)
        for coupon in (0, 1):
            self.settle(order, coupon)

    def settle(self, order: int, coupon: int) -> None:
        heard, told = self.heard[order], self.orders[order]
        names = told.paid if heard.paid else told.placed if heard.placed else {}
        lines = [number for number, named in names.items() if named == coupon]
        mine = self.has.get(coupon, (None, ""))[0] == order
        if heard.paid:
            wants = "used" if any(number not in heard.refunded for number in lines) else ""
        else:
            wants = "locked" if lines and not heard.closed else ""
        if not wants:
            if mine:
                del self.has[coupon]
        elif wants == "used" and any((order, number) in self.owed for number in lines):
            pass
        elif mine or (BUYERS[order] == "ann" and self.is_free_for(coupon, wants)):
            self.has[coupon] = (order, wants)
        elif wants == "used":
            self.owed |= {(order, number) for number in lines if number not in heard.refunded}

    def is_free_for(self, coupon: int, wants: str) -> bool:
        """A lock is in the way of who only places, not of who pays."""
        return coupon not in self.has or (wants == "used" and self.has[coupon][1] == "locked")


_named = st.fixed_dictionaries({number: st.sampled_from([0, 1, None]) for number in LINES})
_orders = st.tuples(*[st.builds(Told, placed=_named, paid=_named) for _ in range(ORDERS)])
_arrivals = st.lists(
    st.tuples(
        st.integers(0, ORDERS - 1),
        st.sampled_from(["placed", "paid", "closed", "received", *LINES]),
        st.booleans(),
    ),
    min_size=4,
    max_size=16,
)


def event(name: str, told: Told, order: int, what: str, coupons: Sequence[Coupon]) -> telling.JSON:
    def lines(names: Mapping[str, int | None]) -> list[telling.JSON]:
        return [line(None if named is None else coupons[named], number) for number, named in names.items()]

    if what == "placed":
        return placed(name, *lines(told.placed), user_id=BUYERS[order], placed_at=coupons[0].issued_at)
    if what == "paid":
        return paid(name, *lines(told.paid), user_id=BUYERS[order])
    if what in LINES:
        return refunded(name, what)
    return closed(name) if what == "closed" else telling.received(name)


async def play(room: Room, orders: Sequence[Told], arrivals: Sequence[tuple[int, str, bool]]) -> None:
    story = next(_numbers)
    template = await room.template()
    coupons = [await room.grants(template), await room.grants(template)]
    names = [f"o{story}-{order}" for order in range(ORDERS)]
    model, seen, rejected = Model(orders), set[tuple[int, str]](), set[str]()
    for place, (order, what, is_redelivered) in enumerate(arrivals):
        told = event(names[order], orders[order], order, what, coupons)
        if (order, what) in seen and not is_redelivered:
            # Told again under another id: a fact that is known, and whoever takes part catches up.
            told["id"] = f"again-{story}-{place}"
            model.hear(order, what)
        elif (order, what) not in seen or told["id"] in rejected:
            # What was rejected binds nothing: it is judged by what is known now.
            model.hear(order, what)
        seen.add((order, what))
        (result,) = await room.tells(told)
        is_rejected = "rejected" in (result.outcome, result.code)
        (rejected.add if is_rejected else rejected.discard)(told["id"])
    found = [await room.coupon(one) for one in coupons]
    has = {
        index: (names.index(str(one.order_id)), one.state)
        for index, one in enumerate(found)
        if one.order_id is not None
    }
    assert has == model.has
    assert {one.state for index, one in enumerate(found) if index not in has} <= {"issued"}
    owed = {(names.index(order), number) for order, number in await room.owed() if order in names}
    assert owed == model.owed
    events = [one for one in await room.events("refund_required") if one["order_id"] in names]
    assert len(events) == len(owed)


def test_whatever_arrives_whoever_the_model_says_has_the_coupon(servers: EmbeddedServers) -> None:
    servers.ensure_running()
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        try:
            room = runner.run(_process(opened, servers))

            @examples(100)
            @given(orders=_orders, arrivals=_arrivals)
            def holds(orders: Any, arrivals: Any) -> None:
                runner.run(play(room, orders, arrivals))

            holds()
            assert runner.run(violations(room.database, INVARIANTS)) == []
        finally:
            runner.run(opened.aclose())


async def _process(opened: AsyncExitStack, servers: EmbeddedServers) -> Room:
    dsn = await opened.enter_async_context(test_servers.database(servers))
    database, redis = await opened.enter_async_context(stores(dsn, servers.valkey.url))
    return assemble(database, redis)
