"""A correction is news: what was decided on a fact that turns out otherwise is decided again, whatever came first."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from itertools import count, permutations
from typing import Any

import pytest

from growth.vocabulary.clock import now, rfc3339
from tests.app import JSON, RunningApp, running_app
from tests.kit.invariants import violations
from tests.shop.order import telling
from tests.test_merges import asks, campaign, does, merge, points, react

pytestmark = pytest.mark.anyio

PRICE_FEN = 5_000
UNREADABLE: JSON = {"sku": "tea\n500g"}
IS_FIRST = {"filter": [{"field": "is_first_order", "equals": True}]}
_numbers = count()


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app
        await react(app)
        assert not await violations(app.growth.database)


async def task(app: RunningApp, **changes: Any) -> None:
    asked = {"event_type": "shop.order_paid", "count": 1, "period": "once", "undo_on_refund": "whole"}
    await campaign(app, "tasks", "task_id", **asked | {"reward": [{"type": "points", "points": 10}]} | changes)


async def coupon(app: RunningApp, user_id: str) -> str:
    template = {
        "title": "Ten off",
        "discount": {"type": "fixed", "off_fen": 1000},
        "threshold_fen": 0,
        "validity": {"type": "days", "days": 30},
        "units_total": 1000,
        "claimable": True,
    }
    made = await does(app, "POST", "/admin/v1/coupon-templates", template)
    await does(app, "POST", f"/admin/v1/coupon-templates/{made['template_id']}/publish")
    taken = await asks(app, user_id, "POST", f"/v1/coupon-templates/{made['template_id']}/coupons")
    return str(taken["coupon_id"])


def line(line_id: str = "1", amount_fen: int = PRICE_FEN, **changes: object) -> JSON:
    return {"line_id": line_id, "sku": "tea", "units": 1, "amount_fen": amount_fen, **changes}


def paid(order_id: str, user_id: str, *lines: JSON, at: datetime | None = None) -> JSON:
    told = list(lines) or [line()]
    fen = sum(one["amount_fen"] for one in told)
    hook = telling.paid(order_id, *told, user_id=user_id, paid_fen=fen, id_=f"e{next(_numbers)}", time=rfc3339(now()))
    hook["data"]["paid_at"] = rfc3339(at or now())
    return hook


def received(order_id: str, at: datetime) -> JSON:
    return telling.received(order_id, time=rfc3339(at), id_=f"e{next(_numbers)}")


def refunded(order_id: str) -> JSON:
    return telling.refunded(order_id, "r", telling.of(1, PRICE_FEN), time=rfc3339(now()))


async def tells(app: RunningApp, *events: JSON) -> list[JSON]:
    results: list[JSON] = []
    for one in events:
        results += await app.shop_tells(one)
        await react(app)
    return results


def arrivals(facts: Sequence[JSON]) -> list[list[JSON]]:
    return [[facts[index] for index in arrival] for arrival in permutations(range(len(facts)))]


@pytest.mark.parametrize("rule", [{"undo_on_refund": "whole"}, {"undo_on_refund": "no", "count": 2}])
async def test_the_first_order_that_is_kept_counts_in_any_arrival(app: RunningApp, rule: dict[str, Any]) -> None:
    await task(app, **IS_FIRST, **rule)
    ends = []
    for number in range(6):
        who = f"u{number}"
        at = now()
        later = at + timedelta(seconds=1)
        facts = [paid(f"a{number}", who, at=at), refunded(f"a{number}"), paid(f"b{number}", who, at=later)]
        await tells(app, *arrivals(facts)[number])
        ends.append(await points(app, who))
    assert ends == [10] * 6


@pytest.mark.parametrize("undo", ["whole", "no"])
async def test_an_older_purchase_that_is_told_late_is_the_first_in_place_of_the_newer(
    app: RunningApp, undo: str
) -> None:
    await task(app, **IS_FIRST, undo_on_refund=undo)
    new, old = paid("new", "ann"), paid("old", "ann", at=now() - timedelta(days=3))
    await tells(app, new)
    assert await points(app, "ann") == 10
    await tells(app, old)
    # What was bought before the task was there counts for nothing.
    assert await points(app, "ann") == 0
    await tells(app, refunded("old"))
    assert await points(app, "ann") == 10


async def test_of_two_ids_that_both_had_a_first_order_one_is_first(app: RunningApp) -> None:
    await task(app, **IS_FIRST, count=2)
    await tells(app, paid("a", "ann"), paid("b", "bob"))
    await merge(app, "ann", "bob")
    await react(app)
    assert await points(app, "bob") == 0


async def test_whoever_is_back_after_an_erasure_has_no_first_order(app: RunningApp) -> None:
    await tells(app, paid("o1", "ann"))
    await does(app, "DELETE", "/admin/v1/shoppers/ann?reason=asked")
    app.signs_ahead = timedelta(seconds=2)
    await task(app, **IS_FIRST)
    await tells(app, paid("o2", "ann", at=now() + timedelta(seconds=1)))
    assert await points(app, "ann") == 0


@pytest.mark.parametrize("undo", ["whole", "no"])
async def test_lines_that_are_mended_make_a_purchase_of_a_gift(app: RunningApp, undo: str) -> None:
    await task(app, **IS_FIRST, undo_on_refund=undo)
    at, gift = now(), line("gift", 0)
    await tells(app, paid("o1", "ann", gift, line(**UNREADABLE), at=at))
    assert await points(app, "ann") == 0
    (mended,) = await tells(app, paid("o1", "ann", gift, line(), at=at))
    assert (mended["outcome"], await points(app, "ann")) == ("applied", 10)


async def test_an_order_that_was_paid_back_whole_but_for_a_line_that_is_mended_is_kept(app: RunningApp) -> None:
    await task(app)
    at = now()
    bad, good = paid("o1", "ann", line(), line("2", **UNREADABLE), at=at), paid("o1", "ann", line(), line("2"), at=at)
    await tells(app, bad, refunded("o1"))
    assert await points(app, "ann") == 0
    await tells(app, good)
    assert await points(app, "ann") == 10
    await tells(app, telling.refunded("o1", "r2", telling.of(1, PRICE_FEN, "2"), time=rfc3339(now())))
    assert await points(app, "ann") == 0


async def test_a_refund_of_a_line_that_is_mended_afterwards_takes_back_what_any_refund_does(app: RunningApp) -> None:
    await task(app, undo_on_refund="any")
    at = now()
    back = telling.refunded("o1", "r", telling.of(1, PRICE_FEN, "2"), time=rfc3339(now()))
    cheap = line("3", 3 * PRICE_FEN)
    await tells(app, paid("o1", "ann", line(), cheap, line("2", **UNREADABLE), at=at), back)
    assert await points(app, "ann") == 10
    await tells(app, paid("o1", "ann", line(), cheap, line("2"), at=at))
    assert await points(app, "ann") == 0


@pytest.mark.parametrize("undo", ["whole", "no"])
async def test_a_receipt_counts_in_the_period_of_the_earliest_time_that_was_told(app: RunningApp, undo: str) -> None:
    opens_at = now() - timedelta(days=9)
    rule = {"event_type": "shop.order_received", "count": 2, "period": "daily", "undo_on_refund": undo}
    made = await does(
        app,
        "POST",
        "/admin/v1/tasks",
        {"title": "Two", "opens_at": rfc3339(opens_at), "closes_at": rfc3339(opens_at + timedelta(days=30))}
        | rule
        | {"reward": [{"type": "points", "points": 10}]},
    )
    await does(app, "POST", f"/admin/v1/tasks/{made['task_id']}/publish?accept_warnings=true")
    ends = []
    for number in range(2):
        who, one, other = f"u{number}", f"o{number}", f"p{number}"
        facts = arrivals([received(one, now() - timedelta(days=3)), received(one, now())])[number]
        await tells(app, paid(one, who), paid(other, who), received(other, now()), *facts)
        ends.append(await points(app, who))
    assert ends == [0, 0]


async def test_a_claim_is_paid_by_two_lines_though_one_of_them_was_mended(app: RunningApp) -> None:
    tea = {"sku": "tea", "price_fen": PRICE_FEN, "list_price_fen": 9900, "units_total": 300, "max_per_shopper": 2}
    sale_id = await campaign(app, "flash-sales", "sale_id", **tea)
    claim_id = (await asks(app, "ann", "POST", f"/v1/flash-sales/{sale_id}/claims", {"units": 2}))["claim_id"]
    at, one, other = now(), line(claim_id=claim_id), line("2", claim_id=claim_id)
    bad = paid("o1", "ann", one, {**other, **UNREADABLE}, at=at)
    results = await tells(app, bad, paid("o1", "ann", one, other, at=at))
    assert [one["outcome"] for one in results] == ["refund_required", "applied"]
    assert (await asks(app, "ann", "GET", f"/v1/claims/{claim_id}"))["state"] == "paid"
    open_ = await does(app, "GET", "/admin/v1/refunds-required?state=open")
    assert open_["items"] == []


async def test_a_guests_coupon_that_the_account_paid_with_is_used_once_they_are_one(app: RunningApp) -> None:
    (told,) = await tells(app, paid("o1", "ann", line(coupon_id=await coupon(app, "guest"))))
    assert (told["outcome"], told["code"]) == ("refund_required", "coupon.of_other_shopper")
    await merge(app, "guest", "ann")
    (again,) = await tells(app, received("o1", now()))
    assert again["outcome"] == "applied"


async def test_a_payment_that_was_rejected_is_applied_when_it_is_told_again_after_the_merge(app: RunningApp) -> None:
    placed = telling.placed("o1", line(), user_id="ann", time=rfc3339(now()))
    placed["data"]["placed_at"] = rfc3339(now())
    hook = paid("o1", "bob")
    _, first = await tells(app, placed, hook)
    (still,) = await tells(app, hook)
    assert (first["outcome"], still["outcome"], still["code"]) == ("rejected", "duplicate", "rejected")
    await merge(app, "ann", "bob")
    (again,) = await tells(app, hook)
    assert again["outcome"] == "applied"
