"""Check-ins over HTTP."""

from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.outbox.outbox import deliver
from growth.tables import reactions
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from growth.vocabulary.rewards import MakeUpCardReward
from tests.app import RunningApp, running_app

pytestmark = pytest.mark.anyio

PROGRAMS = "/admin/v1/check-in-programs"


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> Any:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app


def a_draft(app: RunningApp, **changes: Any) -> dict[str, Any]:
    today = app.growth.of(Almanacs).zone.day(now())
    plain = {
        "title": "Every day",
        "from_day": today.isoformat(),
        "rewards": [[{"type": "points", "points": 1}], [{"type": "points", "points": 2}]],
        "milestones": [{"days": 3, "rewards": [{"type": "make_up_card", "cards": 1}]}],
    }
    return plain | changes


async def published(app: RunningApp, **changes: Any) -> dict[str, Any]:
    made = await app.operator("POST", PROGRAMS, a_draft(app, **changes))
    assert made.status_code == 201, made.text
    told = await app.operator("POST", f"{PROGRAMS}/{made.json()['program_id']}/publish")
    assert told.status_code == 200, told.text
    program: dict[str, Any] = told.json()
    return program


async def test_the_first_tap_is_201_and_the_next_200_with_the_same_body(app: RunningApp) -> None:
    await published(app)
    first = await app.shopper("ann", "POST", "/v1/check-ins")
    again = await app.shopper("ann", "POST", "/v1/check-ins", {})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.content == again.content
    body = first.json()
    assert (body["streak"], body["reward"]) == (1, [{"type": "points", "points": 1, "valid_days": None}])
    assert (body["next_milestone"]["days"], body["next_milestone"]["in_days"]) == (3, 2)


async def test_a_tap_under_its_key_is_told_again_as_it_was(app: RunningApp) -> None:
    await published(app)
    first = await app.shopper("ann", "POST", "/v1/check-ins", Idempotency_Key="k")
    again = await app.shopper("ann", "POST", "/v1/check-ins", Idempotency_Key="k")
    assert (first.status_code, again.status_code, again.headers["idempotent-replayed"]) == (201, 201, "true")
    assert first.content == again.content


async def test_the_short_cut_answers_what_the_routes_answer(app: RunningApp) -> None:
    """An odd content type, which only the ordinary routes read, is the way past the short cut."""
    past = {"content-type": 'application/json; charset="utf-8"'}
    for state in ("nothing", "open", "again"):
        if state == "open":
            await published(app)
        told = []
        for user_id, headers in ((f"a{state != 'again'}", {}), (f"b{state != 'again'}", past)):
            sent = {**app.shopper_headers(user_id), "content-type": "application/json", **headers}
            answer = await app.client.post("/v1/check-ins", content=b"{}", headers=sent)
            told.append((answer.status_code, {**answer.json(), "request_id": ""}, answer.headers["content-type"]))
        assert told[0] == told[1], state
    for headers in ({}, {"authorization": "Bearer x"}):
        assert (await app.client.post("/v1/check-ins", headers=headers)).status_code == 401
    text = {**app.shopper_headers("ann"), "content-type": "text/plain"}
    assert (await app.client.post("/v1/check-ins", content=b"{}", headers=text)).status_code == 415


@pytest.mark.parametrize("body", [{"day": "2026-01-01"}, {"zone": "Asia/Tokyo"}, [], 1])
async def test_nobody_names_the_day_of_a_tap(app: RunningApp, body: object) -> None:
    await published(app)
    told = await app.shopper("ann", "POST", "/v1/check-ins", body)
    assert (told.status_code, told.json()["code"]) == (400, "request.invalid")


async def test_a_program_needs_no_more_than_a_title_and_a_first_day(app: RunningApp) -> None:
    draft = a_draft(app)
    made = await app.operator("POST", PROGRAMS, {name: draft[name] for name in ("title", "from_day")})
    assert [row[0]["points"] for row in made.json()["rewards"]] == [1, 1, 1, 1, 1, 1, 10]


