"""What the shop calls its things: any text, the same at every door, and a line that cannot be read harms no other."""

import re
import unicodedata
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from growth.plumbing.postgres.database import Database
from growth.shop.order import hooks
from growth.shop.order.service import ShopService
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, MAX_FOREIGN_ID_CHARS, foreign_id
from tests import world
from tests.app import RunningApp, running_app
from tests.shop.order import telling
from tests.shop.order.telling import line, of, outcomes, paid, placed, refunded, tell

pytestmark = pytest.mark.anyio

IDS = [
    "TEA/500g",
    "茶-红 500g",
    "#1001",
    "+8613800000000",
    "a//b/../c",
    "100% off?&x=1;2",
    "\"quotes' and \\ backslash\\",
    "<script>{x}|[*].^$</script>",
    "=cmd|' /C calc'!A0",
    "شاي\u200cأخضر",
    "👨\u200d👩\u200d👧 family",
    "any",
    "none",
    "x" * MAX_FOREIGN_ID_CHARS,
    "茶" * MAX_FOREIGN_ID_CHARS,
]
NO_IDS = [
    "",
    " ",
    " a",
    "a ",
    "a\u3000",
    "\u00a0a",
    "a\n",
    "a\tb",
    "a\x00",
    "a\x7f",
    "a\x9f",
    "\u202ea",
    "a\u2066b",
    "a\u200f",
    "a\u061c",
    "a\u2028b",
    "a\ufffdb",
    "x" * (MAX_FOREIGN_ID_CHARS + 1),
]
DECOMPOSED = unicodedata.normalize("NFD", "Thé glacé Ångström")
COMPOSED = unicodedata.normalize("NFC", DECOMPOSED)


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as running:
        yield running


def test_the_pattern_is_one_that_other_languages_read_too() -> None:
    assert not re.search(r"\\[ApPZzhHRvVX]|\(\?[a-zA-Z]|\(\?P", FOREIGN_ID_PATTERN)
    assert all(re.search(FOREIGN_ID_PATTERN, one) and foreign_id(one) == one for one in IDS)
    assert not any(re.search(FOREIGN_ID_PATTERN, one) or foreign_id(one) for one in NO_IDS)
    assert foreign_id(DECOMPOSED) == COMPOSED != DECOMPOSED


@pytest.mark.parametrize("id_", IDS, ids=lambda text: ascii(text)[:20])
async def test_an_id_of_any_text_is_taken_at_every_door(app: RunningApp, id_: str) -> None:
    path = quote(id_, safe="")
    results = await app.shop_tells(
        telling.registered(id_),
        placed(id_, line(id_, sku=id_), user_id=id_),
        paid(id_, line(id_, sku=id_), user_id=id_),
        refunded(id_, id_, of(1, 100, id_)),
        telling.event("points.spent", {"spend_id": id_, "user_id": id_, "points": 1}),
        telling.event("product.viewed", {"user_id": id_, "sku": id_}, time=telling.at(0)),
    )
    assert [one["outcome"] for one in results[:4]] == ["applied"] * 4, results
    assert results[4]["code"] == "points.insufficient"
    known = (await app.operator("GET", f"/admin/v1/shoppers/{path}")).json()
    assert known["user_id"] == id_
    assert [one["order_id"] for one in known["rooms"]["shop"]["orders"]] == [id_]
    grant = {"reward": {"type": "points", "points": 5}, "reason": "a gift"}
    given = await app.operator("POST", f"/admin/v1/shoppers/{path}/grants", grant, role=Role.ADMIN)
    assert given.status_code == 201, given.text
    assert (await app.shopper(id_, "GET", "/v1/points")).json()["points"] == 5
    for query in (f"user_id={path}", f"order_id={path}"):
        assert (await app.operator("GET", f"/admin/v1/coupons?{query}")).status_code == 200
    listed = await app.operator("GET", f"/admin/v1/grants?user_id={path}&limit=1")
    assert [one["user_id"] for one in listed.json()["items"]] == [id_]
    other = f"{id_[:100]}'s"
    merge = {"into": other, "reason": "one person"}
    merged = await app.operator("POST", f"/admin/v1/shoppers/{path}/merge", merge, role=Role.ADMIN)
    assert merged.status_code == 200, merged.text
    erased = await app.operator("DELETE", f"/admin/v1/shoppers/{quote(other, safe='')}?reason=asked", role=Role.ADMIN)
    assert erased.status_code == 200, erased.text


