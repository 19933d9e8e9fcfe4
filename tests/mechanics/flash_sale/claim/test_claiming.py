"""A claim from the gate to the ledger."""

from datetime import timedelta
from typing import Any

import pytest

from growth.kit.campaign import store as campaigns
from growth.mechanics.flash_sale import model as sales
from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.keeping.store import holdings_of
from growth.mechanics.flash_sale.claim.model import Wanted
from growth.mechanics.flash_sale.model import SALES
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.postgres.database import Database
from growth.vocabulary.clock import now
from growth.vocabulary.ids import child_id, new_id
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.kit.outcomes import outcomes
from tests.mechanics.flash_sale.conftest import Room, assemble
from tests.mechanics.flash_sale.story import off_by


async def units_in_both(room: Room, sale_id: str) -> tuple[int, int | None]:
    sale = await sales_store.find_sale(room.database, sale_id)
    assert sale is not None
    return sale.taken, (await room.stock.glance(sale_id, 0)).taken


@pytest.mark.parametrize("_round", range(5))
async def test_the_last_unit_goes_to_exactly_one_shopper(room: Room, _round: int) -> None:
    sale = await world.put_sale(room.database, units_total=1)
    got = await outcomes(*[room.claim(sale.sale_id, f"u{n}") for n in range(64)])
    assert got == {"done": 1, "flash_sale.sold_out": 63}
    assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_a_crowd_at_three_processes_never_takes_more_than_there_is(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=100)
    rooms = [room, assemble(room.database, room.redis), assemble(room.database, room.redis)]
    got = await outcomes(*[rooms[n % 3].claim(sale.sale_id, f"u{n}") for n in range(1_000)])
    assert got == {"done": 100, "flash_sale.sold_out": 900}
    assert await units_in_both(room, sale.sale_id) == (100, 100)


async def test_one_shopper_in_many_taps_gets_no_more_than_the_limit(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=50, max_per_shopper=2)
    got = await outcomes(*[room.claim(sale.sale_id, "alice") for _ in range(64)])
    assert got == {"done": 2, "flash_sale.limit_reached": 62}


async def test_at_the_limit_the_refusal_carries_the_live_claims(room: Room) -> None:
    sale = await world.put_sale(room.database)
    mine = await room.claim(sale.sale_id, "alice")
    with pytest.raises(Refusal) as refused:
        await room.claim(sale.sale_id, "alice")
    claims: Any = refused.value.members["claims"]
    assert [claim.claim_id for claim in claims] == [mine.claim.claim_id]


async def test_the_same_key_is_the_same_claim_however_often_and_wherever(room: Room) -> None:
    sale = await world.put_sale(room.database, max_per_shopper=3)
    other = assemble(room.database, room.redis)
    got = await outcomes(*[one.claim(sale.sale_id, "alice", key="k") for one in (room, other) for _ in range(32)])
    assert got == {"done": 1, "replayed": 63}
    assert await units_in_both(room, sale.sale_id) == (1, 1)
    assert (await room.claim(sale.sale_id, "alice", key="k")).replayed


async def test_the_same_key_with_other_units_is_refused_and_takes_nothing(room: Room) -> None:
    sale = await world.put_sale(room.database, max_per_shopper=3)
    await room.claim(sale.sale_id, "alice", key="k")
    with pytest.raises(Refusal) as refused:
        await room.claim(sale.sale_id, "alice", units=2, key="k")
    assert refused.value.kind.code == "idempotency.other_content"
    assert await units_in_both(room, sale.sale_id) == (1, 1)


async def test_two_shoppers_may_use_the_same_key(room: Room) -> None:
    sale = await world.put_sale(room.database)
    alice, bob = await room.claim(sale.sale_id, "alice", key="k"), await room.claim(sale.sale_id, "bob", key="k")
    assert alice.claim.claim_id != bob.claim.claim_id


async def test_a_claim_given_back_is_told_again_as_released_and_takes_nothing(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=1)
    mine = await room.claim(sale.sale_id, "alice", key="k")
    await room.claims.give_back(mine.claim.claim_id, "alice", now())
    again = await room.claim(sale.sale_id, "alice", key="k")
    assert (again.claim.state, again.replayed) == ("released", True)
    assert await units_in_both(room, sale.sale_id) == (0, 0)
    assert (await room.claim(sale.sale_id, "bob")).claim.state == "held"


async def test_a_gate_that_forgot_everything_is_rebuilt_and_nothing_is_oversold(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=10)
    first = await outcomes(*[room.claim(sale.sale_id, f"a{n}") for n in range(6)])
    await room.redis.flushall()
    second = await outcomes(*[room.claim(sale.sale_id, f"b{n}") for n in range(10)])
    assert (first["done"], second) == (6, {"done": 4, "flash_sale.sold_out": 6})
    assert await units_in_both(room, sale.sale_id) == (10, 10)