@pytest.mark.one_day
async def test_the_month_shows_what_there_is(app: RunningApp) -> None:
    await published(app)
    await app.shopper("ann", "POST", "/v1/check-ins")
    today = app.growth.of(Almanacs).zone.day(now())
    told = await app.shopper("ann", "GET", f"/v1/check-ins?month={today:%Y-%m}")
    assert told.status_code == 200, told.text
    page = told.json()
    assert (page["today_state"], page["streak"], page["longest_streak"], page["reminder"]) == (
        "checked_in",
        1,
        1,
        False,
    )
    assert (page["make_ups_left"], page["make_up_cards"], page["freeze_cards"]) == (3, 0, 0)
    assert 0 < page["day_ends_in_ms"] <= 86_400_000
    states = {one["day"]: one["state"] for one in page["days"]}
    assert states[today.isoformat()] == "checked_in"
    last_year = await app.shopper("ann", "GET", "/v1/check-ins?month=2025-02")
    assert {one["state"] for one in last_year.json()["days"]} == {"closed"}
    assert len(last_year.json()["days"]) == 28
    assert last_year.json()["today_state"] == "checked_in"
    for wrong in ("2026-13", "2026-1", "26-01", "2026-01-01", "2026-01%0A"):
        assert (await app.shopper("ann", "GET", f"/v1/check-ins?month={wrong}")).status_code == 400


@pytest.mark.one_day
async def test_a_make_up_is_refused_with_its_reason(app: RunningApp) -> None:
    await published(app)
    today = app.growth.of(Almanacs).zone.day(now())
    for days, code in ((0, "checkin.future_day"), (5, "checkin.before_program"), (-1, "checkin.future_day")):
        day = (today - timedelta(days=days)).isoformat()
        told = await app.shopper("ann", "POST", "/v1/check-ins/make-ups", {"day": day})
        assert (told.status_code, told.json()["code"]) == (409, code)
    for wrong in ("2026-02-30", "0001-01-01", "9999-12-31", "x", 20260101, None):
        told = await app.shopper("ann", "POST", "/v1/check-ins/make-ups", {"day": wrong})
        assert (told.status_code, told.json()["code"]) == (400, "request.invalid"), wrong


async def test_the_reminder_is_asked_for_and_taken_back(app: RunningApp) -> None:
    for method, wants in (("PUT", True), ("PUT", True), ("DELETE", False), ("DELETE", False)):
        assert (await app.shopper("ann", method, "/v1/check-ins/reminder")).status_code == 204
        assert (await app.shopper("ann", "GET", "/v1/check-ins")).json()["reminder"] is wants