@pytest.mark.parametrize("id_", NO_IDS, ids=ascii)
async def test_what_would_read_as_another_id_is_refused_by_name(app: RunningApp, id_: str) -> None:
    results = await app.shop_tells(
        paid(id_), paid(user_id=id_), refunded("o", id_), telling.registered(id_), telling.closed(id_)
    )
    assert {(one["outcome"], one["code"]) for one in results} == {("rejected", "request.invalid")}
    fields = [one["detail"].partition(":")[0] for one in results]
    assert fields == ["data.order_id", "data.user_id", "data.refund_id", "data.user_id", "data.order_id"]
    answer = await app.operator("GET", f"/admin/v1/coupons?user_id={quote(id_)}")
    assert answer.status_code == 400, answer.text
    body = {"into": id_, "reason": "one person"}
    merge = await app.operator("POST", "/admin/v1/shoppers/somebody/merge", body, role=Role.ADMIN)
    assert (merge.status_code, merge.json()["errors"][0]["field"]) == (400, "into")


async def test_what_looks_the_same_is_the_same_id_at_every_door(app: RunningApp) -> None:
    told = paid(DECOMPOSED, line(DECOMPOSED, sku=DECOMPOSED), user_id=DECOMPOSED, id_="e")
    again = paid(COMPOSED, line(COMPOSED, sku=COMPOSED), user_id=COMPOSED, id_="e")
    first, second = await app.shop_tells(told), await app.shop_tells(again)
    assert [first[0]["outcome"], second[0]["outcome"], second[0]["code"]] == ["applied", "duplicate", "applied"]
    for spelled in (DECOMPOSED, COMPOSED):
        known = (await app.operator("GET", f"/admin/v1/shoppers/{quote(spelled, safe='')}")).json()
        assert (known["user_id"], len(known["rooms"]["shop"]["orders"])) == (COMPOSED, 1)
        assert (await app.shopper(spelled, "GET", "/v1/referral")).status_code == 200
    grant = {"reward": {"type": "points", "points": 5}, "reason": "a gift"}
    path = f"/admin/v1/shoppers/{quote(DECOMPOSED, safe='')}/grants"
    assert (await app.operator("POST", path, grant, role=Role.ADMIN)).status_code == 201
    listed = await app.operator("GET", f"/admin/v1/grants?user_id={quote(DECOMPOSED)}")
    assert [one["user_id"] for one in listed.json()["items"]] == [COMPOSED]
    assert (await app.shopper(COMPOSED, "GET", "/v1/points")).json()["points"] == 5


# --- lines ----------------------------------------------------------------------------------------------------------

BAD_LINES = {
    "sku": line("bad", sku="\u202etea"),
    "line_id": line("\x00"),
    "units": line("bad", units=0),
    "claim_id": line("bad", claim_id="C1"),
    "no object": 5,
    "a field that Postgres cannot hold": line("bad", **{"a\x00b": 1}),
    "a field too many": line("bad", colour="red"),
}


