"""What the shop signs is not believed for that: every field of every kind of event, made to hurt."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from growth.vocabulary.clock import now
from tests.abuse.attacked import VICTIM, Attacked
from tests.app import JSON
from tests.shop.order import telling

pytestmark = pytest.mark.anyio

NUMBERS = ["-1", "1.5", "1.0", "true", '"1"', "9007199254740993", "1e400", "-9223372036854775809", "[]", "1" * 400]
TEXTS = ['"a\\u0000b"', '"\\ud800"', '"a\\u202eb"', '"a\\u001b[1m"', '" a"', "5", "[]", f'"{"a" * 5000}"']
TIMES = ['"yesterday"', '"2026-11-21"', '"2026-11-21T12:00:00"', '"2026-02-30T00:00:00Z"', "1795262400", "NaN"]
MARK = "the value in question"


def told() -> list[JSON]:
    """One event of each kind, right in every field."""
    points = {"spend_id": "s1", "user_id": VICTIM, "points": 1}
    back = {"spend_id": "s1", "return_id": "r1", "points": 1}
    orders = [telling.placed("x1", user_id=VICTIM), telling.paid("x1", user_id=VICTIM), telling.refunded("x1")]
    others = [telling.closed("x1"), telling.received("x1"), telling.registered(VICTIM)]
    activity = {"user_id": VICTIM, "data": {"sku": "tea"}}
    more = [("points.spent", points), ("points.returned", back), ("product.viewed", activity)]
    return orders + others + [telling.event(kind, data) for kind, data in more]


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every place in an event that holds no object."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))
    else:
        yield path, value


def with_value(event: JSON, path: tuple[str | int, ...], raw: str) -> str:
    changed: Any = json.loads(json.dumps(event))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = MARK
    return json.dumps(changed).replace(f'"{MARK}"', raw)


def wrongs(path: tuple[str | int, ...], value: object) -> list[str]:
    last = str(path[-1])
    if path[:1] != ("data",) or last in ("sku", "source", "reason"):
        return []
    if isinstance(value, int):
        return NUMBERS
    return TIMES if last.endswith("_at") else TEXTS


@pytest.mark.parametrize("event", told(), ids=lambda event: event["type"])
async def test_a_wrong_field_is_rejected_and_leaves_no_row(house: Attacked, event: JSON) -> None:
    asked = 0
    for path, value in places(event):
        raws = [with_value(event, path, wrong) for wrong in wrongs(path, value)]
        if not raws:
            continue
        # One by one what no reader takes as JSON, which is refused as a whole; the others together.
        answer = await house.hook(f"[{','.join(raws)}]".encode())
        answers = [answer] if answer.status_code == 200 else [await house.hook(raw.encode()) for raw in raws]
        for one in answers:
            assert one.status_code in (200, 400), one.text
            for result in one.json().get("results", ()):
                asked += 1
                assert result["outcome"] == "rejected", (path, result)
    assert asked >= 6


async def test_an_event_with_more_in_it_than_there_is_changes_nothing(house: Attacked) -> None:
    """Unknown members are for shops that know more than we; none of them is one of ours."""
    foreign = {
        "state": "paid",
        "user_ids": [VICTIM],
        "inviter": VICTIM,
        "approved": True,
        "__proto__": {"role": "admin"},
    }
    event = telling.closed("never-was")
    event["data"] |= foreign
    event["time"] = now().isoformat()
    answer = await house.hook(json.dumps([event | {"specversion": "0.3"}]).encode())
    assert [one["outcome"] for one in answer.json()["results"]] == ["rejected"]


SPELLINGS = ["2026-11-21 12:00:00", "20261121T120000Z", "2026-11-21T12:00:00+99:99", "2026-11-21T24:00:01Z", "0", "now"]
SPELLINGS += ["2026-11-21T12:00:00z[Asia/Shanghai]", "２０２６-11-21T12:00:00Z", "-2026-11-21T12:00:00Z", "1e400"]  # noqa: RUF001


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_moment_is_told_in_one_spelling(house: Attacked, spelling: str) -> None:
    told = {"id": "e1", "type": "app.opened", "at": spelling, "data": {}}
    raw = json.dumps({"events": [told]}).encode()
    answer = await house.ask("POST", "/v1/events", token=house.token(), content=raw)
    assert answer.status_code == 202, answer.text
    assert [one["index"] for one in answer.json()["rejected"]] == [0], answer.text
    assert answer.json()["accepted"] == 0


EVENTS = {
    "a key twice": '{"id":"e1","id":"e2","type":"app.opened","at":"2026-11-21T12:00:00Z","data":{}}',
    "1e400": '{"id":"e1","type":"app.opened","at":"2026-11-21T12:00:00Z","data":{"a":1e400}}',
    "a lone surrogate": '{"id":"e1","type":"app.opened","at":"2026-11-21T12:00:00Z","data":{"a":"\\ud800"}}',
    "NUL": '{"id":"e1","type":"app.opened","at":"2026-11-21T12:00:00Z","data":{"a":"\\u0000"}}',
    "deep": '{"id":"e1","type":"app.opened","at":"2026-11-21T12:00:00Z","data":{"a":' + "[" * 900 + "]" * 900 + "}}",
    "too much": '{"id":"e1","type":"app.opened","at":"2026-11-21T12:00:00Z","data":{"a":"' + "x" * 5000 + '"}}',
    "somebody else's": '{"id":"e1","type":"app.opened","at":"2026-11-21T12:00:00Z","data":{},"user_id":"victim"}',
    "the shop's word": '{"id":"e1","type":"order.paid","at":"2026-11-21T12:00:00Z","data":{}}',
}


@pytest.mark.parametrize("wrong", EVENTS)
async def test_what_clients_tell_wrong_is_refused_or_rejected_with_its_index(house: Attacked, wrong: str) -> None:
    answer = await house.ask(
        "POST", "/v1/events", token=house.token(), content=f'{{"events":[{EVENTS[wrong]}]}}'.encode()
    )
    assert answer.status_code in (202, 400), answer.text
    if answer.status_code == 202:
        assert (answer.json()["accepted"], [one["index"] for one in answer.json()["rejected"]]) == (0, [0]), answer.text


async def test_a_batch_has_a_hundred_events_and_64_kib_at_most(house: Attacked) -> None:
    event = '{"id":"e","type":"no.such","at":"x","data":{}}'
    for raw, status in ((f'{{"events":[{",".join([event] * 101)}]}}', 400), (f'{{"events":[]{" " * 65_536}}}', 413)):
        answer = await house.ask("POST", "/v1/events", token=house.token(), content=raw.encode())
        assert answer.status_code == status, answer.text
