"""Times that the shop tells: none counts before it has come, and what was refused for it can be told again, mended."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from growth.plumbing.postgres.database import Database
from growth.shop.order import hooks
from growth.shop.order.service import ShopService
from growth.vocabulary import clock
from tests.shop.order.telling import (
    JSON,
    NOON,
    closed,
    event,
    outcomes,
    paid,
    placed,
    received,
    refunded,
    registered,
    stored,
    tell,
)

pytestmark = pytest.mark.anyio

AHEAD = {
    "eight hours": timedelta(hours=8),
    "tomorrow": timedelta(days=1),
    "a little more than clocks differ": clock.MAX_AHEAD + timedelta(seconds=1),
    "another century": timedelta(days=365 * 70),
}


def iso(ahead: timedelta) -> str:
    return (NOON + ahead).isoformat()


def registered_at(ahead: timedelta) -> JSON:
    return event("shopper.registered", {"user_id": "u1", "registered_at": iso(ahead)}, id_="e")


def paid_at(ahead: timedelta) -> JSON:
    told = paid(id_="e")
    return told | {"data": told["data"] | {"paid_at": iso(ahead)}}


def placed_at(ahead: timedelta) -> JSON:
    told = placed(id_="e")
    return told | {"data": told["data"] | {"placed_at": iso(ahead)}}


TOLD: dict[str, Callable[[timedelta], JSON]] = {
    "data.registered_at": registered_at,
    "data.paid_at": paid_at,
    "data.placed_at": placed_at,
    "time": lambda ahead: paid(id_="e", time=iso(ahead)),
    "time (closed)": lambda ahead: closed(id_="e", time=iso(ahead)),
    "time (received)": lambda ahead: received(id_="e", time=iso(ahead)),
    "time (refunded)": lambda ahead: refunded(id_="e", time=iso(ahead)),
    "time (spent)": lambda ahead: event(
        "points.spent", {"spend_id": "s", "user_id": "u1", "points": 1}, id_="e", time=iso(ahead)
    ),
    "time (returned)": lambda ahead: event(
        "points.returned", {"spend_id": "s", "return_id": "r", "points": 1}, id_="e", time=iso(ahead)
    ),
}


@pytest.mark.parametrize("ahead", AHEAD.values(), ids=AHEAD)
@pytest.mark.parametrize("field", TOLD)
async def test_a_time_that_has_not_come_is_refused_by_name_and_the_mended_telling_is_taken(
    database: Database, service: ShopService, field: str, ahead: timedelta
) -> None:
    (refused,) = await tell(service, TOLD[field](ahead))
    assert outcomes([refused]) == ["rejected shop.in_future"]
    assert refused.detail == f"{field.partition(' ')[0]}: {clock.AHEAD}"
    assert not any((await stored(database)).values())
    # Under the same event id, and with the same words when the time has come.
    (mended,) = await tell(service, TOLD[field](-timedelta(minutes=1)))
    assert outcomes([mended]) in (["applied"], ["ignored shop.no_listener"])


FIRST = datetime(2000, 1, 1, tzinfo=UTC)
REFUSED = "rejected request.invalid"


def zones(instant: datetime) -> dict[str, str]:
    """The same instant, as it is told around the world."""
    hours = (-14, -5, 0, 8, 14)
    return {f"{instant:%Y} {at:+}": instant.astimezone(timezone(timedelta(hours=at))).isoformat() for at in hours}


EARLY = zones(FIRST - timedelta(seconds=1)) | {
    "the first there is": "0001-01-01T00:00:00Z",
    "before the first": "0001-01-01T00:00:00+14:00",
    "after the last": "9999-12-31T23:59:59-14:00",
}


@pytest.mark.parametrize("field", TOLD)
@pytest.mark.parametrize(
    ("instant", "is_taken"),
    [*((text, True) for text in zones(FIRST).values()), *((text, False) for text in EARLY.values())],
    ids=[*zones(FIRST), *EARLY],
)
async def test_years_are_bounded_as_instants_whatever_the_zone_they_are_told_in(
    service: ShopService, field: str, instant: str, is_taken: object
) -> None:
    told = msgspec.json.encode(TOLD[field](timedelta())).decode()
    assert iso(timedelta()) in told
    (result,) = await tell(service, msgspec.json.decode(told.replace(iso(timedelta()), instant)))
    assert outcomes([result])[0] in (["applied", "ignored shop.no_listener"] if is_taken else [REFUSED])


async def test_the_same_words_are_taken_when_their_time_has_come(database: Database, service: ShopService) -> None:
    told = paid_at(timedelta(hours=8))
    assert outcomes(await tell(service, told)) == ["rejected shop.in_future"]
    assert outcomes(await tell(service, told, now=NOON + timedelta(hours=8))) == ["applied"]


@pytest.mark.parametrize(
    ("field", "sql"),
    [
        ("data.registered_at", "SELECT registered_at FROM shop.shoppers"),
        ("data.paid_at", "SELECT paid_at FROM shop.orders"),
        ("data.placed_at", "SELECT placed_at FROM shop.orders"),
        ("time (closed)", "SELECT closed_at FROM shop.orders"),
        ("time (received)", "SELECT received_at FROM shop.orders"),
        ("time (refunded)", "SELECT refunded_at FROM shop.refunds"),
    ],
)
async def test_what_clocks_differ_by_is_held_to_now_and_told_again_is_the_same(
    database: Database, service: ShopService, field: str, sql: str
) -> None:
    told = TOLD[field](clock.MAX_AHEAD)
    assert outcomes(await tell(service, told)) == ["applied"]
    assert await database.fetchval(sql) == NOON
    assert outcomes(await tell(service, told, now=NOON + timedelta(minutes=9))) == ["duplicate applied"]
    (retold,) = await tell(service, told | {"id": "retold"}, now=NOON + timedelta(minutes=9))
    assert outcomes([retold]) == ["ignored shop.already_known"]
    assert await database.fetchval(sql) == NOON


async def test_a_clock_of_ours_that_steps_back_takes_nothing_away(service: ShopService) -> None:
    told = paid_at(timedelta())
    assert outcomes(await tell(service, told)) == ["applied"]
    early = NOON - timedelta(hours=1)
    # What was answered is answered alike; what is new waits for the clock, and is taken when that is right again.
    assert outcomes(await tell(service, told, closed("o2", time=iso(timedelta())), now=early)) == [
        "duplicate applied",
        "rejected shop.in_future",
    ]
    assert outcomes(await tell(service, closed("o2", time=iso(timedelta())))) == ["applied"]


async def test_without_the_bound_an_order_is_paid_in_another_century(
    database: Database, service: ShopService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "held_to", lambda _now, told: told)
    await tell(service, paid_at(timedelta(days=365 * 70)))
    told: datetime = await database.fetchval("SELECT paid_at FROM shop.orders")
    assert told > NOON + clock.MAX_AHEAD


async def test_what_was_rejected_may_be_told_otherwise_under_the_same_id(
    database: Database, service: ShopService
) -> None:
    wrong = placed("o1", user_id="u2", id_="e")
    assert outcomes(await tell(service, paid("o1"), wrong)) == ["applied", "rejected shop.contradicts"]
    assert outcomes(await tell(service, wrong)) == ["duplicate rejected"]
    mended = placed("o1", id_="e")
    assert outcomes(await tell(service, mended)) == ["applied"]
    assert outcomes(await tell(service, mended)) == ["duplicate applied"]
    assert outcomes(await tell(service, wrong)) == ["rejected shop.other_content"]
    assert await database.fetchval("SELECT user_id FROM shop.orders WHERE placed_at IS NOT NULL") == "u1"


async def test_a_registration_told_earlier_is_news_each_time(database: Database, service: ShopService) -> None:
    await tell(service, registered("u1", 5), registered("u1", 3, source="poster"), registered("u1", 4))
    told = await database.fetch("SELECT type, data FROM plumbing.outbox ORDER BY position")
    assert [row["type"] for row in told] == ["shop.shopper_registered", "shop.registration_corrected"]
