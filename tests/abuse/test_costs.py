"""No request's cost grows with a number in it: every numeric and date parameter of the document, at its ends.

Cost is this process' CPU time, of the best of a few tries, beside what the same call costs with the values that are
usual; and the size of the answer. Neither knows how busy the machine is.
"""

import copy
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from growth.embedded import EmbeddedServers
from growth.mechanics.checkin.streak.calendar import model as calendar
from growth.mechanics.checkin.streak.model import count, terms_of
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.vocabulary.clock import now, rfc3339
from tests import servers as test_servers
from tests.abuse.attacked import Attacked, Call, _resolved, attacked, body_schema

pytestmark = pytest.mark.anyio

TIMES, SPARE_SECONDS = 8, 0.06
"""How much more CPU an extreme may take than the usual: a walk over a century takes hundreds of milliseconds."""
TRIES = 3
HUGE = 2**63 - 1


@pytest.fixture(scope="module")
async def house(servers: EmbeddedServers) -> AsyncIterator[Attacked]:
    servers.ensure_running()
    async with test_servers.database(servers) as dsn, attacked(dsn, await test_servers.empty_valkey(servers)) as house:
        yield house


async def cost(house: Attacked, call: Call, url: str, body: Any = None) -> tuple[float, httpx.Response]:
    """The least CPU seconds of a few tries, and the last answer."""
    content = None if body is None else msgspec.json.encode(body)
    best = float("inf")
    headers = [(b"if-match", b'"1"')]
    answer = httpx.Response(204)
    for _ in range(TRIES):
        began = time.process_time()
        answer = await house.ask(call.method, url, token=house.credential(call), content=content, headers=headers)
        best = min(best, time.process_time() - began)
        assert answer.status_code < 500, (url, body, answer.text)
    return best, answer


DAYS = ["2000-01-01", "2020-01-01", "2099-12-31", "2100-12-31", "2199-12-31", "9999-12-31", "0001-01-01"]
INSTANTS = ["2000-01-01T00:00:00Z", "2099-12-31T00:00:00Z", "2199-01-01T00:00:00Z", "9998-12-31T00:00:00Z"]
MONTHS = ["2020-01", "2027-06", "2050-01", "2099-12"]


def extremes(schema: dict[str, Any]) -> list[Any]:
    """What a number or a date may be at most and at least, and what it may not; nothing of anything else."""
    choices = [one for one in schema.get("anyOf", schema.get("oneOf", [])) if one.get("type") != "null"]
    if choices:
        found = [value for choice in choices for value in extremes(choice)]
        return list(dict.fromkeys(found))
    types = schema.get("type", [])
    if not {"integer", "number"}.isdisjoint(types if isinstance(types, list) else [types]):
        return list(dict.fromkeys([schema.get("minimum", 0), schema.get("maximum", HUGE), HUGE]))
    if schema.get("format") == "date":
        return DAYS
    if schema.get("format") == "date-time":
        return INSTANTS
    return MONTHS if "(0[1-9]|1[0-2])" in schema.get("pattern", "") else []


def cheap(least: float, usual: float) -> bool:
    return least <= usual * TIMES + SPARE_SECONDS


async def test_no_parameter_of_a_query_makes_its_call_dear(house: Attacked) -> None:
    asked, dear = 0, []
    for call in house.calls:
        if call.caller not in {"operator", "shopper"} or call.method != "GET":
            continue
        usual, _ = await cost(house, call, house.url(call))
        for parameter in call.operation.get("parameters", ()):
            values = extremes(parameter["schema"]) if parameter["in"] == "query" else []
            for value in values:
                asked += 1
                least, answer = await cost(house, call, f"{house.url(call)}?{parameter['name']}={value}")
                if not cheap(least, usual):
                    dear.append((call.name, parameter["name"], value, round(least, 3), round(usual, 3)))
                assert len(answer.content) < 100_000, (call.name, parameter["name"], value)
        names = {parameter["name"] for parameter in call.operation.get("parameters", ())}
        if {"from", "to"} <= names:
            # Both ends at once, and as many columns as there may be.
            least, answer = await cost(house, call, f"{house.url(call)}?from=2000-01-01&to=2100-12-31&days=365")
            if not cheap(least, usual):
                dear.append((call.name, "from", "to", round(least, 3), round(usual, 3)))
    assert asked >= 150
    assert dear == []


