"""A batch is taken event by event: what is right is in the log once, what is not is named, nobody harms a neighbour."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from growth.plumbing.http.limits import Limiter, TooManyRequests
from growth.plumbing.postgres.database import Database, Reader
from growth.plumbing.redis.client import AnyRedis
from growth.shopper.activity import model, store
from growth.shopper.activity.model import EventTold, LogEntry, Rejection, read_batch
from growth.shopper.activity.service import MAX_CALLS_WAITING, BatchTaken, Events
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.refusals import Refusal, Unavailable
from tests.patience import PATIENCE_SECONDS
from tests.shopper.activity.telling import NOW, ago, counts, event, names, raw_of, tell

pytestmark = pytest.mark.anyio

CALLERS = 64
LONG_TEXT = "x" * (model.MAX_TEXT_CHARACTERS + 1)


async def test_what_is_taken_is_in_the_log_as_it_was_told(database: Database, events: Events) -> None:
    data = {"sku": "tea", "share": 1.5, "count": -3, "ok": True, "none": None, "text": 'ü"🎈\\'}
    taken = await tell(events, event("a", at="2026-11-22T09:00:00.123456+08:00") | {"at": ago(hours=1), "data": data})
    assert counts(taken) == (1, 0, [])
    row = await database.fetchrow("SELECT * FROM activity.log")
    assert row is not None
    assert (row["subject"], row["event_id"], row["type"], row["at"]) == (
        "u1",
        "a",
        "product.viewed",
        NOW - timedelta(hours=1),
    )
    assert json.loads(row["data"]) == data
    assert row["day"] == row["at"].date()


async def test_each_event_comes_once_however_often_it_is_told(database: Database, events: Events) -> None:
    assert counts(await tell(events, event("a"), event("b"), event("a"))) == (2, 1, [])
    assert counts(await tell(events, event("a"), event("b"), event("c"))) == (1, 2, [])
    assert counts(await tell(events, event("a"), user_id="u2")) == (1, 0, [])
    assert await names(database) == ["a", "b", "c", "a"]


async def test_an_id_counts_once_a_day_whatever_else_is_said_with_it(database: Database, events: Events) -> None:
    start = NOW.replace(hour=0, minute=0, second=0)
    noon = [rfc3339(start - timedelta(days=days, hours=12)) for days in (0, 0, 1)]
    told = [event("a", at=noon[0]), event("a", "app.opened", at=ago(hours=24)), event("a", at=noon[2])]
    days = {one["at"][:10] for one in told}
    assert counts(await tell(events, *told)) == (len(days), 3 - len(days), [])
    assert await database.fetchval("SELECT count(*) FROM activity.log") == len(days)


BAD: list[tuple[object, str]] = [
    (event(type_="order.paid"), "event.unknown_type"),
    (event() | {"type": 7}, "event.unknown_type"),
    (event(""), "event.bad_id"),
    (event("a b"), "event.bad_id"),
    (event("shop/x"), "event.bad_id"),
    (event("x" * 65), "event.bad_id"),
    (event() | {"id": 7}, "event.bad_id"),
    (event("a\n"), "event.bad_id"),
    ({}, "event.bad_id"),
    ({"id": "a", "type": "app.opened"}, "event.bad_at"),
    (event(at="yesterday"), "event.bad_at"),
    (event(at="2026-11-22T09:00:00"), "event.bad_at"),
    (event() | {"at": 1763802000}, "event.bad_at"),
    (event(at=ago(hours=72, seconds=1)), "event.too_old"),
    (event(at="2000-01-01T00:00:00Z"), "event.too_old"),
    (event(at=ago(minutes=-5, seconds=-1)), "event.in_future"),
    (event(at="9998-01-01T00:00:00Z"), "event.in_future"),
    (event() | {"data": {f"k{number}": 1 for number in range(model.MAX_KEYS + 1)}}, "event.data_too_large"),
    (event(note=LONG_TEXT), "event.data_too_large"),
    (event(list=[1]), "event.bad_data"),
    (event(deep={"a": 1}), "event.bad_data"),
    (event(big=2**63), "event.bad_data"),
    (event() | {"data": {"a b": 1}}, "event.bad_data"),
    (event() | {"data": {"x" * 41: 1}}, "event.bad_data"),
    (event(nul="\0"), "event.bad_data"),
    (event() | {"data": [1]}, "event.bad_data"),
    (event() | {"data": None}, "event.bad_data"),
    (event() | {"user_id": "u2"}, "event.malformed"),
    ([], "event.malformed"),
    (None, "event.malformed"),
    ("a", "event.malformed"),
]


async def test_bad_events_are_named_and_their_neighbours_are_taken(database: Database, events: Events) -> None:
    taken = await tell(events, event("first"), *(bad for bad, _ in BAD), event("last"))
    assert counts(taken) == (2, 0, [(place, code) for place, (_, code) in enumerate(BAD, 1)])
    for bad, code in BAD:
        assert counts(await tell(events, bad)) == (0, 0, [(0, code)])
    assert await names(database) == ["first", "last"]


async def test_missing_and_unknown_fields_are_named(events: Events) -> None:
    taken = await tell(events, {"id": "a", "type": "app.opened"}, event() | {"user_id": "u2"})
    assert [one.detail for one in taken.rejected] == [
        "at: This field is required",
        "user_id: There is no such field here",
    ]


async def test_the_edges_of_time_and_size_are_taken(events: Events) -> None:
    taken = await tell(
        events,
        event("a", at=ago(hours=72)),
        event("b", at=ago(minutes=-5)),
        event("c", note="ü" * model.MAX_TEXT_CHARACTERS),
        event("d") | {"data": {f"k{number}": number for number in range(model.MAX_KEYS)}},
        event("e", big=2**63 - 1, small=-(2**63)),
        {"id": "f", "type": "app.opened", "at": ago(minutes=1)},
        event("x" * 64),
    )
    assert counts(taken) == (7, 0, [])


MALFORMED: list[tuple[bytes, str]] = [
    (b"", "body"),
    (b"[]", "body"),
    (b"null", "body"),
    (b"{}", "events"),
    (b'{"events":{}}', "events"),
    (b'{"events":[]', "body"),
    (b'{"events":[1,]}', "body"),
    (b'{"events":[],"user_id":"u2"}', "user_id"),
    (b'{"events":[],"events":[]}', "events"),
    (b'{"\\u0065vents":[],"events":[{}]}', "events"),
    (b'{"events":[' + b",".join([b"{}"] * 101) + b"]}", "events"),
    (b'{"events":[]}garbage', "body"),
]


async def test_a_batch_that_is_wrong_as_a_whole_is_refused_with_the_field(database: Database, events: Events) -> None:
    for raw, field in MALFORMED:
        with pytest.raises(Refusal) as refused:
            await events.take("u1", raw, NOW)
        assert (refused.value.kind.code, refused.value.kind.status) == ("request.invalid", 400)
        errors = refused.value.members["errors"]
        assert isinstance(errors, list)
        assert errors[0].field == field, raw
    assert await names(database) == []


async def test_a_key_given_twice_is_seen_by_either_way_of_reading(events: Events) -> None:
    twice = f'{{"id":"a","type":"app.opened","at":"{ago(minutes=1)}","data":{{"a":1,"a" :2}}}}'
    nested = f'{{"id":"b","id":"c","type":"app.opened","at":"{ago(minutes=1)}"}}'
    good = json.dumps(event("good", text=":x"))
    taken = await events.take("u1", f'{{"events":[{twice},{nested},{good}]}}'.encode(), NOW)
    assert counts(taken) == (1, 0, [(0, "event.bad_data"), (1, "event.bad_id")])


async def test_an_empty_batch_is_nothing(database: Database, events: Events) -> None:
    assert counts(await tell(events)) == (0, 0, [])
    assert await names(database) == []


# --- at the same time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 4])
async def test_64_callers_with_the_same_events_have_each_counted_once(
    database: Database, limiter: Limiter, replicas: int
) -> None:
    """However they are ordered in each batch, on however many processes: nobody waits in a circle."""
    processes = [Events(database, limiter) for _ in range(replicas)]
    told = [event(f"e{number:02}") for number in range(50)]
    dice = Random(replicas)
    batches = [dice.sample(told, len(told)) for _ in range(CALLERS)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        answers = await asyncio.gather(
            *(tell(processes[place % replicas], *batch) for place, batch in enumerate(batches))
        )
    assert sum(taken.accepted for taken in answers) == 50
    assert sum(taken.duplicate for taken in answers) == 50 * (CALLERS - 1)
    assert sorted(await names(database)) == sorted(one["id"] for one in told)


async def test_each_caller_is_told_of_its_own_duplicates(events: Events) -> None:
    await tell(events, event("known"), user_id="u0")
    answers = await asyncio.gather(
        *(
            tell(events, event("known"), event(place), event(place), user_id=f"u{place}" if place else "u0")
            for place in range(CALLERS)
        )
    )
    assert counts(answers[0]) == (1, 2, [])
    assert all(counts(taken) == (2, 1, []) for taken in answers[1:])


async def test_callers_share_statements(database: Database, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = store.write

    async def counted(reader: Reader, entries: Sequence[LogEntry], *proof: Any) -> frozenset[int]:
        sizes.append(len(entries))
        return await real(reader, entries, *proof)

    monkeypatch.setattr(store, "write", counted)
    await asyncio.gather(*(tell(events, event(place), event("x")) for place in range(CALLERS)))
    assert sum(sizes) == 2 * CALLERS
    assert len(sizes) <= 4
    assert await database.fetchval("SELECT count(*) FROM activity.log") == CALLERS + 1


async def test_without_the_key_of_the_log_what_two_processes_are_told_counts_twice(
    database: Database, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: looking first and writing then is not enough."""
    await database.fetch("ALTER TABLE activity.log DROP CONSTRAINT log_pkey")
    both = asyncio.Barrier(2)

    async def look_then_write(reader: Reader, entries: Sequence[LogEntry], *_: Any) -> frozenset[int]:
        known = set(await names(reader))
        await both.wait()
        for place, entry in enumerate(entries):
            if entry.event_id not in known:
                await reader.fetch(
                    "INSERT INTO activity.log (day, position, event_id, type, subject, at, data)"
                    " VALUES (($4::timestamptz AT TIME ZONE 'UTC')::date, $5, $1, $2, $3, $4, '{}')",
                    entry.event_id,
                    entry.type,
                    entry.subject,
                    entry.at,
                    place,
                )
        return frozenset()

    monkeypatch.setattr(store, "write", look_then_write)
    answers = await asyncio.gather(*(tell(Events(database, limiter), event("a")) for _ in range(2)))
    assert [counts(taken) for taken in answers] == [(1, 0, [])] * 2
    assert await names(database) == ["a", "a"]


