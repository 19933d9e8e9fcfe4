"""What operators did is written with it, listed newest first, and never changed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest
from litestar import Litestar
from litestar.di import Provide
from msgspec import Struct

from growth.plumbing.admin import router
from growth.plumbing.http import listing, operators
from growth.plumbing.http.answers import JsonResponse, StrictRequest
from growth.plumbing.http.operators import Operators
from growth.plumbing.http.problems import exception_handlers
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch.audit import Act, AuditEntry, AuditFilter, page, record
from growth.plumbing.watch.invariant_rounds import InvariantRounds
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.refusals import Kind, Refusal

pytestmark = pytest.mark.anyio

ANN, BOB = Operator("ann", Role.EDITOR), Operator("bob", Role.ADMIN)
NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
NO = Kind("test.no", "No.")


class Sale(Struct):
    title: str
    opens_at: datetime
    price_fen: int


async def _record(tx: Tx, number: int, operator: Operator = ANN, action: str = "flash_sale.publish") -> None:
    await record(
        tx,
        Act(operator, NOW + timedelta(minutes=number), f"request-{number}", "为什么"),
        action,
        f"sale-{number % 3}",
        before={"state": "draft"},
        after=Sale("茶", NOW, number),
    )


async def test_an_entry_says_who_did_what_to_what_when_and_why(database: Database) -> None:
    async with database.transaction() as tx:
        await _record(tx, 1)
        await record(tx, Act(BOB, NOW), "operator.add", "ann")
    bare, full = await page(database, AuditFilter(), before_entry=None, limit=10)
    assert full == AuditEntry(
        entry=full.entry,
        at=NOW + timedelta(minutes=1),
        operator="ann",
        action="flash_sale.publish",
        subject="sale-1",
        before={"state": "draft"},
        after={"title": "茶", "opens_at": "2026-11-21T20:00:00.000Z", "price_fen": 1},
        reason="为什么",
        request_id="request-1",
    )
    assert (bare.operator, bare.before, bare.after, bare.reason, bare.request_id) == ("bob", None, None, "", "")


async def test_what_was_not_done_is_not_written(database: Database) -> None:
    with pytest.raises(Refusal):
        await _record_then_fail(database)
    assert await page(database, AuditFilter(), before_entry=None, limit=10) == []


async def _record_then_fail(database: Database) -> None:
    async with database.transaction() as tx:
        await _record(tx, 1)
        raise Refusal(NO)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE plumbing.audit SET operator = 'bob'",
        "DELETE FROM plumbing.audit",
        "TRUNCATE plumbing.audit",
    ],
)
async def test_an_entry_is_never_changed_or_taken_away(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await _record(tx, 1)
    with pytest.raises(asyncpg.RestrictViolationError):
        await _execute(database, statement)
    assert len(await page(database, AuditFilter(), before_entry=None, limit=10)) == 1


async def test_negative_control_without_the_trigger_an_entry_can_be_taken_away(database: Database) -> None:
    async with database.transaction() as tx:
        await _record(tx, 1)
    await _execute(database, "ALTER TABLE plumbing.audit DISABLE TRIGGER audit_is_append_only")
    await _execute(database, "DELETE FROM plumbing.audit")
    assert await page(database, AuditFilter(), before_entry=None, limit=10) == []


async def _execute(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(statement)


# --- at the edge ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(
        [router],
        dependencies={
            "database": Provide(lambda: database, sync_to_thread=False),
            "operator": Provide(operators.provide_operator),
            "act": Provide(operators.provide_act, sync_to_thread=False),
            "listing": Provide(listing.provide_listing, sync_to_thread=False),
            "invariant_rounds": Provide(lambda: InvariantRounds(database), sync_to_thread=False),
        },
        exception_handlers=exception_handlers,
        request_class=StrictRequest,
        response_class=JsonResponse,
    )
    app.state.operators = Operators(database)
    async with database.transaction() as tx:
        key = await operators.add(tx, "viewer", Role.VIEWER, NOW)
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://growth/admin/v1", headers=headers) as client:
        yield client


async def _numbers(client: httpx.AsyncClient, **query: str | int) -> list[int]:
    answer = await client.get("/audit", params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    return [item["after"]["price_fen"] for item in answer.json()["items"]]


async def test_entries_are_listed_newest_first_page_by_page(database: Database, client: httpx.AsyncClient) -> None:
    async with database.transaction() as tx:
        for number in range(7):
            await _record(tx, number)
    seen: list[int] = []
    cursor: str | None = None
    for _ in range(10):
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        body = (await client.get("/audit", params=query)).json()
        seen += [item["after"]["price_fen"] for item in body["items"]]
        async with database.transaction() as tx:
            await _record(tx, 100)  # what comes meanwhile moves nothing
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert seen == [6, 5, 4, 3, 2, 1, 0]


async def test_times_are_shown_as_everywhere(database: Database, client: httpx.AsyncClient) -> None:
    async with database.transaction() as tx:
        await _record(tx, 1)
    (item,) = (await client.get("/audit")).json()["items"]
    assert item["at"] == "2026-11-21T20:01:00.000Z"
    assert item["reason"] == "为什么"


async def test_entries_are_filtered(database: Database, client: httpx.AsyncClient) -> None:
    async with database.transaction() as tx:
        for number in range(6):
            await _record(tx, number, (ANN, BOB)[number % 2], ("a.one", "a.two")[number // 3])
    assert await _numbers(client, operator="bob") == [5, 3, 1]
    assert await _numbers(client, action="a.one") == [2, 1, 0]
    assert await _numbers(client, subject="sale-0") == [3, 0]
    assert await _numbers(client, since="2026-11-21T20:02:00Z", until="2026-11-21T20:04:00Z") == [3, 2]
    assert await _numbers(client, since="2026-11-22T04:05:00+08:00") == [5]
    assert await _numbers(client, operator="ann", action="a.two", subject="sale-1") == [4]
    assert await _numbers(client, operator="'; DROP TABLE plumbing.audit; --") == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "1e9"},
        {"cursor": "forged"},
        {"cursor": "WyJhIl0"},
        {"cursor": "WzldW10"},
        {"cursor": "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5XQ"},
        {"cursor": "W3RydWVd"},
        {"since": "2026-11-21T20:00:00"},
        {"since": "yesterday"},
        {"until": "99999-01-01T00:00:00Z"},
        {"operator": "a\x00b"},
        {"subject": "x" * 129},
    ],
)
async def test_a_bad_question_is_refused_and_never_an_error_of_ours(
    database: Database, client: httpx.AsyncClient, query: dict[str, str]
) -> None:
    async with database.transaction() as tx:
        await _record(tx, 1)
    answer = await client.get("/audit", params=query)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["field"] in query


async def test_nobody_without_a_key_reads_the_audit(client: httpx.AsyncClient) -> None:
    for path in ("/audit", "/invariants"):
        assert (await client.get(path, headers={"Authorization": ""})).status_code == 401


async def test_the_invariants_are_asked_over_http(database: Database, client: httpx.AsyncClient) -> None:
    body = (await client.get("/invariants")).json()
    assert body["checked"] > 0
    assert body["violations"] == []
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO plumbing.idempotency
            VALUES ('s', 'k', '', '', now() - INTERVAL '3 days'),
                   ('s', 'l', '', '', now())
            """
        )
    (violation,) = (await client.get("/invariants")).json()["violations"]
    assert violation["room"] == "plumbing"
    assert [row["key"] for row in violation["rows"]] == ["k"]
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM plumbing.idempotency")