async def test_without_reckoning_a_month_far_ahead_is_dear(house: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    (call,) = [one for one in house.calls if one.name == "checkin_calendar_get"]
    usual, _ = await cost(house, call, house.url(call))

    def walking(standing: Any, first: Any, last: Any, almanac: Any) -> Any:
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            program = almanac.program_on(day)
            if program is not None and (standing.last_day is None or standing.last_day < day):
                standing = count(standing, day, terms_of(program), almanac.history)
        return standing

    monkeypatch.setattr(calendar, "ahead", walking)
    least, _ = await cost(house, call, f"{house.url(call)}?month=2099-12")
    assert not cheap(least, usual)


def drafts(house: Attacked) -> dict[str, Any]:
    """A body that is right as a whole, for the calls whose fields depend on each other."""
    opens_at = now() + timedelta(hours=1)
    times = {"opens_at": rfc3339(opens_at), "closes_at": rfc3339(opens_at + timedelta(days=2))}
    sold = {"title": "Tea", "sku": "cost", "price_fen": 5000, "list_price_fen": 9900, "units_total": 300}
    points = [{"type": "points", "points": 1, "valid_days": 5}]
    series_times = {"zone": "Asia/Shanghai", "days_of_week": ["mon"], "start_time": "12:00", "duration_minutes": 30}
    day = str(house.app.growth.of(Almanacs).zone.day(now()))
    return {
        "admin_flash_sale_create": sold | times | {"max_per_shopper": 1, "hold_seconds": 300},
        "admin_group_buy_create": sold | times | {"team_size": 3, "team_hours": 24, "hold_seconds": 900},
        "admin_flash_sale_series_create": {
            "title": "Noon",
            "items": [sold],
            "from_day": day,
            "until_day": "2030-01-01",
            **series_times,
        },
        "admin_task_create": {
            "title": "Look",
            "event_type": "product.viewed",
            "count": 3,
            "reward": points,
            **times,
        },
        "admin_checkin_program_create": {
            "title": "Daily",
            "from_day": day,
            "until_day": "2027-06-01",
            "rewards": [points],
            "milestones": [{"days": 3, "rewards": points}],
            "pauses": [{"from_day": day, "until_day": day}],
            "make_up_within_days": 7,
        },
        "admin_coupon_template_create": {
            "title": "Off",
            "discount": {"type": "fixed", "off_fen": 1000},
            "threshold_fen": 3000,
            "validity": {"type": "days", "days": 30},
            "units_total": 1000,
        },
        "admin_referral_program_create": {
            "title": "Invite",
            "level_1": {"type": "percent", "basis_points": 1000},
            "milestones": [{"invitees": 3, "rewards": points}],
        },
        "admin_checkin_program_dry_run": {"user_id": "attacker", "now": rfc3339(now()), "every_day": True},
        "admin_flash_sale_dry_run": {"user_id": "attacker", "now": rfc3339(now()), "units": 1},
        "admin_group_buy_dry_run": {"user_id": "attacker", "now": rfc3339(now())},
        "admin_flash_sale_series_dry_run": {"now": rfc3339(now())},
        "coupon_cart_quote": {
            "lines": [{"line_id": "1", "sku": "tea", "units": 3, "amount_fen": 9000}],
            "coupon_id": house.ids["coupon_id"],
        },
        "checkin_day_make_up": {"day": day},
        "withdrawal_request": {"amount_fen": 1000},
    }


def leaves(document: Any, schema: Any, body: Any) -> Iterator[tuple[list[Any], list[Any]]]:
    """The way to each number and date that a body has or could have, and what to put there."""
    schema = _resolved(document, schema)
    for choice in [one for one in schema.get("anyOf", []) + schema.get("oneOf", []) if one.get("type") != "null"]:
        yield from leaves(document, choice, body)
    for name, member in schema.get("properties", {}).items():
        inner = body.get(name) if isinstance(body, dict) else None
        for way, values in leaves(document, member, inner):
            yield [name, *way], values
    if "items" in schema and isinstance(body, list) and body:
        for way, values in leaves(document, schema["items"], body[0]):
            yield [0, *way], values
    if values := ([] if schema.get("anyOf") or schema.get("oneOf") else extremes(schema)):
        yield [], values


def put(body: Any, way: list[Any], value: Any) -> Any:
    changed = copy.deepcopy(body)
    place = changed
    for step in way[:-1]:
        if isinstance(place, dict) and step not in place:
            place[step] = {}
        place = place[step]
        if not isinstance(place, dict | list):
            return None
    place[way[-1]] = value
    return changed


async def test_no_field_of_a_body_makes_its_call_dear(house: Attacked) -> None:
    bases = drafts(house)
    asked, done, dear = 0, 0, []
    for call in house.calls_with_json():
        base = bases.get(call.name, {})
        usual, first = await cost(house, call, house.url(call), base)
        done += first.status_code < 300
        for way, values in leaves(house.document, body_schema(call), base):
            for value in values:
                if (changed := put(base, way, value)) is None:
                    continue
                asked += 1
                least, _ = await cost(house, call, house.url(call), changed)
                if not cheap(least, usual):
                    dear.append((call.name, way, value, round(least, 3), round(usual, 3)))
    assert asked >= 300
    assert done >= 8, "the bodies are right, so their numbers are looked at"
    assert dear == []


MARKS = "a" + "\u0315" * 15_000 + "\u0300" * 15_000
"""Which Unicode wants sorted: 15,000 above 15,000 below, and the other way round."""


async def test_a_text_of_marks_upon_marks_costs_no_more_than_another(house: Attacked) -> None:
    dear = []

    def events(text: str) -> Any:
        told = {"id": "x", "type": "product.viewed", "at": rfc3339(now()), "data": {"sku": text}}
        return {"events": [told]}

    def lines(text: str) -> Any:
        return {"lines": [{"line_id": text, "sku": "a", "units": 1, "amount_fen": 3}]}

    for path, body in (("/v1/events", events), ("/v1/coupons/quote", lines)):
        (call,) = [one for one in house.calls if one.path == path and one.method == "POST"]
        usual, _ = await cost(house, call, path, body("\u00e9" * 30_000))
        least, _ = await cost(house, call, path, body(MARKS))
        if not cheap(least, usual):
            dear.append((path, round(least, 3), round(usual, 3)))
    (call,) = [one for one in house.calls if one.path == "/admin/v1/grants" and one.method == "GET"]
    for url in ("/admin/v1/shoppers/{}/ledger/points", "/nothing?x={}", "/admin/v1/grants?user_id={}"):
        usual, _ = await cost(house, call, url.format(quote("\u00e9" * 10_000)))
        least, _ = await cost(house, call, url.format(quote(MARKS[::3])))
        if not cheap(least, usual):
            dear.append((url, round(least, 3), round(usual, 3)))
    assert dear == []
