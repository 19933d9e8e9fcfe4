"""A claim repeated under its key: the same claim, and nothing taken, whatever happened to the sale meanwhile."""

import asyncio
from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from growth.mechanics.flash_sale.claim.gate import DecidedClaim
from growth.mechanics.flash_sale.model import SaleDraft
from growth.mechanics.flash_sale.stock import ClaimAsk
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import derived_id
from growth.vocabulary.refusals import Refusal, Unavailable
from tests import world
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.conftest import Room
from tests.mechanics.flash_sale.story import off_by, paid, tell, units_in_both


async def sold_out_events(room: Room) -> int:
    count: int = await room.database.fetchval("SELECT count(*) FROM plumbing.outbox WHERE type = 'flash_sale.sold_out'")
    return count


async def test_a_repeat_after_late_money_took_the_last_unit_is_the_claim_and_tells_no_second_sell_out(
    room: Room,
) -> None:
    sale = await world.put_sale(room.database, units_total=2)
    first = (await room.claim(sale.sale_id, "alice", key="k")).claim
    turn = await leading_at(room.database, first.held_until + timedelta(seconds=6))
    assert await room.keeper.end_lapsed_holds(turn) == 1
    await room.claim(sale.sale_id, "bob")
    assert await tell(room, paid(first)) == ["applied"]
    assert await sold_out_events(room) == 1
    again = await room.claim(sale.sale_id, "alice", key="k")
    assert (again.claim.state, again.replayed) == ("paid", True)
    assert await sold_out_events(room) == 1


async def test_a_repeat_after_the_stock_was_cut_to_what_is_taken_is_the_claim_and_tells_no_second_sell_out(
    room: Room,
) -> None:
    sale = await world.put_sale(room.database, units_total=10)
    mine = (await room.claim(sale.sale_id, "alice", key="k")).claim
    fields = {name: getattr(sale, name) for name in SaleDraft.__struct_fields__}
    act = Act(Operator("test", Role.EDITOR), now())
    await room.sales.change(act, sale.sale_id, sale.version, msgspec.convert(fields | {"units_total": 1}, SaleDraft))
    assert await sold_out_events(room) == 1
    again = await room.claim(sale.sale_id, "alice", key="k")
    assert (again.claim.claim_id, again.replayed) == (mine.claim_id, True)
    assert await sold_out_events(room) == 1


@pytest.mark.parametrize("_round", range(5))
async def test_of_two_sizes_under_one_key_at_once_the_first_counts_in_both_stores(room: Room, _round: int) -> None:
    sale = await world.put_sale(room.database, max_per_shopper=3)
    await room.claim(sale.sale_id, "somebody")
    sizes = [1, 2, 3, 2, 1, 3]
    got = await asyncio.gather(
        *[room.claim(sale.sale_id, "alice", units, "k") for units in sizes], return_exceptions=True
    )
    said = Counter(f"{answer.claim.units} units" if isinstance(answer, DecidedClaim) else str(answer) for answer in got)
    assert said == {"1 units": 2, "idempotency.other_content": 4}
    assert await units_in_both(room, sale.sale_id) == (2, 2)
    assert await off_by(room.stock, sale.sale_id) == 0
    assert not await room.loader.differences(sale.sale_id, now() + timedelta(minutes=1))


async def test_a_repeat_while_postgres_is_away_does_not_make_redis_forget_the_claim(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await world.put_sale(room.database, units_total=2)
    mine = (await room.claim(sale.sale_id, "alice", key="k")).claim

    def away(**_: object) -> None:
        raise Unavailable("a test")

    with monkeypatch.context() as patch:
        patch.setattr(room.database, "transaction", away)
        got = await asyncio.gather(
            room.claim(sale.sale_id, "alice", key="k"), room.claim(sale.sale_id, "bob"), return_exceptions=True
        )
    assert [type(answer) for answer in got] == [Unavailable, Unavailable]
    # Alice's unit stays counted, bob's went back.
    assert await units_in_both(room, sale.sale_id) == (1, 1)
    assert (await room.claim(sale.sale_id, "alice", key="k")).claim.claim_id == mine.claim_id


async def test_a_claim_that_redis_knows_and_postgres_does_not_is_written_by_its_repeat(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=1)
    # A process died between the two.
    await room.loader.load(sale.sale_id)
    await room.stock.claim(sale.sale_id, [ClaimAsk(derived_id(sale.sale_id, "alice", "k"), "alice", 1)])
    with pytest.raises(Refusal, match="sold_out"):
        await room.claim(sale.sale_id, "bob")
    again = await room.claim(sale.sale_id, "alice", key="k")
    assert (again.claim.state, again.replayed) == ("held", False)
    assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_a_key_names_a_claim_for_a_day_and_then_another(room: Room) -> None:
    sale = await world.put_sale(room.database, max_per_shopper=3)
    made = [(await room.claim(sale.sale_id, "alice", key="constant")).claim.claim_id]
    for _ in range(2):
        # As if all of it had been made a day and an hour earlier.
        await room.database.fetch(
            """
            UPDATE flash_sale.claims
            SET held_at = held_at - interval '25 h', held_until = held_until - interval '25 h'
            """
        )
        again = await room.claim(sale.sale_id, "alice", key="constant")
        assert not again.replayed
        made.append(again.claim.claim_id)
        repeat = await room.claim(sale.sale_id, "alice", key="constant")
        assert (repeat.claim.claim_id, repeat.replayed) == (made[-1], True)
    assert len(set(made)) == 3
    # Across the boundary of the days that are counted from the first: what is younger than a day is the same.
    await room.database.fetch(
        "UPDATE flash_sale.claims SET held_at = held_at - interval '23 h', held_until = held_until - interval '23 h'"
    )
    late = await room.claim(sale.sale_id, "alice", key="constant")
    assert (late.claim.claim_id, late.replayed) == (made[-1], True)
