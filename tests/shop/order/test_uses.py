"""Lines use what rooms hold: rows of any kind, told by the fields that the shop knows; rooms are asked for theirs."""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from growth.mechanics.flash_sale.claim.settlement.service import CLAIM
from growth.mechanics.group_buy.team.payment.settlement import SEAT, SeatSettlement
from growth.mechanics.referral.settlement import InviteeSettlement
from growth.plumbing.postgres.database import Database, Tx
from growth.rewards.coupon.payment.settlement import COUPON, CouponSettlement
from growth.shop.order.hooks import USES
from growth.shop.order.model import OrderParticipant
from growth.shop.order.service import ShopService
from growth.shop.order.store import orders as store
from growth.vocabulary.orders import Use
from tests.shop.order.telling import (
    SECRET,
    Recorder,
    broken,
    closed,
    line,
    outcomes,
    paid,
    placed,
    refunded,
    tell,
)

pytestmark = pytest.mark.anyio

CLAIM_ID = "0199c0de-0000-7000-8000-000000000001"
COUPON_ID = "0199c0de-0000-7000-8000-000000000002"


async def uses_of(database: Database, order_id: str = "o1") -> list[tuple[str, tuple[Use, ...]]]:
    order = await store.read_order(database, order_id)
    assert order is not None
    return [(one.line_id, one.uses) for one in order.lines]


def test_every_kind_of_use_is_told_by_one_field() -> None:
    assert sorted(USES.values()) == sorted({CLAIM, SEAT, COUPON})


async def test_a_line_uses_what_the_shop_said_of_it(database: Database, service: ShopService) -> None:
    await tell(service, paid("o1", line("1"), line("2", claim_id=CLAIM_ID, coupon_id=COUPON_ID)))
    used = (Use("coupon.coupon", COUPON_ID), Use("flash_sale.claim", CLAIM_ID))
    assert await uses_of(database) == [("1", ()), ("2", used)]
    row = await database.fetchrow("SELECT claim_id, seat_id, coupon_id FROM shop.order_lines WHERE line_id = '2'")
    assert row is not None
    assert tuple(row) == (CLAIM_ID, None, COUPON_ID), "processes of the release before read the columns"


async def test_lines_that_are_paid_take_the_place_of_what_those_placed_used(
    database: Database, service: ShopService
) -> None:
    await tell(service, placed("o1", line("1", claim_id=CLAIM_ID)), paid("o1", line("1", coupon_id=COUPON_ID)))
    assert await uses_of(database) == [("1", (Use("coupon.coupon", COUPON_ID),))]


async def test_what_a_process_of_the_release_before_writes_and_pays_is_used_too(
    database: Database, service: ShopService, recorder: Recorder
) -> None:
    await tell(service, placed("o1", line("1", claim_id=CLAIM_ID)))
    # As it pays: the lines that were placed go, and those that are paid come without rows beside them.
    await database.fetch("DELETE FROM shop.order_lines")
    await database.fetch(
        """
        INSERT INTO shop.order_lines (order_id, line_id, sku, units, amount_fen, claim_id, seat_id, coupon_id)
        VALUES ('o1', '1', 'tea', 2, 200, NULL, NULL, $1)
        """,
        COUPON_ID,
    )
    await tell(service, closed())
    assert [one.uses for one in recorder.seen[-1].lines] == [(Use("coupon.coupon", COUPON_ID),)]


async def test_a_room_is_asked_only_for_orders_with_lines_that_it_settles(database: Database) -> None:
    claims, seats, money = Recorder(kinds=[CLAIM], wants_all=False), Recorder(kinds=[SEAT], wants_all=False), Recorder()
    service = ShopService(database, [claims, seats, money], [SECRET])
    await tell(service, paid("o1"), paid("o2", line("1"), line("2", claim_id=CLAIM_ID)), closed("o3"))
    assert [order.order_id for order in claims.seen] == ["o2"]
    assert seats.seen == []
    assert sorted(order.order_id for order in money.seen) == ["o1", "o2", "o3"]


async def test_negative_control_a_row_that_is_missing_is_found(database: Database, service: ShopService) -> None:
    await tell(service, paid("o1", line("1", claim_id=CLAIM_ID)))
    await database.fetch("DELETE FROM shop.line_uses")
    assert len(await broken(database)) == 1
    await database.fetch("TRUNCATE shop.orders CASCADE")


async def test_a_plain_paid_order_costs_few_statements(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    participants: list[OrderParticipant] = [SeatSettlement(), CouponSettlement(), InviteeSettlement(ZoneInfo("UTC"))]
    service = ShopService(database, participants, [SECRET])
    await tell(service, paid("warm"))
    ran: list[str] = []
    make = Tx.__init__

    def counting(tx: Tx, *made_of: Any) -> None:
        make(tx, *made_of)
        for name in ("execute", "fetch", "fetchrow", "fetchval"):
            setattr(tx, name, noted(getattr(tx, name)))

    def noted(run: Any) -> Any:
        async def note(query: str, *args: object) -> Any:
            ran.append(" ".join(query.split())[:60])
            return await run(query, *args)

        return note

    monkeypatch.setattr(Tx, "__init__", counting)
    assert outcomes(await tell(service, paid("o1", user_id="u2"))) == ["applied"]
    assert len(ran) <= 12, ran


async def test_what_was_written_is_known_as_it_is_read(database: Database, recorder: Recorder) -> None:
    # Whatever is not read back must be what reading says, at every step.
    async def settle(tx: Tx, order: Any) -> Sequence[Any]:
        assert await store.read_order(tx, order.order_id) == order
        return ()

    recorder.settle_by = settle
    service = ShopService(database, [recorder], [SECRET])
    lines = line("2", claim_id=CLAIM_ID), line("1", amount_fen=3)
    for number, told in enumerate(
        (
            [placed("a", *lines), paid("a", *lines), closed("a"), refunded("a")],
            [closed("b"), refunded("b"), paid("b", *lines, paid_fen=7), placed("b", line("1"))],
        )
    ):
        results = await tell(service, *[one | {"id": f"{number}-{place}"} for place, one in enumerate(told)])
        assert {one.outcome for one in results} == {"applied"}
    assert len(recorder.seen) == 8
