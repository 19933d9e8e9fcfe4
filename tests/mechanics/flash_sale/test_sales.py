"""What operators do with sales, over HTTP: steps, edits, versions, overlaps, dry runs, numbers, audit."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from growth.mechanics.flash_sale.board import MAX_AGE_SECONDS, SaleBoard
from growth.mechanics.flash_sale.model import Protection, Sale, SaleDraft
from growth.mechanics.flash_sale.projection import LISTENS_TO, count
from growth.mechanics.flash_sale.service import Sales
from growth.plumbing.outbox.outbox import Subscription, deliver
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now, rfc3339
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.mechanics.flash_sale.conftest import Room
from tests.shop.order import telling

PATH = "/admin/v1/flash-sales"
HOUR = timedelta(hours=1)
STEPS = ("publish", "pause", "resume", "end")
NEXT = {
    ("draft", "publish"): "published",
    ("draft", "end"): "ended",
    ("published", "pause"): "paused",
    ("published", "end"): "ended",
    ("paused", "resume"): "published",
    ("paused", "end"): "ended",
}


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app
        assert not await violations(app.growth.database)


def fields(sale: SaleDraft, **changes: Any) -> JSON:
    """What an operator sends for such a sale."""
    known = {name: getattr(sale, name) for name in SaleDraft.__struct_fields__}
    sent: JSON = msgspec.to_builtins(known | changes)
    return sent


async def act(app: RunningApp, sale_id: str, step: str) -> tuple[int, str]:
    """The status, and the state it is in then or the code of why not."""
    answer = await app.operator("POST", f"{PATH}/{sale_id}/{step}")
    return answer.status_code, answer.json().get("state" if answer.status_code == 200 else "code")


async def seen_soon(app: RunningApp, sale_id: str, state: str) -> bool:
    """Whether shoppers see the state by the time that what was shown before is too old to be shown."""
    too_old_at = time.monotonic() + MAX_AGE_SECONDS
    while True:
        asked_at = time.monotonic()
        if (await app.shopper("alice", "GET", f"/v1/flash-sales/{sale_id}")).json()["state"] == state:
            return True
        if asked_at > too_old_at:
            return False


# --- steps ------------------------------------------------------------------------------------------------------------


async def test_a_sale_goes_from_draft_to_its_end(app: RunningApp) -> None:
    made = await app.operator("POST", PATH, fields(world.a_draft()))
    assert made.status_code == 201
    assert (made.json()["state"], made.headers["etag"]) == ("draft", '"1"')
    sale_id = made.json()["sale_id"]
    assert (await app.shopper("alice", "GET", f"/v1/flash-sales/{sale_id}")).status_code == 404
    for version, (step, state, seen) in enumerate(
        [("publish", "published", "open"), ("pause", "paused", "paused"), ("resume", "published", "open")], 2
    ):
        answer = await app.operator("POST", f"{PATH}/{sale_id}/{step}")
        assert (answer.json()["state"], answer.headers["etag"]) == (state, f'"{version}"')
        assert await seen_soon(app, sale_id, seen)
    ended = (await app.operator("POST", f"{PATH}/{sale_id}/end")).json()
    assert (ended["state"], ended["ended_at"] is None) == ("ended", False)
    rows = await app.growth.database.fetch("SELECT type FROM plumbing.outbox ORDER BY xid, position")
    assert [row["type"] for row in rows] == [
        f"flash_sale.{what}" for what in ("published", "paused", "resumed", "ended")
    ]


@pytest.mark.parametrize("state", ["draft", "published", "paused", "ended"])
@pytest.mark.parametrize("step", STEPS)
async def test_only_the_steps_of_the_picture_can_be_taken(app: RunningApp, state: str, step: str) -> None:
    sale = await world.put_sale(app.growth.database, state=state)
    expected = NEXT.get((state, step))
    got = await act(app, sale.sale_id, step)
    assert got == ((200, expected) if expected else (409, "flash_sale.wrong_state"))
    assert (await app.growth.of(Sales).find(sale.sale_id)).version == sale.version + bool(expected)


async def test_of_16_operators_who_end_a_sale_at_once_one_does_and_it_is_told_once(room: Room) -> None:
    sale = await world.put_sale(room.database)
    editor = Act(Operator("test", Role.EDITOR), now())
    got = await asyncio.gather(*[room.sales.end(editor, sale.sale_id) for _ in range(16)], return_exceptions=True)
    assert Counter(type(answer) for answer in got) == {Sale: 1, Refusal: 15}
    told = await room.database.fetchval("SELECT count(*) FROM plumbing.outbox WHERE type = 'flash_sale.ended'")
    audited = await room.database.fetchval("SELECT count(*) FROM plumbing.audit WHERE action = 'flash_sale.end'")
    assert (told, audited) == (1, 1)


async def test_a_draft_whose_window_is_over_cannot_be_published(app: RunningApp) -> None:
    opens_at = now() - timedelta(hours=2)
    sale = await world.put_sale(app.growth.database, state="draft", opens_at=opens_at)
    assert await act(app, sale.sale_id, "publish") == (409, "flash_sale.wrong_state")


async def test_sales_are_listed_newest_first_page_by_page_and_by_state(app: RunningApp) -> None:
    made = [
        await world.put_sale(app.growth.database, state=state, sku=f"sku-{number}")
        for number, state in enumerate(["draft", "published", "paused", "draft", "ended"])
    ]
    first = (await app.operator("GET", f"{PATH}?limit=3", role=Role.VIEWER)).json()
    rest = (await app.operator("GET", f"{PATH}?limit=3&cursor={first['next_cursor']}", role=Role.VIEWER)).json()
    seen = [sale["sale_id"] for sale in first["items"] + rest["items"]]
    assert (seen, rest["next_cursor"]) == (sorted([sale.sale_id for sale in made], reverse=True), None)
    drafts = (await app.operator("GET", f"{PATH}?state=draft")).json()["items"]
    assert {sale["sale_id"] for sale in drafts} == {made[0].sale_id, made[3].sale_id}
    for never in (new_id(now()), "-" * 36, "x", made[0].sale_id + "%0A"):
        answer = await app.operator("GET", f"{PATH}?series_id={never}")
        assert answer.status_code in {200, 400}, never
        assert not answer.json().get("items")


# --- numbers, audit, repeats ------------------------------------------------------------------------------------------


async def test_the_numbers_of_a_sale_are_those_of_its_claims(app: RunningApp) -> None:
    growth = app.growth
    sale = await world.put_sale(growth.database, units_total=9, max_per_shopper=2, refund_returns_units=True)
    path = f"/v1/flash-sales/{sale.sale_id}/claims"
    claims = [(await app.shopper(user, "POST", path, {"units": 2})).json() for user in ("a", "b", "c", "d")]
    await app.shopper("e", "POST", path, {"units": 1})
    for refused in ("a", "f", "g"):
        assert (await app.shopper(refused, "POST", path, {"units": 2})).status_code == 409
    await app.shopper("d", "DELETE", f"/v1/claims/{claims[3]['claim_id']}")
    for user, claim in (("a", claims[0]), ("b", claims[1])):
        line = telling.line(claim_id=claim["claim_id"])
        await app.shop_tells(telling.paid(f"of-{user}", line, user_id=user))
    await app.shop_tells(telling.refunded("of-b", "r", telling.of(2, 200)))
    await growth.of(SaleBoard).write_refusals()
    await deliver(growth.database, Subscription("tempo", LISTENS_TO, count), max_events=100)
    stats = (await app.operator("GET", f"{PATH}/{sale.sale_id}/stats", role=Role.VIEWER)).json()
    numbers = {name: (stats[name]["claims"], stats[name]["units"]) for name in ("held", "paid", "refunded", "lapsed")}
    assert numbers == {"held": (2, 3), "paid": (1, 2), "refunded": (1, 2), "lapsed": (0, 0)}
    assert stats["given_back"] == {"claims": 1, "units": 2}
    assert (stats["units_total"], stats["taken"], stats["units_left"]) == (9, 5, 4)
    assert stats["refused"] == {"flash_sale.limit_reached": 1, "flash_sale.sold_out": 2}
    assert (stats["claims_per_second"], stats["redis_loaded"], stats["stores_agree"]) == (0.5, True, True)
    assert stats["busiest_second_claims"] >= 1
    assert stats["state"] == "open"
    assert 60_000 <= stats["sold_out_after_ms"] < 90_000


async def test_every_step_and_edit_is_audited_with_before_and_after(app: RunningApp) -> None:
    made = (await app.operator("POST", PATH, fields(world.a_draft()), x_request_id="the-first")).json()
    path = f"{PATH}/{made['sale_id']}"
    await app.operator("PUT", path, fields(world.a_draft(title="Better")), if_match='"1"')
    for step in STEPS:
        await app.operator("POST", f"{path}/{step}")
    await app.operator("POST", f"{path}/allow-list", {"user_ids": ["alice"]})
    # What was refused changed nothing, and is not in it.
    await app.operator("POST", f"{path}/publish")
    entries = (await app.operator("GET", f"/admin/v1/audit?subject={made['sale_id']}")).json()["items"][::-1]
    assert [entry["action"].removeprefix("flash_sale.") for entry in entries] == ["create", "change", *STEPS, "invite"]
    assert entries[0]["request_id"] == "the-first"
    assert entries[0]["before"] is None
    assert (entries[1]["before"]["title"], entries[1]["after"]["title"]) == ("Tea for one yuan", "Better")
    for earlier, later in itertools.pairwise(entries[:6]):
        assert later["before"] == earlier["after"]
    assert [entry["after"]["state"] for entry in entries[2:6]] == ["published", "paused", "published", "ended"]
    assert {entry["operator"].partition("-")[0] for entry in entries} == {"editor"}


async def test_a_repeated_create_is_the_same_draft_and_other_content_is_refused(app: RunningApp) -> None:
    sent = fields(world.a_draft())
    first = await app.operator("POST", PATH, sent, idempotency_key="k")
    again = await app.operator("POST", PATH, sent, idempotency_key="k")
    assert (first.status_code, "idempotent-replayed" in first.headers) == (201, False)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json() == first.json()
    other = await app.operator("POST", PATH, sent | {"title": "Other"}, idempotency_key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.other_content")
    # Another operator's key is another key; spaces and the order of members are no content.
    theirs = await app.operator("POST", PATH, sent, role=Role.ADMIN, idempotency_key="k")
    assert theirs.json()["sale_id"] != first.json()["sale_id"]
    shuffled = await app.operator("POST", PATH, dict(reversed(sent.items())), idempotency_key="k")
    assert shuffled.json()["sale_id"] == first.json()["sale_id"]
    assert await app.growth.database.fetchval("SELECT count(*) FROM flash_sale.sales") == 2


async def test_16_creates_at_once_under_one_key_make_one_draft(app: RunningApp) -> None:
    sent = fields(world.a_draft())
    await app.operator_headers()
    got = await asyncio.gather(*[app.operator("POST", PATH, sent, idempotency_key="k") for _ in range(16)])
    assert {answer.status_code for answer in got} <= {201, 409}
    assert {answer.json()["code"] for answer in got if answer.status_code == 409} <= {"idempotency.in_progress"}
    assert len({answer.json()["sale_id"] for answer in got if answer.status_code == 201}) == 1
    assert await app.growth.database.fetchval("SELECT count(*) FROM flash_sale.sales") == 1


# --- dry runs ---------------------------------------------------------------------------------------------------------

DRY_RUNS: dict[str | None, JSON] = {
    None: {},
    "flash_sale.not_open": {"opens_at": now() + HOUR},
    "flash_sale.sold_out": {"units_total": 1},
    "flash_sale.ended": {"state": "ended"},
    "flash_sale.paused": {"state": "paused"},
    "flash_sale.limit_reached": {},
    "flash_sale.cooling_down": {"protection": Protection(cool_down_seconds=60)},
    "flash_sale.not_invited": {"protection": Protection(allow_list_only=True)},
    "flash_sale.account_too_new": {"protection": Protection(minimum_account_age_seconds=60)},
    "flash_sale.drawing": {"protection": Protection(draw_seconds=600)},
}


@pytest.mark.parametrize("code", DRY_RUNS)
async def test_a_dry_run_says_what_the_claim_then_gets(app: RunningApp, code: str | None) -> None:
    sale = await world.put_sale(app.growth.database, **DRY_RUNS[code])
    path = f"/v1/flash-sales/{sale.sale_id}/claims"
    if code == "flash_sale.sold_out":
        await app.shopper("bob", "POST", path, {})
    if code == "flash_sale.limit_reached":
        await app.shopper("alice", "POST", path, {})
    if code == "flash_sale.cooling_down":
        await app.growth.database.fetch(
            "INSERT INTO flash_sale.lapses (user_id, lapses, last_lapsed_at) VALUES ('alice', 1, now())"
        )
    before = await app.growth.of(Sales).find(sale.sale_id)
    dry = (await app.operator("POST", f"{PATH}/{sale.sale_id}/dry-run", {"user_id": "alice"}, role=Role.VIEWER)).json()
    assert (dry["code"], bool(dry["because"])) == (code, True)
    assert dry["would"] == {None: "win", "flash_sale.drawing": "enter_draw"}.get(code, "refuse")
    assert await app.growth.of(Sales).find(sale.sale_id) == before
    got = await app.shopper("alice", "POST", path, {})
    if code is None or code == "flash_sale.drawing":
        assert got.status_code == (201 if code is None else 202)
    else:
        assert (got.status_code, got.json()["code"]) == (409, code)


async def test_a_dry_run_takes_the_time_it_is_asked_about(app: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database, opens_at=now().replace(microsecond=0) + HOUR)
    for moment, code, state in [
        (sale.opens_at - timedelta(seconds=1), "flash_sale.not_open", "scheduled"),
        (sale.opens_at, None, "open"),
        (sale.closes_at - timedelta(milliseconds=1), None, "open"),
        (sale.closes_at, "flash_sale.ended", "ended"),
    ]:
        sent = {"user_id": "alice", "now": rfc3339(moment)}
        dry = (await app.operator("POST", f"{PATH}/{sale.sale_id}/dry-run", sent)).json()
        assert (dry["code"], dry["state"]) == (code, state)