async def test_more_calls_than_may_wait_are_turned_away(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = asyncio.Event()

    async def stuck(_: Reader, __: Sequence[LogEntry], *___: Any) -> frozenset[int]:
        await may_go_on.wait()
        return frozenset()

    monkeypatch.setattr(store, "write", stuck)
    calls = [asyncio.create_task(tell(events, event(place))) for place in range(MAX_CALLS_WAITING + 64)]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
    assert any(isinstance(call.exception(), Unavailable) for call in done)
    may_go_on.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, Unavailable) for one in ended) <= 64
    assert all(isinstance(one, Unavailable | BatchTaken) for one in ended)


# --- the share of one shopper ---------------------------------------------------------------------------------------


async def test_a_shopper_who_tells_too_much_is_refused_and_nothing_is_written(
    database: Database, redis: AnyRedis
) -> None:
    events = Events(database, Limiter(redis, "events", per_second=0.001, burst=100))
    await tell(events, *(event(place) for place in range(60)))
    with pytest.raises(TooManyRequests):
        await tell(events, *(event(f"b{place}") for place in range(60)))
    await tell(events, event("other"), user_id="u2")
    assert await database.fetchval("SELECT count(*) FROM activity.log") == 61


# --- two ways of reading, one result --------------------------------------------------------------------------------

