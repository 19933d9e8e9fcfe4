"""What a fact of an order means is the same in every room: over HTTP, with all rooms in one process."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from growth.plumbing.outbox import outbox
from growth.tables import reactions
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.shop.order import telling
from tests.shop.order.telling import of

pytestmark = pytest.mark.anyio

OK = (200, 201)
PRICE_FEN = 9_900
NEWCOMER = "bea"
INVITEE = "bob"


class Shop:
    """A shop with one of each thing that hangs on orders, spoken to over HTTP."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.sale_id = self.template_id = self.group_buy_id = self.code = ""

    async def opens(self) -> None:
        opens_at = now() - timedelta(minutes=1)
        times = {"opens_at": rfc3339(opens_at), "closes_at": rfc3339(opens_at + timedelta(days=2))}
        sale = {"title": "Tea", "sku": "tea", "price_fen": PRICE_FEN, "list_price_fen": 19_900, "units_total": 90}
        self.sale_id = await self._published("flash-sales", sale | times | {"refund_returns_units": True})
        team = {"team_size": 2, "newcomers_at_least": 2}
        self.group_buy_id = await self._published("group-buys", sale | times | team)
        coupon = {
            "title": "Ten off",
            "discount": {"type": "fixed", "off_fen": 1000},
            "threshold_fen": 0,
            "validity": {"type": "days", "days": 30},
            "units_total": 1000,
            "claimable": True,
        }
        self.template_id = await self._published("coupon-templates", coupon)
        task = {
            "title": "First order",
            "event_type": "shop.order_paid",
            "filter": [{"field": "is_first_order", "equals": True}],
            "count": 1,
            "period": "once",
            "undo_on_refund": "whole",
            "reward": [{"type": "points", "points": 10}],
        }
        await self._published("tasks", task | times)
        referral = {"title": "Invite", "level_1": {"type": "percent", "basis_points": 1000}}
        await self._published("referral-programs", referral, "?accept_warnings=true")
        self.code = (await self._asks("ivy", "GET", "/v1/referral"))["code"]
        await self._asks(INVITEE, "PUT", "/v1/referral/inviter", {"code": self.code})

    async def claims(self, user_id: str) -> str:
        claim = await self._asks(user_id, "POST", f"/v1/flash-sales/{self.sale_id}/claims", {"units": 1})
        return str(claim["claim_id"])

    async def takes(self, user_id: str) -> str:
        coupon = await self._asks(user_id, "POST", f"/v1/coupon-templates/{self.template_id}/coupons")
        return str(coupon["coupon_id"])

    async def tells(self, *events: JSON) -> list[JSON]:
        results = await self.app.shop_tells(*events)
        for _ in range(50):
            if not any([await outbox.deliver(self.app.growth.database, one) for one in reactions(self.app.growth)]):
                return results
            await asyncio.sleep(0)
        raise AssertionError("listeners go on and on")

    async def can_be_bound(self, user_id: str) -> bool:
        """Whether referrals take the shopper for one who never bought."""
        bound = await self.app.shopper(user_id, "PUT", "/v1/referral/inviter", {"code": self.code})
        assert bound.status_code == 200 or bound.json()["code"] == "referral.not_new", bound.text
        return bound.status_code == 200

    async def is_newcomer(self, user_id: str) -> bool:
        """Whether group buys take the shopper for one who never bought."""
        opened = await self.app.shopper(
            user_id, "POST", f"/v1/group-buys/{self.group_buy_id}/teams", {"nickname": "Ann"}
        )
        assert opened.status_code in OK or opened.json()["code"] == "group_buy.newcomers_only", opened.text
        return opened.status_code in OK

    async def points(self, user_id: str) -> int:
        return int((await self._asks(user_id, "GET", "/v1/points"))["points"])

    async def pending_fen(self) -> int:
        return int((await self._asks("ivy", "GET", "/v1/commissions/balance"))["pending_fen"])

    async def claim(self, user_id: str, claim_id: str) -> str:
        return str((await self._asks(user_id, "GET", f"/v1/claims/{claim_id}"))["state"])

    async def coupon(self, user_id: str, coupon_id: str) -> str:
        mine = await self._asks(user_id, "GET", "/v1/coupons")
        return next(str(one["state"]) for one in mine["items"] if one["coupon_id"] == coupon_id)

    async def taken(self) -> int:
        sale = await self._does("GET", f"/admin/v1/flash-sales/{self.sale_id}/stats")
        return int(sale["units_total"] - sale["units_left"])

    async def refunds_required(self, state: str = "open") -> list[tuple[str, str, int, list[str]]]:
        page = await self._does("GET", f"/admin/v1/refunds-required?state={state}")
        return [(one["order_id"], one["line_id"], one["amount_fen"], one["reasons"]) for one in page["items"]]

    async def _published(self, room: str, draft: JSON, query: str = "") -> str:
        made = await self._does("POST", f"/admin/v1/{room}", draft)
        ids = ("sale_id", "group_buy_id", "program_id", "task_id", "template_id")
        made_id = next(str(made[name]) for name in ids if name in made)
        await self._does("POST", f"/admin/v1/{room}/{made_id}/publish{query}")
        return made_id

    async def _asks(self, user_id: str, method: str, path: str, body: object = None) -> Any:
        answer = await self.app.shopper(user_id, method, path, body)
        assert answer.status_code in OK, (path, answer.text)
        return answer.json()

    async def _does(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.app.operator(method, path, body, role=Role.ADMIN)
        assert answer.status_code in OK, (path, answer.text)
        return answer.json()


@pytest.fixture
async def shop(postgres_dsn: str, redis_url: str) -> AsyncIterator[Shop]:
    async with running_app(postgres_dsn, redis_url) as app:
        shop = Shop(app)
        await shop.opens()
        yield shop
        assert not await violations(app.growth.database)


def line(line_id: str = "1", amount_fen: int = PRICE_FEN, **changes: Any) -> JSON:
    return telling.line(line_id, units=1, amount_fen=amount_fen, **changes)


def paid(order_id: str, user_id: str, *lines: JSON, paid_fen: int | None = None, at: datetime | None = None) -> JSON:
    cost = sum(one["amount_fen"] for one in lines) if paid_fen is None else paid_fen
    event = telling.paid(order_id, *lines, user_id=user_id, paid_fen=cost)
    event["data"]["paid_at"] = rfc3339(at or now())
    return event


def placed(order_id: str, user_id: str, *lines: JSON) -> JSON:
    event = telling.placed(order_id, *lines, user_id=user_id)
    event["data"]["placed_at"] = rfc3339(now())
    return event


REFUNDS: dict[str, list[list[JSON]]] = {
    "units and money": [[of(1, PRICE_FEN)]],
    "money alone, the goods are kept": [[of(0, PRICE_FEN)]],
    "units alone": [[of(1, 0)]],
    "money in two steps": [[of(0, 9_000)], [of(0, 900)]],
    "with the freight": [[of(1, PRICE_FEN + 600)]],
    "the gift too": [[of(1, PRICE_FEN), of(1, 0, "gift")]],
    "booked on the gift": [[of(0, PRICE_FEN + 600, "gift")]],
    "more, in two steps": [[of(0, 6_000)], [of(0, 6_000)]],
}


@pytest.mark.parametrize("is_refunded_first", [False, True], ids=["paid first", "refunded first"])
@pytest.mark.parametrize("refunds", REFUNDS.values(), ids=REFUNDS)
async def test_what_is_paid_back_whole_is_so_in_every_room(
    shop: Shop, refunds: list[list[JSON]], *, is_refunded_first: bool
) -> None:
    for user_id in (NEWCOMER, INVITEE):
        claim_id, coupon_id = await shop.claims(user_id), await shop.takes(user_id)
        order_id = f"order-of-{user_id}"
        gift = line("gift", 0, sku="cup")
        order = paid(
            order_id,
            user_id,
            line(claim_id=claim_id, coupon_id=coupon_id),
            gift,
            paid_fen=PRICE_FEN + 600,
        )
        back = [telling.refunded(order_id, f"r{number}", *lines) for number, lines in enumerate(refunds)]
        if not is_refunded_first:
            await shop.tells(order)
            assert await shop.points(user_id) == 10
            assert (await shop.claim(user_id, claim_id), await shop.coupon(user_id, coupon_id)) == ("paid", "used")
            assert await shop.pending_fen() == (990 if user_id == INVITEE else 0)
        results = await shop.tells(*back, *([order] if is_refunded_first else []), telling.received(order_id))
        assert {one["outcome"] for one in results} == {"applied"}
        assert (await shop.claim(user_id, claim_id), await shop.coupon(user_id, coupon_id)) == ("refunded", "issued")
        assert (await shop.taken(), await shop.points(user_id), await shop.pending_fen()) == (0, 0, 0)
    assert await shop.can_be_bound(NEWCOMER)
    assert await shop.is_newcomer(NEWCOMER)
    assert await shop.refunds_required() == []


async def test_what_is_kept_in_part_is_kept_in_every_room(shop: Shop) -> None:
    claim_id, coupon_id = await shop.claims(INVITEE), await shop.takes(INVITEE)
    await shop.tells(
        paid("o1", INVITEE, line(claim_id=claim_id, coupon_id=coupon_id), paid_fen=PRICE_FEN + 600),
        telling.refunded("o1", "r1", of(0, PRICE_FEN - 100)),
        telling.received("o1"),
    )
    assert (await shop.claim(INVITEE, claim_id), await shop.coupon(INVITEE, coupon_id)) == ("paid", "used")
    assert (await shop.taken(), await shop.points(INVITEE), await shop.pending_fen()) == (1, 10, 10)
    assert not await shop.is_newcomer(INVITEE)


@pytest.mark.parametrize(
    ("amount_fen", "paid_fen"), [(0, 0), (0, 600), (PRICE_FEN, 0)], ids=["sample", "freight alone", "gift card"]
)
async def test_an_order_of_nothing_makes_nobody_a_buyer_and_earns_nobody_anything(
    shop: Shop, amount_fen: int, paid_fen: int
) -> None:
    for user_id in (NEWCOMER, INVITEE):
        nothing = paid(f"nothing-{user_id}", user_id, line("1", amount_fen), paid_fen=paid_fen)
        await shop.tells(nothing, telling.received(f"nothing-{user_id}"))
        assert await shop.points(user_id) == 0
    assert await shop.pending_fen() == 0
    assert await shop.is_newcomer(NEWCOMER)
    assert await shop.can_be_bound(NEWCOMER)
    bought = await shop.app.growth.database.fetchval("SELECT count(bought_at) FROM retention.shoppers")
    assert bought == 0
    # The real one is the first.
    await shop.tells(*[paid(f"real-{user_id}", user_id, line()) for user_id in (NEWCOMER, INVITEE)])
    assert [await shop.points(user_id) for user_id in (NEWCOMER, INVITEE)] == [10, 10]
    assert await shop.pending_fen() == 2 * 990
    assert not await shop.is_newcomer(INVITEE)


async def test_lines_that_a_balance_paid_earn_what_money_paid(shop: Shop) -> None:
    await shop.tells(paid("o1", INVITEE, line("1", 10_000), line("2", 20_000), paid_fen=9_000))
    assert await shop.pending_fen() == 900


async def test_an_order_split_at_payment_ends_alike_whether_it_is_closed_before_or_after(shop: Shop) -> None:
    for number, arrival in enumerate(permutations(range(4))):
        user_id, parent = f"u{number}", f"o{number}"
        claim_id, coupon_id = await shop.claims(user_id), await shop.takes(user_id)
        facts = [
            placed(parent, user_id, line("1", claim_id=claim_id), line("2", coupon_id=coupon_id)),
            paid(f"{parent}-1", user_id, line("1", claim_id=claim_id)),
            paid(f"{parent}-2", user_id, line("2", coupon_id=coupon_id)),
            telling.closed(parent),
        ]
        results = await shop.tells(*[facts[index] for index in arrival], telling.received(f"{parent}-2"))
        assert "refund_required" not in {one["outcome"] for one in results}, arrival
        assert (await shop.claim(user_id, claim_id), await shop.coupon(user_id, coupon_id)) == ("paid", "used")
    assert await shop.refunds_required() == []


async def test_a_line_with_a_foreign_claim_and_a_foreign_coupon_is_owed_back_once(shop: Shop) -> None:
    wrong = line("1", claim_id=await shop.claims("dan"), coupon_id=await shop.takes("eve"))
    (result,) = await shop.tells(paid("o1", "cat", wrong, line("2", 500)))
    assert result["outcome"] == "refund_required"
    assert {one["owed_fen"] for one in result["lines"]} == {PRICE_FEN}
    reasons = ["coupon.of_other_shopper", "flash_sale.claim_of_other_shopper"]
    assert await shop.refunds_required() == [("o1", "1", PRICE_FEN, reasons)]
    told = await shop.app.growth.database.fetch(
        "SELECT data ->> 'amount_fen' AS fen FROM plumbing.outbox WHERE type = 'shop.refund_required'"
    )
    assert [row["fen"] for row in told] == [str(PRICE_FEN)]
    (again,) = await shop.tells(telling.received("o1"))
    assert again["outcome"] == "refund_required"
    await shop.tells(telling.refunded("o1", "r1", of(0, PRICE_FEN)))
    assert await shop.refunds_required() == []
    assert await shop.refunds_required("settled") == [("o1", "1", 0, reasons)]
