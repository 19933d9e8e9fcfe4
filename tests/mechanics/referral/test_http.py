"""Referrals over HTTP: the shopper's page, binding, lists, leaderboards; the operators' programs and relations."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from growth.mechanics.referral.relation.service import MAX_ATTEMPTS
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.mechanics.referral.conftest import paid, received, refunded

pytestmark = pytest.mark.anyio

PROGRAMS = "/admin/v1/referral-programs"
RELATIONS = "/admin/v1/referral-relations"


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as running:
        yield running
        assert await violations(running.growth.database) == []


def a_program(**changes: Any) -> JSON:
    plain: JSON = {
        "title": "Bring a friend",
        "description": "Ten points for both.",
        "level_1": {"type": "percent", "basis_points": 500},
        "invitee_rewards": [{"type": "points", "points": 10}],
        "inviter_rewards": [{"type": "points", "points": 10}],
        "milestones": [{"invitees": 3, "rewards": [{"type": "points", "points": 100}]}],
    }
    return plain | changes


async def draft(app: RunningApp, **changes: Any) -> JSON:
    answer = await app.operator("POST", PROGRAMS, a_program(**changes))
    assert answer.status_code == 201, answer.text
    made: JSON = answer.json()
    return made


async def live(app: RunningApp, **changes: Any) -> JSON:
    made = await draft(app, **changes)
    answer = await app.operator(
        "POST", f"{PROGRAMS}/{made['program_id']}/publish?accept_warnings=true", role=Role.ADMIN
    )
    assert answer.status_code == 200, answer.text
    published: JSON = answer.json()
    return published


async def page(app: RunningApp, user_id: str) -> JSON:
    answer = await app.shopper(user_id, "GET", "/v1/referral")
    assert answer.status_code == 200
    shown: JSON = answer.json()
    return shown


async def bind(app: RunningApp, user_id: str, code: str, **more: str) -> Any:
    return await app.shopper(user_id, "PUT", "/v1/referral/inviter", {"code": code, **more})


async def brings(app: RunningApp, inviter_id: str, *user_ids: str) -> None:
    code = (await page(app, inviter_id))["code"]
    for user_id in user_ids:
        assert (await bind(app, user_id, code)).status_code == 200


async def test_a_shopper_brings_another_and_both_see_it(app: RunningApp) -> None:
    program = await live(app)
    before = await page(app, "ann")
    assert before["scene"] == f"i={before['code']}"
    assert before["program"]["program_id"] == program["program_id"]
    assert before["program"]["level_1"] == {"type": "percent", "basis_points": 500}
    assert before["program"]["is_open"] is True
    answer = await bind(app, "bob", before["scene"], nickname="张三丰")
    assert answer.status_code == 200
    assert answer.json()["inviter"] == "a***n"
    assert (await bind(app, "bob", before["code"].lower())).json() | {"server_time": ""} == answer.json() | {
        "server_time": ""
    }
    await app.shop_tells(paid("bob", "o1"), received("o1"))
    shown = await page(app, "ann")
    assert shown["totals"] == {"bound": 0, "bought": 0, "valid": 1}
    assert shown["next_milestone"] == {
        "invitees": 3,
        "rewards": [{"type": "points", "points": 100, "valid_days": None}],
        "is_reached": False,
        "missing": 2,
    }
    invitees = (await app.shopper("ann", "GET", "/v1/referral/invitees")).json()
    assert [(one["nickname"], one["state"]) for one in invitees["items"]] == [("张*", "valid")]
    assert (await page(app, "bob"))["inviter"]["inviter"] == "a***n"


async def test_each_no_has_its_code_and_status(app: RunningApp) -> None:
    code = (await page(app, "ann"))["code"]
    assert (await bind(app, "bob", code)).json()["code"] == "referral.no_program"
    await live(app)
    await brings(app, "ann", "bob")
    bobs, cats = (await page(app, "bob"))["code"], (await page(app, "cat"))["code"]
    await app.shop_tells(paid("old", "o1"))
    for user_id, tried, status, said in (
        ("ann", code, 409, "own_code"),
        ("bob", cats, 409, "already_bound"),
        ("ann", bobs, 409, "loop"),
        ("old", code, 409, "not_new"),
        ("dan", "NOBODYHASTHIS", 404, "unknown_code"),
    ):
        answer = await bind(app, user_id, tried)
        assert (answer.status_code, answer.json()["code"]) == (status, f"referral.{said}")


async def test_what_is_no_code_by_its_form_is_400(app: RunningApp) -> None:
    for code in ["", "a" * 257, 7, None, True]:
        answer = await app.shopper("bob", "PUT", "/v1/referral/inviter", {"code": code})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "code")


async def test_the_front_answers_what_the_routes_answer(app: RunningApp) -> None:
    def told(answer: Any) -> tuple[int, Any, JSON]:
        body = answer.json()
        return answer.status_code, answer.headers["content-type"], body | {"request_id": "", "server_time": ""}

    async def both(user_id: str, body: JSON) -> tuple[int, Any, JSON]:
        plain = told(await app.shopper(user_id, "PUT", "/v1/referral/inviter", body))
        # A header that the front leaves to the routes.
        other = {"content_type": "application/json; charset=utf-8"}
        assert told(await app.shopper(user_id, "PUT", "/v1/referral/inviter", body, **other)) == plain
        return plain

    await live(app)
    code, bobs = (await page(app, "ann"))["code"], (await page(app, "bob"))["code"]
    await page(app, "cat")
    assert (await both("bob", {"code": code, "nickname": "Bob"}))[0] == 200
    assert (await both("bob", {"code": f"i={code.lower()}"}))[0] == 200
    for user_id, body, status in (
        ("ann", {"code": code}, 409),
        ("ann", {"code": bobs}, 409),
        ("cat", {"code": "NOBODY"}, 404),
        ("cat", {}, 400),
        ("cat", {"code": code, "nick": "x"}, 400),
        ("cat", {"code": "a b"}, 404),
        ("cat", {"code": ""}, 400),
    ):
        assert (await both(user_id, body))[0] == status, body
    twice = await app.client.request(
        "PUT",
        "/v1/referral/inviter",
        content=f'{{"code":"{code}","code":"{bobs}"}}',
        headers=app.shopper_headers("cat") | {"content-type": "application/json"},
    )
    assert (twice.status_code, twice.json()["errors"][0]["detail"]) == (400, "Given twice")
    assert (await page(app, "cat"))["inviter"] is None


async def test_a_code_is_the_same_code_however_it_was_typed_or_pasted(app: RunningApp) -> None:
    await live(app)
    code = (await page(app, "ann"))["code"]
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in code.lower())
    spellings = [
        f" {code}\n",
        f"{code[:5]}\u2013{code[5:]}",
        f"{code[:5]}_{code[5:]}",
        f"{code[:5]}\u200b\u00a0{code[5:]}\r\n",
        ".".join(code),
        wide,
        f"\u3000{wide}\u3000",
        f"i={code}",
        f"i%3D{code.lower()} ",
        f"\uff49\uff1d{wide}",
    ]
    for number, spelling in enumerate(spellings):
        answer = await bind(app, f"friend-{number}", spelling)
        assert answer.status_code == 200, (spelling, answer.text)
    for number, wrong in enumerate(["\u200b", "\u3000", "i=", "%", "'; --", "\uff41" * 200, "\u202e" + code[1:]]):
        answer = await bind(app, f"stranger-{number}", wrong)
        assert (answer.status_code, answer.json()["code"]) == (404, "referral.unknown_code"), wrong


@pytest.mark.parametrize(
    "nickname", ["", "   ", "\u3164", "x" * 65, "a\u200bb", "\U0001f468\u200d\U0001f469\u200d\U0001f467"]
)
async def test_no_name_keeps_anybody_from_being_bound(app: RunningApp, nickname: str) -> None:
    await live(app)
    code = (await page(app, "ann"))["code"]
    assert (await bind(app, "bob", code, nickname=nickname)).status_code == 200
    raw = msgspec.json.encode({"code": code, "nickname": "cut HERE"}).replace(b"HERE", rb"\ud83d\u0000")
    answer = await app.client.request(
        "PUT",
        "/v1/referral/inviter",
        content=raw,
        headers=app.shopper_headers("cat") | {"content-type": "application/json"},
    )
    assert answer.status_code == 200


async def test_nobody_says_who_they_are_in_the_body(app: RunningApp) -> None:
    for name in ("user_id", "invitee_id", "inviter_id", "is_new", "bound_at"):
        answer = await app.shopper("bob", "PUT", "/v1/referral/inviter", {"code": "X", name: "ann"})
        assert answer.status_code == 400


async def test_who_tries_many_codes_is_told_to_wait_and_learns_nothing(app: RunningApp) -> None:
    await live(app)
    real = (await page(app, "ann"))["code"]
    answers = [await bind(app, "thief", f"{number:013}") for number in range(MAX_ATTEMPTS)]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    last = await bind(app, "thief", real)
    assert last.status_code == 429
    assert int(last.headers["retry-after"]) >= 1
    assert (await bind(app, "bob", real)).status_code == 200


async def test_invitees_come_in_pages_newest_first(app: RunningApp) -> None:
    await live(app)
    await brings(app, "ann", *[f"u{number}" for number in range(5)])
    await brings(app, "zoe", "x")
    seen: list[str] = []
    cursor = ""
    while True:
        answer = (await app.shopper("ann", "GET", f"/v1/referral/invitees?limit=2{cursor}")).json()
        seen += [one["relation_id"] for one in answer["items"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)
    assert (await app.shopper("ann", "GET", "/v1/referral/invitees?cursor=abc")).status_code == 400


async def test_leaderboards_show_places_and_mine(app: RunningApp) -> None:
    await live(app)
    for inviter, count in (("ann", 3), ("bob", 1), ("cat", 1)):
        people = [f"{inviter}{number}" for number in range(count)]
        await brings(app, inviter, *people)
        for user in people:
            await app.shop_tells(paid(user, f"o-{user}"), received(f"o-{user}"))
    board = (await app.shopper("bob", "GET", "/v1/referral/leaderboard")).json()
    assert [(one["rank"], one["inviter"], one["people"], one["is_me"]) for one in board["items"]] == [
        (1, "a***n", 3, False),
        (2, "b***b", 1, True),
        (2, "c***t", 1, False),
    ]
    assert board["me"] == {"rank": 2, "people": 1, "money_fen": 500}
    by_money = (await app.shopper("cat", "GET", f"/v1/referral/leaderboard?by=money&month={board['month']}")).json()
    assert [(one["rank"], one["money_fen"]) for one in by_money["items"]] == [(1, 1500), (2, 500), (2, 500)]
    assert by_money["me"] == {"rank": 2, "people": 1, "money_fen": 500}
    past = (await app.shopper("zoe", "GET", "/v1/referral/leaderboard?month=2020-02")).json()
    assert (past["items"], past["me"]["rank"]) == ([], None)
    for wrong in ("month=2026-13", "month=1999-01", "month=2026-1", "by=luck", "limit=1000000000", "month=2026-11%0A"):
        assert (await app.shopper("zoe", "GET", f"/v1/referral/leaderboard?{wrong}")).status_code == 400
    await app.shop_tells(refunded("o-bob0"))
    assert (await app.shopper("bob", "GET", "/v1/referral/leaderboard")).json()["me"]["rank"] is None


async def test_a_program_lives_through_its_steps_one_at_a_time(app: RunningApp) -> None:
    first, second = await live(app), await draft(app)
    answer = await app.operator(
        "POST", f"{PROGRAMS}/{second['program_id']}/publish?accept_warnings=true", role=Role.ADMIN
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "referral.other_program_live")
    assert answer.json()["program_id"] == first["program_id"]
    where = f"{PROGRAMS}/{first['program_id']}"
    assert (await app.operator("POST", f"{where}/resume", role=Role.ADMIN)).json()["code"] == "referral.wrong_state"
    assert (await app.operator("POST", f"{where}/pause")).json()["state"] == "paused"
    assert (await page(app, "ann"))["program"]["is_open"] is False
    assert (await app.operator("POST", f"{where}/resume", role=Role.ADMIN)).json()["state"] == "published"
    assert (await app.operator("POST", f"{where}/end")).json()["state"] == "ended"
    assert (await page(app, "ann"))["program"] is None
    for step in ("publish", "pause", "resume", "end"):
        assert (await app.operator("POST", f"{where}/{step}", role=Role.ADMIN)).status_code == 409
    answer = await app.operator(
        "POST", f"{PROGRAMS}/{second['program_id']}/publish?accept_warnings=true", role=Role.ADMIN
    )
    assert answer.status_code == 200
    listed = (await app.operator("GET", f"{PROGRAMS}?state=ended")).json()["items"]
    assert [one["program_id"] for one in listed] == [first["program_id"]]
    audit = (await app.operator("GET", f"/admin/v1/audit?subject={first['program_id']}")).json()["items"]
    assert [entry["action"] for entry in audit] == [
        f"referral.{name}" for name in ("end", "resume", "pause", "publish", "create")
    ]


async def test_two_operators_who_publish_at_once_get_one_program(app: RunningApp) -> None:
    drafts = [await draft(app) for _ in range(6)]
    answers = await asyncio.gather(
        *[
            app.operator("POST", f"{PROGRAMS}/{one['program_id']}/publish?accept_warnings=true", role=Role.ADMIN)
            for one in drafts
        ]
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]


async def test_an_edit_needs_the_version_and_begins_new_terms(app: RunningApp) -> None:
    made = await live(app)
    where = f"{PROGRAMS}/{made['program_id']}"
    told = a_program(level_1={"type": "fixed", "amount_fen": 1000})
    assert (await app.operator("PUT", where, told, role=Role.ADMIN)).status_code == 412
    assert (await app.operator("PUT", where, told, if_match='"1"', role=Role.ADMIN)).status_code == 412
    version = f'"{made["version"]}"'
    answer = await app.operator("PUT", where, told, if_match=version, role=Role.ADMIN)
    assert (answer.status_code, answer.json()["code"]) == (409, "referral.not_compliant")
    answer = await app.operator("PUT", f"{where}?accept_warnings=true", told, if_match=version, role=Role.ADMIN)
    assert answer.status_code == 200, answer.text
    assert (await page(app, "ann"))["program"]["level_1"] == {"type": "fixed", "amount_fen": 1000}
    rows = await app.growth.database.fetch("SELECT version, until_at IS NULL AS open FROM referral.terms ORDER BY 1")
    assert [tuple(row) for row in rows] == [(2, False), (3, True)]


async def test_a_second_level_takes_a_warning_and_a_third_is_refused(app: RunningApp) -> None:
    rule = {"type": "percent", "basis_points": 300}
    for wrong in ({"levels": 3}, {"levels": 2}, {"level_2": rule}, {"levels": 0}, {"level_3": rule}):
        assert (await app.operator("POST", PROGRAMS, a_program(**wrong))).status_code == 400
    made = await draft(app, levels=2, level_2=rule)
    where = f"{PROGRAMS}/{made['program_id']}/publish"
    answer = await app.operator("POST", where, role=Role.ADMIN)
    assert (answer.status_code, answer.json()["code"]) == (409, "referral.not_compliant")
    assert "invite.second_level" in [finding["rule"] for finding in answer.json()["findings"]]
    assert (await app.operator("POST", f"{where}?accept_warnings=true", role=Role.ADMIN)).status_code == 200


WRONG: list[tuple[JSON, str]] = [
    ({"level_1": {"type": "percent", "basis_points": 5001}}, "level_1"),
    ({"level_1": {"type": "percent", "basis_points": 0}}, "level_1"),
    ({"level_1": {"type": "fixed", "amount_fen": 0}}, "level_1"),
    ({"level_1": {"type": "fixed", "amount_fen": 1.5}}, "level_1"),
    ({"level_1": {"type": "lottery", "amount_fen": 1}}, "level_1"),
    ({"level_1": None, "invitee_rewards": [], "inviter_rewards": [], "milestones": []}, "level_1"),
    ({"invitee_rewards": [{"type": "commission", "amount_fen": 100}]}, "invitee_rewards[0]"),
    (
        {"milestones": [{"invitees": 3, "rewards": [{"type": "points", "points": 1}]}] * 2},
        "milestones[1].invitees",
    ),
    ({"milestones": [{"invitees": 0, "rewards": [{"type": "points", "points": 1}]}]}, "milestones"),
    ({"relation_days": 0}, "relation_days"),
    ({"attribution_days": -1}, "attribution_days"),
    ({"min_order_fen": 2**53 + 1}, "min_order_fen"),
    ({"skus": ["tea", "tea"]}, "skus"),
    ({"withdrawal": {"min_fen": 100, "fee_fen": 100}}, "withdrawal.fee_fen"),
    ({"caps": {"invitees": 0}}, "caps"),
    ({"entry_fee_fen": 100}, "entry_fee_fen"),
]


async def test_what_does_not_fit_is_refused_by_field(app: RunningApp) -> None:
    for changes, field in WRONG:
        answer = await app.operator("POST", PROGRAMS, a_program(**changes))
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["field"].startswith(field)


async def test_relations_are_listed_ended_and_made_by_operators(app: RunningApp) -> None:
    program = await live(app)
    await brings(app, "ann", "bob", "cat")
    await app.shop_tells(paid("bob", "o1"))
    everything = (await app.operator("GET", RELATIONS)).json()["items"]
    assert [(one["invitee_id"], one["state"]) for one in everything] == [("cat", "bound"), ("bob", "bought")]
    for query, found in (
        ("inviter_id=ann", 2),
        ("invitee_id=bob", 1),
        ("state=bought", 1),
        ("suspected=true", 0),
        (f"program_id={program['program_id']}", 2),
        ("limit=1", 1),
    ):
        assert len((await app.operator("GET", f"{RELATIONS}?{query}")).json()["items"]) == found
    file = await app.operator("GET", RELATIONS, accept="text/csv")
    assert file.headers["content-type"].startswith("text/csv")
    assert len(file.text.strip().splitlines()) == 3
    where = f"{RELATIONS}/{everything[0]['relation_id']}/end"
    assert (await app.operator("POST", where, {"reason": "because"})).status_code == 400
    assert (await app.operator("POST", where, {"reason": "fraud"}, role=Role.VIEWER)).status_code == 403
    assert (await app.operator("POST", where, {"reason": "fraud"})).json()["end_reason"] == "fraud"
    assert (await app.operator("POST", where, {"reason": "fraud"})).json()["code"] == "referral.relation_over"
    wish = {"invitee_id": "cat", "inviter_id": "dan", "reason": "mistake"}
    refused = await app.operator("POST", RELATIONS, wish, idempotency_key="k")
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.role_too_low"), "it says who earns money"
    made = await app.operator("POST", RELATIONS, wish, role=Role.ADMIN, idempotency_key="k")
    again = await app.operator("POST", RELATIONS, wish, role=Role.ADMIN, idempotency_key="k")
    assert (made.status_code, again.json()) == (201, made.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert (await app.operator("POST", RELATIONS, wish, role=Role.ADMIN)).status_code == 409


async def test_numbers_and_dry_runs_of_a_program(app: RunningApp) -> None:
    program = await live(app)
    await brings(app, "ann", "bob", "cat")
    await app.shop_tells(paid("bob", "o1"), received("o1"))
    where = f"{PROGRAMS}/{program['program_id']}"
    stats = (await app.operator("GET", f"{where}/stats")).json()
    assert {name: stats[name] for name in ("invited", "bought", "valid", "inviters", "rewarded", "milestones")} == {
        "invited": 2,
        "bought": 1,
        "valid": 1,
        "inviters": 1,
        "rewarded": 1,
        "milestones": 0,
    }
    code = (await page(app, "ann"))["code"]
    asked = {"user_id": "eve", "code": code, "now": (now() + timedelta(days=2)).isoformat()}
    assert (await app.operator("POST", f"{where}/dry-run", asked)).json()["would"] == "bind"
    asked = {"user_id": "bob", "code": code}
    assert (await app.operator("POST", f"{where}/dry-run", asked)).json()["would"] == "nothing"
    assert (await app.operator("POST", f"{where}/dry-run", {"user_id": "ann", "code": code})).json()["code"] == (
        "referral.own_code"
    )