@pytest.mark.parametrize("what", BAD_LINES)
@pytest.mark.parametrize("kind", [placed, paid], ids=["placed", "paid"])
async def test_a_line_that_cannot_be_read_harms_no_other(
    database: Database, service: ShopService, kind: object, what: str
) -> None:
    told = (paid if kind is paid else placed)("o1", line("1"), line("2"), id_="e")
    told["data"]["lines"].insert(1, BAD_LINES[what])
    (result,) = await tell(service, told)
    assert outcomes([result]) == ["rejected request.invalid"]
    (left_out,) = result.lines
    assert left_out.code == "request.invalid"
    assert left_out.detail.startswith("data.lines[1]")
    rows = await database.fetch("SELECT line_id FROM shop.order_lines ORDER BY line_id")
    assert [row["line_id"] for row in rows] == ["1", "2"]
    assert outcomes(await tell(service, told)) == ["duplicate rejected"]
    # Told again, mended, under the same event id: nothing else may differ.
    told["data"]["lines"][1] = line("bad")
    other = told | {"id": "other", "data": told["data"] | {"user_id": "u2"}}
    assert outcomes(await tell(service, other, told, told)) == [
        "rejected shop.contradicts",
        "applied shop.lines_added",
        "duplicate applied",
    ]
    rows = await database.fetch("SELECT line_id FROM shop.order_lines ORDER BY line_id")
    assert [row["line_id"] for row in rows] == ["1", "2", "bad"]


async def test_an_order_of_nothing_but_bad_lines_and_a_refund_with_one_are_refused_whole(
    database: Database, service: ShopService
) -> None:
    told = paid("o1", line("bad", units=0))
    half = refunded("o1", "r", of(1, 1), of(-1, 1, "2"))
    assert outcomes(await tell(service, told, half)) == ["rejected request.invalid"] * 2
    assert await database.fetchval("SELECT count(*) FROM shop.orders") == 0


async def test_lines_mended_later_have_the_refunds_that_were_told_before(
    database: Database, service: ShopService
) -> None:
    told = paid("o1", line("1"), line("2", units=0))
    await tell(service, refunded("o1", "r", of(1, 100, "2")), told)
    mended = paid("o1", line("1"), line("2"))
    assert outcomes(await tell(service, mended)) == ["applied shop.lines_added"]
    assert await database.fetchval("SELECT refunded_units FROM shop.order_lines WHERE line_id = '2'") == 1
    told_on = await database.fetch("SELECT type FROM plumbing.outbox ORDER BY position")
    assert [row["type"] for row in told_on][-2:] == ["shop.order_lines_added", "shop.order_corrected"]


async def test_an_order_may_have_as_many_lines_as_is_documented_and_no_more(app: RunningApp) -> None:
    many = [line(str(number)) for number in range(hooks.MAX_LINES + 1)]
    too_many, just = await app.shop_tells(paid("o1", *many), paid("o2", *many[1:]))
    assert (too_many["code"], just["outcome"]) == ("request.invalid", "applied")
    assert too_many["detail"] == f"data.lines: Expected array of length <= {hooks.MAX_LINES}"


@pytest.mark.parametrize("id_", ['a|5|"b\\', "u1}:{x茶", "2|1|2"], ids=ascii)
async def test_a_claim_of_an_id_of_any_text_is_counted_in_both_stores_and_paid_beside_a_bad_line(
    app: RunningApp, id_: str
) -> None:
    sale = await world.put_sale(app.growth.database, max_per_shopper=1)
    path = f"/v1/flash-sales/{sale.sale_id}/claims"
    claim = (await app.shopper(id_, "POST", path, {"units": 1})).json()
    # What Redis holds, and what it holds when it is rebuilt from Postgres, are the same shopper's.
    assert (await app.shopper(id_, "POST", path, {"units": 1})).json()["code"] == "flash_sale.limit_reached"
    await app.growth.redis.flushall()
    assert (await app.shopper(id_, "POST", path, {"units": 1})).json()["code"] == "flash_sale.limit_reached"
    good = line("2", sku=sale.sku, units=1, amount_fen=sale.price_fen, claim_id=claim["claim_id"])
    (result,) = await app.shop_tells(paid(id_, line("1", sku="\u202e"), good, user_id=id_))
    assert {one["line_id"]: one["outcome"] for one in result["lines"] if one["line_id"] != "2"} == {"1": "rejected"}
    assert (await app.shopper(id_, "GET", f"/v1/claims/{claim['claim_id']}")).json()["state"] == "paid"
