"""What the shop must pay back is one row and one event for each line, whoever found it out."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from growth.plumbing.postgres.database import Database, Tx
from growth.shop.order.owed import store
from growth.shop.order.owed.model import Owed, RefundFinding
from growth.shop.order.owed.service import RefundsRequired, owe
from growth.shop.order.service import ShopService
from growth.vocabulary.orders import LineOutcome, Order, Outcome
from tests.shop.order.telling import JSON, NOON, SECRET, Recorder, line, of, paid, placed, received, refunded, tell

pytestmark = pytest.mark.anyio

SOLD_OUT, OF_OTHER, OVERPAID, FAILED = (
    "flash_sale.sold_out",
    "coupon.of_other_order",
    "group_buy.overpaid",
    "group_buy.team_failed",
)


def finds(*reasons: str, part_fen: int = 0) -> Recorder:
    """A room that says of line 1, for as long as it was not paid back, why it must be; of a part with an amount."""

    async def settle(_tx: Tx, order: Order) -> Sequence[LineOutcome]:
        first = next(iter(order.lines), None)
        if not order.is_paid or first is None or first.is_refunded:
            return ()
        if part_fen:
            left = part_fen - first.refunded_fen
            return [LineOutcome("1", Outcome.APPLIED, reasons[0], "", left)] if left > 0 else ()
        return [LineOutcome("1", Outcome.REFUND_REQUIRED, reason) for reason in reasons]

    return Recorder(settle)


async def told(database: Database) -> list[tuple[str, str, int, list[str]]]:
    rows = await database.fetch(
        "SELECT data::text FROM plumbing.outbox WHERE type = 'shop.refund_required' ORDER BY position"
    )
    found = [json.loads(row["data"]) for row in rows]
    return [(one["order_id"], one["line_id"], one["amount_fen"], one["reasons"]) for one in found]


async def listed(database: Database, state: Any = None) -> list[tuple[str, str, int, list[str], bool]]:
    page = await RefundsRequired(database).page(state=state, order_id=None, user_id=None, before=None, limit=10)
    return [(one.order_id, one.user_id, one.amount_fen, one.reasons, one.settled_at is None) for one in page]


async def test_what_two_rooms_find_out_about_one_line_is_owed_once(database: Database) -> None:
    service = ShopService(database, [finds(SOLD_OUT), finds(OF_OTHER)], [SECRET])
    (result,) = await tell(service, paid("o1", line(), line("2"), paid_fen=400))
    assert result.outcome is Outcome.REFUND_REQUIRED
    assert [(one.line_id, one.code, one.owed_fen) for one in result.lines] == [
        ("1", SOLD_OUT, 200),
        ("1", OF_OTHER, 200),
    ]
    # Told again, and with what comes after it: still owed, and told once.
    await tell(service, paid("o1", line(), line("2"), paid_fen=400, id_="again"), received())
    assert await told(database) == [("o1", "1", 200, [OF_OTHER, SOLD_OUT])]
    assert await listed(database, "open") == [("o1", "u1", 200, [OF_OTHER, SOLD_OUT], True)]


async def test_it_is_settled_when_the_refund_arrives_in_parts_or_before_the_payment(database: Database) -> None:
    service = ShopService(database, [finds(SOLD_OUT)], [SECRET])
    (_, partly) = await tell(service, paid(), refunded("o1", "a", of(0, 50)))
    assert partly.lines[0].owed_fen == 150
    assert await listed(database, "open") == [("o1", "u1", 150, [SOLD_OUT], True)]
    await tell(service, refunded("o1", "b", of(0, 150)))
    assert await listed(database, "open") == []
    assert await listed(database, "settled") == [("o1", "u1", 0, [SOLD_OUT], False)]
    # Whoever is paid back before the payment is heard of is owed nothing.
    await tell(service, refunded("o2", "a", of(2, 200)), paid("o2"))
    assert await told(database) == [("o1", "1", 200, [SOLD_OUT])]


async def test_a_part_and_then_all_of_a_line_is_told_once_per_change_and_never_exceeds_the_line(
    database: Database,
) -> None:
    part, whole = [ShopService(database, [room], [SECRET]) for room in (finds(OVERPAID, part_fen=80), finds(FAILED))]
    both = ShopService(database, [finds(OVERPAID, part_fen=80), finds(FAILED)], [SECRET])
    (result,) = await tell(part, paid())
    assert (result.outcome, result.lines[0].code, result.lines[0].owed_fen) == ("applied", OVERPAID, 80)
    await tell(part, refunded("o1", "a", of(0, 30)))
    await tell(both, received())
    await tell(both, received(id_="again"))
    assert await told(database) == [("o1", "1", 80, [OVERPAID]), ("o1", "1", 170, [OVERPAID, FAILED])]
    # What a room no longer says is no longer owed.
    await tell(part, received(id_="later"))
    assert await listed(database, "open") == [("o1", "u1", 50, [OVERPAID], True)]
    await tell(part, refunded("o1", "b", of(0, 50)))
    assert await listed(database, "open") == []
    await tell(whole, received(id_="last"))
    assert (await told(database))[-1] == ("o1", "1", 120, [FAILED])


async def test_a_line_of_nothing_that_must_not_be_sent_is_told_with_0_fen(database: Database) -> None:
    service = ShopService(database, [finds(SOLD_OUT)], [SECRET])
    await tell(service, paid("o1", line(amount_fen=0), paid_fen=0), received())
    assert await told(database) == [("o1", "1", 0, [SOLD_OUT])]
    assert await listed(database, "open") == [("o1", "u1", 0, [SOLD_OUT], True)]
    await tell(service, refunded("o1", "a", of(2, 0)))
    assert await listed(database, "open") == []


async def test_what_is_paid_by_balance_is_owed_back_all_the_same(database: Database) -> None:
    service = ShopService(database, [finds(SOLD_OUT)], [SECRET])
    await tell(service, paid(paid_fen=0))
    assert await told(database) == [("o1", "1", 200, [SOLD_OUT])]


async def at_night(database: Database, *findings: RefundFinding) -> None:
    async with database.transaction() as tx:
        await owe(tx, findings, NOON)


def finding(order_id: str = "o1", reason: str = FAILED, part_fen: int | None = None) -> RefundFinding:
    return RefundFinding(order_id=order_id, line_id="1", reason=reason, part_fen=part_fen)


async def test_what_is_found_out_at_night_goes_through_the_same_door(database: Database) -> None:
    service = ShopService(database, [finds(FAILED)], [SECRET])
    silent = ShopService(database, [], [SECRET])
    await tell(silent, paid("o1"), paid("o2"), placed("o3"))
    await at_night(database, finding("o1"), finding("o2", OVERPAID, 30), finding("o3"), finding("never heard of"))
    await at_night(database, finding("o1"), finding("o2", OVERPAID, 30))
    await tell(service, received("o1"))
    assert await told(database) == [("o1", "1", 200, [FAILED]), ("o2", "1", 30, [OVERPAID])]
    await tell(service, refunded("o1", "a", of(0, 200)), refunded("o2", "a", of(0, 30)))
    assert await listed(database, "open") == [("o2", "u1", 170, [FAILED], True)]


async def test_a_night_and_a_hook_that_find_out_at_once_tell_once(database: Database) -> None:
    service = ShopService(database, [finds(FAILED)], [SECRET])
    await tell(ShopService(database, [], [SECRET]), *[paid(f"o{number}") for number in range(20)])
    night = at_night(database, *[finding(f"o{number}") for number in range(20)])
    hooks = [tell(service, received(f"o{number}")) for number in range(20)]
    await asyncio.gather(night, *hooks)
    assert sorted(one[0] for one in await told(database)) == sorted(f"o{number}" for number in range(20))


async def test_without_what_was_told_before_it_is_told_with_every_hook(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing_known(tx: Tx, order_id: str) -> dict[str, Owed]:
        known = await lock_of_order(tx, order_id)
        return {line_id: replace(row, reasons={}, owed_fen=0) for line_id, row in known.items()}

    lock_of_order = store.lock_of_order
    monkeypatch.setattr(store, "lock_of_order", nothing_known)
    service = ShopService(database, [finds(SOLD_OUT)], [SECRET])
    await tell(service, paid(), received())
    assert len(await told(database)) == 2


async def test_the_list_goes_on_behind_its_cursor(database: Database) -> None:
    service = ShopService(database, [finds(SOLD_OUT)], [SECRET])
    hooks: list[JSON] = [paid(f"o{number}", user_id=f"u{number % 2}") for number in range(5)]
    await tell(service, *hooks)
    desk = RefundsRequired(database)
    seen: list[str] = []
    before = None
    while page := await desk.page(state="open", order_id=None, user_id=None, before=before, limit=2):
        seen += [one.order_id for one in page]
        before = (page[-1].found_at, page[-1].order_id, page[-1].line_id)
    assert seen == ["o4", "o3", "o2", "o1", "o0"]
    mine = await desk.page(state=None, order_id="o3", user_id="u1", before=None, limit=9)
    assert [one.order_id for one in mine] == ["o3"]