TEXTS = st.text(max_size=6) | st.sampled_from(["a", "tea", ":x", '"', "\\", "0001-01-01T00:00:00Z", "\0", "\ud800"])
SCALARS = TEXTS | st.integers(-(2**65), 2**65) | st.floats() | st.booleans() | st.none()
DATA = st.dictionaries(st.sampled_from(["sku", "from", "a b", ":", ""]) | st.text(max_size=3), SCALARS, max_size=4)
EVENTS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a", "b-1", "", "a b", "ü"]) | st.text(max_size=3),
        "type": st.sampled_from(["app.opened", "product.viewed", "x"]),
        "at": st.sampled_from([ago(minutes=1), ago(hours=100), "x", "0001-01-01T00:00:00Z"]),
    },
    optional={"data": DATA | SCALARS, "user_id": st.just("u2")},
)


def _told(result: Sequence[EventTold | Rejection]) -> list[tuple[object, ...]]:
    return [
        (one.index, one.code) if isinstance(one, Rejection) else (one.id, one.type, one.at, repr(one.data))
        for one in result
    ]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(told=st.lists(EVENTS | SCALARS, max_size=4), blanks=st.booleans())
def test_reading_at_once_and_one_by_one_say_the_same(told: list[object], *, blanks: bool) -> None:
    raw = json.dumps({"events": told}, separators=(" ,", " : ") if blanks else (",", ":"), allow_nan=True).encode()
    ways = []
    for read in (read_batch, model._read_each):
        try:
            ways.append(_told(read(raw)))
        except Refusal as refusal:
            ways.append([(refusal.detail,)])
    assert ways[0] == ways[1]


@settings(deadline=None)
@given(raw=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_whatever_comes_is_read_or_refused(raw: bytes) -> None:
    for body in (raw, b'{"events":[' + raw + b"]}", b'{"events":[{"id":' + raw + b"}]}"):
        with contextlib.suppress(Refusal):
            assert all(isinstance(one, Rejection | EventTold) for one in read_batch(body))


def test_a_bad_event_in_a_good_batch_is_found_by_its_index() -> None:
    told = [event(place) for place in range(100)]
    told[37]["type"] = "x"
    (rejected,) = [one for one in read_batch(raw_of(*told)) if isinstance(one, Rejection)]
    assert (rejected.index, rejected.code) == (37, "event.unknown_type")