async def test_a_program_lives_as_campaigns_do(app: RunningApp) -> None:
    program = await published(app)
    path = f"{PROGRAMS}/{program['program_id']}"
    other = (await app.operator("POST", PROGRAMS, a_draft(app))).json()
    overlap = await app.operator("POST", f"{PROGRAMS}/{other['program_id']}/publish")
    assert (overlap.status_code, overlap.json()["code"]) == (409, "checkin.overlap")
    stale = await app.operator("PUT", path, a_draft(app), If_Match='"1"')
    assert (stale.status_code, stale.json()["code"]) == (412, "checkin.version_mismatch")
    changed = await app.operator("PUT", path, a_draft(app, title="New"), If_Match=f'"{program["version"]}"')
    assert (changed.status_code, changed.json()["title"]) == (200, "New")
    paused = await app.operator("POST", f"{path}/pause")
    assert paused.json()["state"] == "paused"
    refused = await app.shopper("ann", "POST", "/v1/check-ins")
    assert (refused.status_code, refused.json()["code"]) == (409, "checkin.paused")
    assert (await app.operator("POST", f"{path}/resume")).json()["state"] == "published"
    assert (await app.shopper("ann", "POST", "/v1/check-ins")).status_code == 201
    ended = await app.operator("POST", f"{path}/end")
    assert ended.json()["state"] == "ended"
    gone = await app.shopper("bob", "POST", "/v1/check-ins")
    assert (gone.status_code, gone.json()["code"]) == (409, "checkin.no_program")
    assert (await app.shopper("ann", "POST", "/v1/check-ins")).status_code == 200
    assert (await app.operator("POST", f"{path}/pause")).json()["code"] == "checkin.wrong_state"
    found = await app.operator("GET", f"{PROGRAMS}?state=ended")
    assert [one["program_id"] for one in found.json()["items"]] == [program["program_id"]]
    trail = await app.operator("GET", f"/admin/v1/audit?subject={program['program_id']}", role=Role.ADMIN)
    assert [one["action"] for one in trail.json()["items"]][:2] == ["checkin.end", "checkin.resume"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"until_day": "2020-01-02"}, "until_day"),
        ({"from_day": "1999-01-01"}, "from_day"),
        ({"cycle": "weekly", "rewards": [[]] * 8}, "rewards"),
        ({"milestones": [{"days": 3, "rewards": [{"type": "growth", "growth": 1}]}] * 2}, "milestones[1].days"),
        ({"pauses": [{"from_day": "2020-01-01", "until_day": "2020-01-02"}]}, "pauses[0]"),
        ({"rewards": []}, ""),
        ({"rewards": [[{"type": "points", "points": 0}]]}, "rewards"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_what_does_not_fit_together_is_named(app: RunningApp, changes: dict[str, Any], field: str) -> None:
    told = await app.operator("POST", PROGRAMS, a_draft(app, **changes))
    assert told.status_code == 400, told.text
    assert field in told.json()["detail"]


async def test_a_dry_run_walks_seven_days_and_changes_nothing(app: RunningApp) -> None:
    table = [[{"type": "points", "points": number}] for number in range(1, 8)]
    program = (await app.operator("POST", PROGRAMS, a_draft(app, rewards=table))).json()
    path = f"{PROGRAMS}/{program['program_id']}/dry-run"
    earned = []
    for days in range(7):
        at = (now() + timedelta(days=days)).isoformat()
        told = await app.operator("POST", path, {"user_id": "ann", "now": at, "every_day": True}, role=Role.VIEWER)
        assert told.status_code == 200, told.text
        earned.append((told.json()["would"], told.json()["streak"], told.json()["reward"][0]["points"]))
    assert earned == [("check_in", number, number) for number in range(1, 8)]
    at = (now() + timedelta(days=3)).isoformat()
    told = await app.operator("POST", path, {"user_id": "ann", "now": at}, role=Role.VIEWER)
    assert (told.json()["streak"], told.json()["because"]) == (1, "The shopper's first day.")
    assert (await app.shopper("ann", "POST", "/v1/check-ins")).json()["code"] == "checkin.no_program"


async def test_stats_count_days_streaks_and_rewards(app: RunningApp) -> None:
    program = await published(app, budget={"max_value": 100})
    for user_id in ("ann", "bob"):
        await app.shopper(user_id, "POST", "/v1/check-ins")
    tally = next(one for one in reactions(app.growth) if one.name == "checkin.tally")
    await deliver(app.growth.database, tally)
    told = await app.operator("GET", f"{PROGRAMS}/{program['program_id']}/stats", role=Role.VIEWER)
    assert told.status_code == 200, told.text
    stats = told.json()
    assert (stats["checked_in"], stats["days"][0]["checked_in"], stats["streaks"][0]["shoppers"]) == (2, 2, 2)
    assert stats["rewards"] == [{"reward": "points", "times": 2, "amount": 2}]
    assert stats["spent"] == {"grants": 2, "value": 2}


async def test_a_make_up_card_from_a_milestone_is_in_the_ledger(app: RunningApp) -> None:
    await published(app, milestones=[{"days": 1, "rewards": [{"type": "make_up_card", "cards": 2}]}])
    told = await app.shopper("ann", "POST", "/v1/check-ins")
    assert told.json()["reward"][1] == {"type": "make_up_card", "cards": MakeUpCardReward(cards=2).cards}
    assert (await app.shopper("ann", "GET", "/v1/check-ins")).json()["make_up_cards"] == 2
