"""What the shop tells of one shopper's registration, in any order: the room of the shop and this one end alike."""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.embedded import EmbeddedServers
from growth.listeners.retention import person as shopper
from growth.plumbing.outbox.outbox import Subscription, deliver
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.shop.order.service import ShopService
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.listeners.retention.conftest import Room, a_room, registered, sighting
from tests.shop.order import telling
from tests.shop.order.telling import NOON, SECRET

pytestmark = pytest.mark.anyio

LATE, EARLY = timedelta(minutes=1), timedelta(days=5)


def registration(user_id: str, ago: timedelta, source: str | None) -> telling.JSON:
    data = {"user_id": user_id, "registered_at": (NOON - ago).isoformat(), "source": source}
    return telling.event("shopper.registered", data)


async def hear(room: Room) -> None:
    name, projection = "retention.outbox", room.projection
    while await deliver(room.database, Subscription(name, projection.listens_to, projection.hear)):
        pass


async def known(database: Database, user_id: str) -> tuple[Any, ...]:
    """What both rooms say: when and from where the shopper came, and on which days they were here."""
    told = await shopper.export(database, user_id)
    shop = await database.fetchrow("SELECT registered_at, source FROM shop.shoppers WHERE user_id = $1", user_id)
    assert told is not None
    assert shop is not None
    assert told.source == (shop["source"] or "")
    return (told.first_day, told.last_day, told.days, told.source, [one.day for one in told.active_days], *shop)


@pytest.mark.parametrize("order", [(LATE, EARLY), (EARLY, LATE)], ids=["late first", "early first"])
@pytest.mark.parametrize("at_once", ["in one batch", "one by one"])
async def test_the_earliest_telling_is_the_registration_in_every_room(
    room: Room, order: tuple[timedelta, ...], at_once: str
) -> None:
    service = ShopService(room.database, [], [SECRET])
    for ago in order:
        source = "early" if ago is EARLY else "late"
        await telling.tell(service, registration("ann", ago, source))
        if at_once == "one by one":
            await hear(room)
    await hear(room)
    assert (await known(room.database, "ann"))[:4] == (date(2026, 11, 16), date(2026, 11, 16), 1, "early")
    cohorts = await room.database.fetch("SELECT cohort_day FROM retention.cells WHERE segment = 0 AND active > 0")
    assert [row["cohort_day"] for row in cohorts] == [date(2026, 11, 16)]


@given(
    tellings=st.lists(
        st.tuples(
            st.sampled_from([timedelta(minutes=1), timedelta(days=1), timedelta(days=5), timedelta(days=40)]),
            st.sampled_from([None, "poster", "wechat"]),
        ),
        min_size=2,
        max_size=4,
    ),
    heard_after=st.sets(st.integers(0, 3)),
    visits=st.sets(st.sampled_from([0, 1, 3, 5]), max_size=2),
)
@examples(8)
def test_any_order_of_registrations_ends_the_same(
    servers: EmbeddedServers,
    tellings: Sequence[tuple[timedelta, str | None]],
    heard_after: set[int],
    visits: set[int],
) -> None:
    async def compare() -> None:
        async with test_servers.database(servers) as dsn:
            database = await connect_postgres(dsn, max_connections=4, acquire_seconds=5, statement_seconds=20)
            try:
                room, service = a_room(database), ShopService(database, [], [SECRET])
                orders = list(itertools.permutations(tellings))
                for step in range(len(tellings)):
                    await telling.tell(
                        service,
                        *(registration(f"u{number}", *order[step]) for number, order in enumerate(orders)),
                    )
                    if step in heard_after:
                        await hear(room)
                await hear(room)
                for number in range(len(orders)):
                    await room.see(*(sighting(f"u{number}", NOON - timedelta(days=day)) for day in visits))
                ends = [await known(database, f"u{number}") for number in range(len(orders))]
                assert len(set(map(str, ends))) == 1, (tellings, ends)
            finally:
                await database.close()

    asyncio.run(compare())


async def test_a_corrected_date_leaves_no_visit_behind_and_what_else_was_done_that_day_stays(room: Room) -> None:
    await room.see(registered("ann", "2026-03-09 12:00", "late"), registered("bob", "2026-03-09 12:00", "late"))
    await room.see(sighting("bob", "2026-03-09"))
    early = [registered("ann", "2026-03-01 12:00", "early"), registered("bob", "2026-03-01 12:00", "early")]
    await room.see(*early)
    ann, bob = await shopper.export(room.database, "ann"), await shopper.export(room.database, "bob")
    assert ann is not None
    assert bob is not None
    assert [one.day for one in ann.active_days] == [date(2026, 3, 1)]
    assert [(one.day, one.by) for one in bob.active_days] == [
        (date(2026, 3, 9), ["app"]),
        (date(2026, 3, 1), ["registration"]),
    ]
