"""Addresses that callers make up, and files that a spreadsheet would run."""

import csv
import io

import msgspec
import pytest

from growth.mechanics.flash_sale.model import Protection
from growth.vocabulary.actors import Role
from tests import one_of_each as everything
from tests.abuse.attacked import BYPASSING, PLAIN, refused
from tests.app import RunningApp, running_app
from tests.one_of_each import Everything
from tests.shop.order import telling
from tests.world import a_draft

pytestmark = pytest.mark.anyio

BOTH_WAYS = pytest.mark.parametrize("content_type", [PLAIN, BYPASSING], ids=["short cut", "bypassed"])
PROXY = "127.0.0.1/32"
"""Where the test's own client calls from."""


async def guarded_sale(app: RunningApp) -> str:
    """A sale that takes one claim a minute from one address."""
    draft = a_draft(protection=Protection(claims_per_minute_per_address=1))
    made = await app.operator("POST", "/admin/v1/flash-sales", msgspec.to_builtins(draft))
    sale_id: str = made.json()["sale_id"]
    assert (await app.operator("POST", f"/admin/v1/flash-sales/{sale_id}/publish")).status_code == 200
    return sale_id


async def statuses(app: RunningApp, content_type: str, *forwarded: str) -> list[int]:
    """What shoppers get who claim one after the other, each with this X-Forwarded-For."""
    url = f"/v1/flash-sales/{await guarded_sale(app)}/claims"
    found = []
    for number, header in enumerate(forwarded):
        headers = app.shopper_headers(f"u{number}") | {"content-type": content_type, "x-forwarded-for": header}
        answer = await app.client.post(url, content=b"{}", headers=headers)
        if answer.status_code != 201:
            refused(answer, 409, 429)
        found.append(answer.status_code)
    return found


@BOTH_WAYS
async def test_without_trusted_proxies_nobody_makes_up_an_address(
    postgres_dsn: str, redis_url: str, content_type: str
) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        found = await statuses(app, content_type, "192.0.2.1", "192.0.2.2", "127.0.0.1, 192.0.2.3", "::1", "\t,,x")
        assert found[0] == 201
        assert 201 not in found[1:]


@BOTH_WAYS
async def test_behind_a_proxy_only_what_the_proxy_saw_counts(
    postgres_dsn: str, redis_url: str, content_type: str
) -> None:
    async with running_app(postgres_dsn, redis_url, GROWTH_TRUSTED_PROXIES=PROXY) as app:
        same = (
            "198.51.100.7",
            "192.0.2.2, 198.51.100.7",
            "127.0.0.1, 192.0.2.3, 198.51.100.7",
            "192.0.2.4, ::ffff:198.51.100.7",
            "192.0.2.5,198.51.100.7:4711",
            "x" * 5000 + ", 198.51.100.7",
            ", ".join(["192.0.2.6"] * 400) + ", 198.51.100.7",
        )
        found = await statuses(app, content_type, *same)
        assert found[0] == 201
        assert 201 not in found[1:]


async def test_behind_a_proxy_two_addresses_are_two(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url, GROWTH_TRUSTED_PROXIES=PROXY) as app:
        assert await statuses(app, PLAIN, "198.51.100.7", "198.51.100.8") == [201, 201]


FORMULAS = ["@SUM|cmd", "-2|cmd", "@A1", "-1-1", "@"]


async def test_a_file_of_claims_and_seats_has_no_formula(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        made = await app.operator("POST", "/admin/v1/flash-sales", msgspec.to_builtins(a_draft()))
        sale_id = made.json()["sale_id"]
        await app.operator("POST", f"/admin/v1/flash-sales/{sale_id}/publish")
        for user_id in FORMULAS:
            claimed = await app.shopper(user_id, "POST", f"/v1/flash-sales/{sale_id}/claims", {})
            assert claimed.status_code == 201, claimed.text
        answer = await app.operator("GET", "/admin/v1/claims", accept="text/csv")
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert {row["user_id"] for row in rows} == {f"'{user_id}" for user_id in FORMULAS}
        assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]


OWNER, FRIEND, TITLE = "-2|cmd", "@SUM|cmd", "=cmd|' /C calc'!A0"
STARTS = ("=", "+", "-", "@", "\t", "\r")


async def test_no_file_of_any_list_has_a_formula(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url, **everything.ENVIRONMENT) as app:
        there = Everything(app, OWNER, FRIEND, TITLE)
        await there.put()
        registered = telling.registered(OWNER, source=TITLE)
        await app.shop_tells(registered)
        document = (await app.client.get("/openapi.json")).json()
        files, seen = 0, ""
        for path, operations in document["paths"].items():
            told = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
            if "text/csv" not in told:
                continue
            answer = await app.operator("GET", there.url(path), role=Role.ADMIN, accept="text/csv")
            assert answer.headers["content-type"].startswith("text/csv"), (path, answer.text)
            files += 1
            text = answer.content.decode("utf-8-sig")
            seen += text
            for row in csv.reader(io.StringIO(text)):
                for cell in row:
                    assert not cell.startswith(STARTS) or cell.removeprefix("-").isdecimal(), (path, cell)
        assert files >= 10
        # Each of them was there to be seen.
        assert f"'{OWNER}" in seen
        assert f"'{FRIEND}" in seen
        assert "'=" in seen


async def test_a_file_goes_on_to_the_end_of_its_list(postgres_dsn: str, redis_url: str) -> None:
    """A file of 10,000 rows of 10,051 was taken for all of them, and people were paid by it."""
    rows = 10_051
    async with running_app(postgres_dsn, redis_url) as app:
        await app.growth.database.fetch(
            """
            INSERT INTO granting.grants (key, grant_id, user_id, reward, reason, subject, outcome, granted_at)
            SELECT number, gen_random_uuid(), 'ann', '{"type": "points", "points": 1}', 'test.given', '',
                   'budget_spent', now()
            FROM generate_series(1, $1) AS number
            """,
            rows,
        )
        answer = await app.operator("GET", "/admin/v1/grants", accept="text/csv")
        told = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert len(told) == rows
        assert {int(row["key"]) for row in told} == set(range(1, rows + 1))
        page = (await app.operator("GET", "/admin/v1/grants?limit=100")).json()
        rest = await app.operator("GET", f"/admin/v1/grants?cursor={page['next_cursor']}", accept="text/csv")
        assert rest.content.count(b"\r\n") == 1 + rows - 100