async def test_a_gate_that_remembers_too_little_is_overruled_and_mended(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=3)
    await outcomes(*[room.claim(sale.sale_id, f"a{n}") for n in range(3)])
    await room.redis.flushall()
    await room.stock.load(sale, 99)  # a stale replica: the sale as it was before anyone came
    got = await outcomes(*[room.claim(sale.sale_id, f"b{n}") for n in range(10)])
    assert got == {"flash_sale.sold_out": 10}
    await room.loader.reconcile(sale.sale_id, now())
    assert await units_in_both(room, sale.sale_id) == (3, 3)
    assert await off_by(room.stock, sale.sale_id) == 0


async def test_a_batch_with_one_shopper_too_many_lets_all_others_in(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=10)
    await room.claim(sale.sale_id, "alice")
    await room.redis.flushall()
    await room.stock.load(sale, 99)
    got = await outcomes(*[room.claim(sale.sale_id, user_id) for user_id in ("alice", "bob", "carol", "dave")])
    assert got == {"done": 3, "flash_sale.limit_reached": 1}


async def test_an_unknown_sale_and_a_draft_are_alike_not_there(room: Room) -> None:
    draft = await world.put_sale(room.database, state="draft")
    for sale_id in (draft.sale_id, new_id(now())):
        with pytest.raises(Refusal) as refused:
            await room.claim(sale_id, "alice")
        assert refused.value.kind.status == 404


# --- negative controls: each guard of Postgres matters ----------------------------------------------------------------


async def take_unguarded(database: Database, sale_id: str, n: int, guard: str) -> None:
    """`store.win` with one guard taken out of its statement."""

    class Unguarded:
        def __init__(self, tx: object) -> None:
            self._tx = tx

        async def fetchrow(self, query: str, *args: object) -> object:
            assert guard in query, "the guard is no longer written like this"
            return await self._tx.fetchrow(query.replace(guard, "TRUE"), *args)  # type: ignore[attr-defined]

    async with database.transaction() as tx:
        wanted = [Wanted(child_id(sale_id), f"u{n}", 1, now())]
        win = await store.win(Unguarded(tx), sale_id, wanted)  # type: ignore[arg-type]
        assert win.complete


async def test_without_the_guard_on_stock_the_check_of_the_table_is_all_that_is_left(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=1)
    await take_unguarded(room.database, sale.sale_id, 1, "taken + won_units.units <= units_total")
    with pytest.raises(Exception, match="violates check constraint"):
        await take_unguarded(room.database, sale.sale_id, 2, "taken + won_units.units <= units_total")


async def test_without_the_guard_on_the_limit_a_shopper_gets_more(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=5)
    guard = "holding.units + excluded.units <= (SELECT max_per_shopper FROM sale)"
    for _ in range(2):
        await take_unguarded(room.database, sale.sale_id, 7, guard)
    assert await holdings_of(room.database, sale.sale_id, ["u7"]) == {"u7": 2}


async def test_without_the_guard_on_the_state_a_paused_sale_sells(room: Room) -> None:
    sale = await world.put_sale(room.database)
    async with room.database.transaction() as tx:
        await campaigns.move(tx, SALES, sale.sale_id, ["published"], "paused", now())
        win = await store.win(tx, sale.sale_id, [Wanted(child_id(sale.sale_id), "u", 1, now())])
        assert not win.complete
    # The claim written above with the refused statement is what the service rolls back; undo it by hand.
    async with room.database.transaction() as tx:
        await tx.execute("DELETE FROM flash_sale.claims WHERE sale_id = $1", sale.sale_id)
        await tx.execute("DELETE FROM flash_sale.holdings WHERE sale_id = $1", sale.sale_id)
    await take_unguarded(room.database, sale.sale_id, 1, "state = 'published'")


@pytest.mark.parametrize("days", [1, 5, 400])
async def test_a_claim_to_a_sale_that_closed_long_ago_is_no_reason_to_build_it_again_and_again(
    room: Room, days: int
) -> None:
    """Its keys once ended in the past, so at once: each claim rebuilt the whole sale and was told to try again."""
    sale = await world.put_sale(room.database, opens_at=now() - timedelta(days=days))
    for _ in range(3):
        with pytest.raises(Refusal) as refused:
            await room.claim(sale.sale_id, "alice")
        assert refused.value.kind is sales.ENDED
    read = "SELECT generation FROM flash_sale.sales WHERE sale_id = $1"
    assert await room.database.fetchval(read, sale.sale_id) <= 1
