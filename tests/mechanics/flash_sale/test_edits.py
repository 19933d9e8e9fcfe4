"""What operators may change of a sale and when, and that one SKU has one sale at a time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from growth.mechanics.flash_sale.model import Protection, Sale, SaleDraft
from growth.mechanics.flash_sale.service import Sales
from growth.mechanics.flash_sale.store import sales as store
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.audience import Newcomers
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.mechanics.flash_sale.conftest import Room

PATH = "/admin/v1/flash-sales"


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


# --- edits ------------------------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)
CHANGES: dict[str, Any] = {
    "title": "Coffee",
    "sku": "coffee",
    "price_fen": 200,
    "list_price_fen": 19900,
    "units_total": 11,
    "opens_at": now() - HOUR,
    "closes_at": now() + 3 * HOUR,
    "max_per_shopper": 2,
    "hold_seconds": 600,
    "late_payment": "refund",
    "refund_returns_units": True,
    "reminder_lead_seconds": 60,
    "protection": Protection(cool_down_seconds=60),
    "audience": [Newcomers()],
}
FREE_ONCE_OPEN = {"title", "units_total", "max_per_shopper", "closes_at", "hold_seconds", "protection", "audience"}


def test_every_field_is_in_the_table() -> None:
    assert set(CHANGES) == set(SaleDraft.__struct_fields__)


async def put(app: RunningApp, sale: Sale, **changes: Any) -> tuple[int, JSON]:
    answer = await app.operator("PUT", f"{PATH}/{sale.sale_id}", fields(sale, **changes), if_match=f'"{sale.version}"')
    return answer.status_code, answer.json()


@pytest.mark.parametrize("state", ["published", "paused"])
@pytest.mark.parametrize("name", CHANGES)
async def test_an_open_sale_keeps_what_shoppers_were_promised(app: RunningApp, state: str, name: str) -> None:
    sale = await world.put_sale(app.growth.database, state=state)
    status, body = await put(app, sale, **{name: CHANGES[name]})
    if name in FREE_ONCE_OPEN:
        assert status == 200
        assert msgspec.convert(body, Sale).version == sale.version + 1
    else:
        assert (status, body["code"], body["field"]) == (409, "flash_sale.locked_field", name)
        assert await app.growth.of(Sales).find(sale.sale_id) == sale


@pytest.mark.parametrize("state", ["draft", "published", "paused"])
async def test_before_it_opens_everything_can_be_changed(app: RunningApp, state: str) -> None:
    sale = await world.put_sale(app.growth.database, state=state, opens_at=now() + HOUR)
    for name, value in CHANGES.items():
        status, body = await put(app, sale, **{name: value if name != "opens_at" else now() + HOUR / 2})
        assert status == 200, body
        sale = await app.growth.of(Sales).find(sale.sale_id)
        if name != "opens_at":
            assert getattr(sale, name) == value or name == "closes_at"


@pytest.mark.parametrize("state", ["ended", "closed"])
async def test_a_sale_that_is_over_is_history(app: RunningApp, state: str) -> None:
    opens_at = now() - (2 * HOUR if state == "closed" else HOUR / 2)
    sale = await world.put_sale(
        app.growth.database, state="published" if state == "closed" else state, opens_at=opens_at
    )
    for name, value in CHANGES.items():
        status, body = await put(app, sale, **{name: value})
        assert (status, body["code"]) == (409, "flash_sale.wrong_state"), name


async def test_an_open_sale_cannot_be_closed_in_the_past_nor_its_draw_moved_nor_sold_units_taken_away(
    app: RunningApp,
) -> None:
    sale = await world.put_sale(app.growth.database, protection=Protection(draw_seconds=30), max_per_shopper=3)
    for changes, field in [
        ({"protection": Protection(draw_seconds=31)}, "protection.draw_seconds"),
        ({"protection": Protection()}, "protection.draw_seconds"),
    ]:
        status, body = await put(app, sale, **changes)
        assert (status, body.get("field")) == (409, field), body
    plain = await world.put_sale(app.growth.database, sku="plain", max_per_shopper=3)
    await app.shopper("alice", "POST", f"/v1/flash-sales/{plain.sale_id}/claims", {"units": 3})
    status, body = await put(app, plain, closes_at=now() - timedelta(seconds=1))
    assert (status, body["field"]) == (409, "closes_at")
    status, body = await put(app, plain, units_total=2, max_per_shopper=2)
    assert (status, body["code"], body["units_taken"]) == (409, "flash_sale.locked_field", 3)
    status, body = await put(app, plain, units_total=3)
    assert (status, body["units_total"]) == (200, 3)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"list_price_fen": 99}, "list_price_fen"),
        ({"max_per_shopper": 11}, "max_per_shopper"),
        ({"closes_at": datetime.fromisoformat("2026-01-01T00:00:00+00:00")}, "closes_at"),
        ({"closes_at": now() + timedelta(days=32)}, "closes_at"),
        ({"protection": Protection(draw_seconds=3600)}, "protection.draw_seconds"),
        ({"units_total": 0}, "units_total"),
        ({"hold_seconds": 29}, "hold_seconds"),
        ({"title": "a\u202eb"}, "title"),
    ],
)
async def test_what_does_not_fit_together_is_refused_by_field_when_made_and_when_edited(
    app: RunningApp, changes: JSON, field: str
) -> None:
    sale = await world.put_sale(app.growth.database, state="draft")
    made = await app.operator("POST", PATH, fields(sale, **changes))
    status, body = await put(app, sale, **changes)
    assert made.status_code == status == 400
    assert made.json()["errors"][0]["field"] == body["errors"][0]["field"] == field
    assert await app.growth.database.fetchval("SELECT count(*) FROM flash_sale.sales") == 1


# --- versions ---------------------------------------------------------------------------------------------------------


async def test_an_edit_names_the_version_it_read(app: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database)
    path, sent = f"{PATH}/{sale.sale_id}", fields(sale, title="Mine")
    for header, status, code in [
        (None, 412, "request.version_required"),
        ('"1"', 412, "flash_sale.version_mismatch"),
        ('"3"', 412, "flash_sale.version_mismatch"),
        ("2", 400, "request.invalid"),
        ('W/"2"', 400, "request.invalid"),
        ("*", 400, "request.invalid"),
        ('"2", "3"', 400, "request.invalid"),
        ('"99999999999999999999"', 400, "request.invalid"),
        ('"2"', 200, None),
    ]:
        named = {} if header is None else {"if-match": header}
        answer = await app.client.put(path, json=sent, headers=await app.operator_headers() | named)
        assert (answer.status_code, answer.json().get("code")) == (status, code), header
    assert (await app.operator("GET", path)).headers["etag"] == '"3"'


async def test_of_16_edits_of_one_version_one_is_made_and_15_are_told_of_it(app: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database)
    got = await asyncio.gather(*[put(app, sale, title=f"Edit {number}") for number in range(16)])
    assert Counter(status for status, _ in got) == {200: 1, 412: 15}
    assert {body["version"] for _, body in got} == {sale.version + 1}
    (made,) = [body["title"] for status, body in got if status == 200]
    assert (await app.growth.of(Sales).find(sale.sale_id)).title == made


# --- one SKU, one sale at a time --------------------------------------------------------------------------------------


async def test_sales_of_one_sku_may_follow_each_other_but_not_overlap(app: RunningApp) -> None:
    first = await world.put_sale(app.growth.database)

    async def publish(state: str = "draft", **changes: Any) -> tuple[int, str]:
        sale = await world.put_sale(app.growth.database, state=state, **changes)
        return await act(app, sale.sale_id, "publish")

    overlaps = (409, "flash_sale.sku_on_sale")
    assert await publish() == overlaps
    assert await publish(opens_at=first.opens_at + HOUR / 2, closes_at=first.closes_at + HOUR) == overlaps
    assert await publish(opens_at=first.opens_at - HOUR, closes_at=first.closes_at + HOUR) == overlaps
    assert await publish(sku="coffee") == (200, "published")
    assert await publish(opens_at=first.closes_at) == (200, "published")
    assert await act(app, first.sale_id, "pause") == (200, "paused")
    assert await publish() == overlaps
    assert await act(app, first.sale_id, "end") == (200, "ended")
    assert await publish(opens_at=first.opens_at) == (200, "published")


async def test_an_edit_cannot_make_an_overlap_either(app: RunningApp) -> None:
    first = await world.put_sale(app.growth.database, opens_at=now() + HOUR)
    later = await world.put_sale(app.growth.database, opens_at=first.closes_at)
    status, body = await put(app, later, opens_at=first.closes_at - timedelta(seconds=1))
    assert (status, body["code"], body["sale_id"]) == (409, "flash_sale.sku_on_sale", first.sale_id)
    status, body = await put(app, first, closes_at=later.opens_at + timedelta(seconds=1))
    assert (status, body["sale_id"]) == (409, later.sale_id)
    other = await world.put_sale(app.growth.database, opens_at=now() + HOUR, sku="coffee")
    status, body = await put(app, other, sku="tea")
    assert (status, body["code"]) == (409, "flash_sale.sku_on_sale")


async def publish_16(room: Room) -> Counter[object]:
    drafts = [await world.put_sale(room.database, state="draft") for _ in range(16)]
    editor = Act(Operator("test", Role.EDITOR), now())
    got = await asyncio.gather(*[room.sales.publish(editor, draft.sale_id) for draft in drafts], return_exceptions=True)
    return Counter(answer.kind.code if isinstance(answer, Refusal) else type(answer) for answer in got)


async def test_of_16_sales_of_one_sku_published_at_once_exactly_one_is(room: Room) -> None:
    for _ in range(3):
        assert await publish_16(room) == {Sale: 1, "flash_sale.sku_on_sale": 15}
        await room.database.fetch("UPDATE flash_sale.sales SET state = 'ended', ended_at = now()")


async def test_without_the_lock_on_the_sku_overlapping_sales_are_published(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody_looks = asyncio.Barrier(2)

    async def unlocked(*_: object) -> None:
        await everybody_looks.wait()

    monkeypatch.setattr(store, "lock_sku", unlocked)
    overlaps = 0
    for _ in range(10):
        overlaps += (await publish_16(room))[Sale] - 1
        await room.database.fetch("UPDATE flash_sale.sales SET state = 'ended', ended_at = now()")
        if overlaps:
            return
    pytest.fail("the lock is not needed")


async def test_a_draft_that_changes_its_sku_while_it_is_published_does_not_slip_past_the_lock(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = await world.put_sale(room.database, state="draft", sku="coffee")
    lock_sku, locked = store.lock_sku, list[str]()

    async def edited_meanwhile(tx: Any, sku: str) -> None:
        if not locked:
            await room.database.fetch("UPDATE flash_sale.sales SET sku = 'tea', version = version + 1")
        locked.append(sku)
        await lock_sku(tx, sku)

    monkeypatch.setattr(store, "lock_sku", edited_meanwhile)
    try:
        await room.sales.publish(Act(Operator("test", Role.EDITOR), now()), draft.sale_id)
    except Refusal:
        return
    assert locked[-1] == "tea"
