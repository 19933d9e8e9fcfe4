"""Inviters' money over HTTP: what shoppers, operators and the shop see."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.referral.commission.periodic import CommissionKeeper
from growth.rewards.withdrawal.periodic import WithdrawalKeeper
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from tests.app import JSON, RunningApp, running_app
from tests.kit.turn import turn_at
from tests.mechanics.referral.commission.money import Clockwork, Till, assemble, broken_laws
from tests.shop.order import telling

pytestmark = pytest.mark.anyio

ADMIN = Role.ADMIN


class Money:
    """An application, and the hands that reach past its edges."""

    def __init__(self, app: RunningApp, till: Till) -> None:
        self.app = app
        self.till = till

    async def gets(self, user_id: str, path: str) -> Any:
        answer = await self.app.shopper(user_id, "GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def looks_up(self, path: str, role: Role = ADMIN) -> Any:
        answer = await self.app.operator("GET", path, role=role)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def acts(self, path: str, body: JSON | None = None, *, role: Role = ADMIN) -> Any:
        return await self.app.operator("POST", path, body, role=role)

    async def balance(self, user_id: str = "ann") -> tuple[int, ...]:
        told = await self.gets(user_id, "/v1/commissions/balance")
        names = ("pending_fen", "available_fen", "withdrawing_fen", "withdrawn_fen", "owed_fen")
        return tuple(told[name] for name in names)

    async def asks(self, fen: object, user_id: str = "ann", **headers: str) -> Any:
        return await self.app.shopper(user_id, "POST", "/v1/withdrawals", {"amount_fen": fen}, **headers)

    async def strikes(self, days: int = 8) -> None:
        """The clock strikes for commissions, some days from now."""
        turn = turn_at(self.app.growth.database, now() + timedelta(days=days))
        await self.app.growth.of(CommissionKeeper).judge(turn)
        await self.app.growth.of(CommissionKeeper).settle_due(turn)

    async def sends(self) -> None:
        turn = turn_at(self.app.growth.database, now())
        await self.app.growth.of(WithdrawalKeeper).send_approved(turn)


@pytest.fixture
async def money(postgres_dsn: str, redis_url: str) -> AsyncIterator[Money]:
    async with running_app(postgres_dsn, redis_url, GROWTH_PAYOUT="sandbox") as app:
        till = assemble(app.growth.database, Clockwork())
        await till.program()
        await till.bind("bob", "ann")
        yield Money(app, till)
        assert not await broken_laws(app.growth.database)


async def buys(money: Money, order_id: str = "o-secret-1", fen: int = 50_000, **more: JSON) -> None:
    """Bob buys, and receives."""
    line = telling.line("1", units=4, amount_fen=fen)
    paid = telling.paid(order_id, line, user_id="bob", paid_fen=fen)
    paid["data"]["paid_at"] = now().isoformat()
    received = telling.received(order_id, time=now().isoformat())
    results = await money.app.shop_tells(paid, received, *more.values())
    assert {one["outcome"] for one in results} == {"applied"}, results


async def test_from_an_order_to_money_in_the_hand_and_back_again(money: Money) -> None:
    await buys(money)
    assert await money.balance() == (5_000, 0, 0, 0, 0)
    await money.strikes()
    assert await money.balance() == (0, 5_000, 0, 0, 0)
    asked = await money.asks(3_000)
    assert asked.status_code == 201, asked.text
    withdrawal = asked.json()
    assert (withdrawal["state"], withdrawal["payout_fen"], withdrawal["payee"]) == ("requested", 3_000, None)
    approved = await money.acts(f"/admin/v1/withdrawals/{withdrawal['withdrawal_id']}/approve")
    assert (approved.status_code, approved.json()["state"]) == (200, "approved")
    await money.sends()
    (mine,) = (await money.gets("ann", "/v1/withdrawals"))["items"]
    assert mine["state"] == "paid"
    assert await money.balance() == (0, 2_000, 0, 3_000, 0)
    back = telling.refunded("o-secret-1", "r1", telling.of(4, 50_000))
    await money.app.shop_tells(back)
    assert await money.balance() == (0, 0, 0, 3_000, 3_000)
    refused = await money.asks(1_000)
    assert (refused.status_code, refused.json()["code"], refused.json()["owed_fen"]) == (409, "withdrawal.owed", 3_000)


async def test_an_inviter_sees_neither_who_paid_nor_the_order(money: Money) -> None:
    await buys(money)
    text = (await money.app.shopper("ann", "GET", "/v1/commissions")).text
    assert "o-secret-1" not in text
    assert "bob" not in text
    (one,) = (await money.gets("ann", "/v1/commissions"))["items"]
    assert (one["amount_fen"], one["state"], one["level"]) == (5_000, "pending", 1)
    assert (await money.gets("eve", "/v1/commissions"))["items"] == []
    assert (await money.gets("ann", "/v1/commissions?state=available"))["items"] == []
    assert len((await money.gets("ann", "/v1/commissions?state=pending"))["items"]) == 1


async def test_lists_go_on_where_they_ended(money: Money) -> None:
    for number in range(5):
        await buys(money, f"o{number}", 20_000)
    await money.strikes()
    for _ in range(3):
        withdrawal_id = (await money.asks(1_000)).json()["withdrawal_id"]
        await money.app.shopper("ann", "DELETE", f"/v1/withdrawals/{withdrawal_id}")
    for path, count in (("/v1/commissions", 5), ("/v1/withdrawals", 3)):
        seen: list[JSON] = []
        cursor = ""
        while True:
            page = await money.gets("ann", f"{path}?limit=2{cursor}")
            seen += page["items"]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert len(seen) == count
        key = "commission_id" if "commission_id" in seen[0] else "withdrawal_id"
        assert [one[key] for one in seen] == sorted({one[key] for one in seen}, reverse=True)


@pytest.mark.parametrize(
    "fen", [0, -1, 1.5, "1000", True, 2**53 + 1, 10**400, None, [], 10_000_000_001], ids=lambda fen: repr(fen)[:20]
)
async def test_an_amount_is_a_whole_number_of_fen(money: Money, fen: object) -> None:
    answer = await money.asks(fen)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["field"] == "amount_fen"


async def test_a_withdrawal_asked_for_again_with_the_same_key_is_the_same(money: Money) -> None:
    await buys(money)
    await money.strikes()
    first = await money.asks(1_000, idempotency_key="k")
    again = await money.asks(1_000, idempotency_key="k")
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["withdrawal_id"] == again.json()["withdrawal_id"]
    assert (await money.asks(1_001, idempotency_key="k")).status_code == 422
    other = await money.asks(1_000, "bob", idempotency_key="k")
    assert other.json()["code"] == "withdrawal.insufficient"


async def test_somebody_elses_withdrawal_is_not_there(money: Money) -> None:
    await buys(money)
    await money.strikes()
    path = f"/v1/withdrawals/{(await money.asks(1_000)).json()['withdrawal_id']}"
    for method in ("GET", "DELETE"):
        assert (await money.app.shopper("eve", method, path)).status_code == 404
        assert (await money.app.shopper("ann", method, f"/v1/withdrawals/{new_id(now())}")).status_code == 404
    assert (await money.app.shopper("ann", "GET", path)).json()["state"] == "requested"


async def test_the_account_is_shown_to_its_shopper_and_hidden_in_lists(money: Money) -> None:
    assert (await money.app.shopper("ann", "GET", "/v1/payee")).status_code == 404
    payee = {"kind": "bank", "account": "6222000011112222", "name": "张三"}
    assert (await money.app.shopper("ann", "PUT", "/v1/payee", payee)).json() == payee
    for wrong in ({"kind": "cash"}, {"account": "6222 0000"}, {"name": "\u202eevil"}, {"extra": 1}):
        assert (await money.app.shopper("ann", "PUT", "/v1/payee", payee | wrong)).status_code == 400
    await buys(money)
    await money.strikes()
    asked = await money.asks(1_000)
    assert asked.json()["payee"] == "****2222"
    assert "6222000011112222" not in asked.text


async def test_operators_filter_list_and_load_down(money: Money) -> None:
    await buys(money)
    await money.strikes()
    withdrawal_id = (await money.asks(1_000)).json()["withdrawal_id"]
    queries = {
        "commissions?inviter_id=ann": 1,
        "commissions?inviter_id=bob": 0,
        "commissions?invitee_id=bob&state=available": 1,
        "commissions?order_id=o-secret-1": 1,
        "commissions?state=review": 0,
        "commissions?reason=same_device": 0,
        "withdrawals?user_id=ann&state=requested": 1,
        "withdrawals?state=paid": 0,
        "withdrawals?day=2020-01-01": 0,
    }
    for query, count in queries.items():
        assert len((await money.looks_up(f"/admin/v1/{query}"))["items"]) == count, query
    for path, key in (("commissions", "commission_id"), ("withdrawals", "withdrawal_id")):
        file = await money.app.operator("GET", f"/admin/v1/{path}", role=ADMIN, accept="text/csv")
        assert file.headers["content-type"].startswith("text/csv")
        (row,) = csv.DictReader(io.StringIO(file.text.removeprefix("\ufeff")))
        assert row[key]
    assert (await money.looks_up(f"/admin/v1/withdrawals/{withdrawal_id}"))["user_id"] == "ann"


async def test_why_a_commission_is_worth_what_it_is_worth(money: Money) -> None:
    await buys(money)
    await money.app.shop_tells(telling.refunded("o-secret-1", "r1", telling.of(1, 12_345)))
    (one,) = (await money.looks_up("/admin/v1/commissions"))["items"]
    told = await money.looks_up(f"/admin/v1/commissions/{one['commission_id']}/explain")
    assert told["because"][1] == "Line 1: 50000 fen paid, 12345 paid back: 37655 x 1000 / 10000 = 3765 fen."
    assert told["because"][-1] == "So it is worth 3765 fen."
    assert [(step["why"], step["to_fen"], step["is_hold"]) for step in told["movements"]] == [
        ("paid", 5_000, True),
        ("refunded", 3_765, True),
    ]
    known = await money.till.database.fetch("SELECT transfer_id FROM ledger.transfers WHERE resolves IS NULL")
    assert {step["transfer_id"] for step in told["movements"]} == {row["transfer_id"] for row in known}
    missing = await money.app.operator("GET", f"/admin/v1/commissions/{new_id(now())}/explain", role=ADMIN)
    assert missing.status_code == 404


async def test_operators_release_and_void_with_a_typed_reason(money: Money) -> None:
    await money.app.shop_tells(
        telling.registered("ann", device_id="phone"), telling.registered("bob", device_id="phone")
    )
    await buys(money)
    await money.strikes()
    (row,) = await money.looks_up("/admin/v1/commissions/review")
    assert row == {"reason": "same_device", "commissions": 1, "amount_fen": 5_000}
    (one,) = (await money.looks_up("/admin/v1/commissions?state=review&reason=same_device"))["items"]
    path = f"/admin/v1/commissions/{one['commission_id']}"
    assert (await money.acts(f"{path}/release", {"reason": "I like him"})).status_code == 400
    assert (await money.acts(f"{path}/release", {"reason": "household"}, role=Role.EDITOR)).status_code == 403
    assert (await money.acts(f"{path}/release", {"reason": "household"})).json()["state"] == "pending"
    assert (await money.acts(f"{path}/release", {"reason": "household"})).json()["code"] == "commission.wrong_state"
    assert (await money.acts(f"{path}/void", {"reason": "fake_orders"})).json()["state"] == "void"
    assert (await money.acts(f"{path}/void", {"reason": "fake_orders"})).status_code == 409
    audit = (await money.looks_up("/admin/v1/audit"))["items"]
    assert [(entry["action"], entry["reason"]) for entry in audit[:2]] == [
        ("commission.void", "fake_orders"),
        ("commission.release", "household"),
    ]


async def test_rules_are_read_and_changed_under_their_version(money: Money) -> None:
    for path, change in (
        ("/admin/v1/review-rules", {"same_address": False}),
        ("/admin/v1/withdrawal-rules", {"max_per_day": 1}),
    ):
        read = await money.app.operator("GET", path, role=ADMIN)
        etag = read.headers["etag"]
        assert (await money.app.operator("PUT", path, change, role=ADMIN)).status_code == 412
        assert (await money.app.operator("PUT", path, change, if_match=etag)).status_code == 403, "an editor moves none"
        changed = await money.app.operator("PUT", path, change, role=ADMIN, if_match=etag)
        assert changed.status_code == 200, changed.text
        again = await money.app.operator("PUT", path, change, role=ADMIN, if_match=etag)
        assert again.status_code == 412
        assert (await money.app.operator("GET", path, role=ADMIN)).json() == read.json() | change


async def test_an_operator_pays_by_hand(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        till = assemble(app.growth.database, Clockwork())
        await till.earned(5_000)
        money = Money(app, till)
        for end, body, left in (
            ("reject", {"reason": "suspicious"}, 5_000),
            ("failed", {"reason": "bounced"}, 5_000),
            ("paid", {"reference": "wx-1"}, 4_000),
        ):
            path = f"/admin/v1/withdrawals/{(await money.asks(1_000)).json()['withdrawal_id']}"
            assert (await money.acts(f"{path}/{end}", body)).status_code == (200 if end == "reject" else 409)
            await money.acts(f"{path}/approve")
            await money.sends()
            ended = await money.acts(f"{path}/{end}", body)
            assert ended.status_code == (409 if end == "reject" else 200), ended.text
            assert (await money.acts(f"{path}/paid", {})).status_code == 409
            assert (await money.balance())[1] == left


async def test_only_admins_see_and_move_withdrawals(money: Money) -> None:
    for role in (Role.VIEWER, Role.EDITOR):
        assert (await money.app.operator("GET", "/admin/v1/withdrawals", role=role)).status_code == 403
        for end in ("approve", "reject", "paid", "failed"):
            answer = await money.acts(f"/admin/v1/withdrawals/{new_id(now())}/{end}", {}, role=role)
            assert answer.status_code == 403
    assert (await money.app.operator("GET", "/admin/v1/commissions", role=Role.VIEWER)).status_code == 200
