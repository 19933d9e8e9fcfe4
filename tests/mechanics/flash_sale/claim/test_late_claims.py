"""A claim that takes longer from Redis to Postgres than the grace is not given back while it arrives."""

from datetime import timedelta

import pytest

from growth.mechanics.flash_sale.claim import redis_sync as loading
from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.model import Wanted
from growth.mechanics.flash_sale.stock import ClaimAsk, Occupied
from growth.vocabulary.clock import now
from growth.vocabulary.ids import child_id
from tests import world
from tests.mechanics.flash_sale.conftest import Room, assemble


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres was out of reach for longer."""
    monkeypatch.setattr(loading, "GRACE", timedelta(0))


async def test_what_arrives_between_two_looks_stays(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    sale = await world.put_sale(room.database)
    await room.loader.load(sale.sale_id)
    late, stranded = (ClaimAsk(child_id(sale.sale_id), user_id, 1) for user_id in ("alice", "bob"))
    at = (await room.stock.claim(sale.sale_id, [late, stranded])).at

    async def arrives() -> None:
        async with room.database.transaction() as tx:
            assert (await store.win(tx, sale.sale_id, [Wanted(late.claim_id, "alice", 1, at)])).complete

    monkeypatch.setattr(room.loader, "_wait_for_late_claims", arrives)
    assert (await room.loader.reconcile(sale.sale_id, now() + timedelta(seconds=1))).mended == 1
    known = [claim.claim_id async for page in room.stock.known_claims(sale.sale_id) for claim in page]
    assert known == [late.claim_id]


async def test_what_nobody_ever_writes_is_given_back(room: Room) -> None:
    sale = await world.put_sale(room.database)
    await room.loader.load(sale.sale_id)
    await room.stock.claim(sale.sale_id, [ClaimAsk(child_id(sale.sale_id), "alice", 1)])
    done = await room.loader.reconcile(sale.sale_id, now() + timedelta(seconds=1))
    # The claim, and its shopper.
    assert (done.mended, done.compared) == (1, 2)
    assert (await room.stock.glance(sale.sale_id, 0)).taken == 0


async def asked_twice(room: Room) -> tuple[str, Occupied, Occupied]:
    """A claim that one process has on its way to Postgres, and another too: its shopper had waited long enough."""
    sale = await world.put_sale(room.database)
    await room.loader.load(sale.sale_id)
    ask = ClaimAsk(child_id(sale.sale_id), "alice", 1)
    first = (await room.stock.claim(sale.sale_id, [ask])).at
    while (second := (await room.stock.claim(sale.sale_id, [ask])).at) == first:
        pass  # within the same millisecond
    return sale.sale_id, Occupied(ask.claim_id, "alice", 0, first), Occupied(ask.claim_id, "alice", 0, second)


async def test_a_process_gives_up_no_claim_that_another_was_asked_for_since(room: Room) -> None:
    sale_id, first, second = await asked_twice(room)
    assert await room.stock.give_up(sale_id, [first]) == 0
    assert (await room.stock.glance(sale_id, 0)).taken == 1
    assert await room.stock.give_up(sale_id, [second]) == 1
    assert await room.stock.give_up(sale_id, [second]) == 0
    assert (await room.stock.glance(sale_id, 0)).taken == 0


async def test_without_looking_at_when_it_was_asked_for_a_claim_is_lost_to_redis(room: Room) -> None:
    sale_id, first, _ = await asked_twice(room)
    assert await room.stock.settle(sale_id, [first]) == 1
    assert (await room.stock.glance(sale_id, 0)).taken == 0


async def test_a_sale_that_another_process_has_just_rebuilt_is_not_rebuilt_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await world.put_sale(room.database)
    elsewhere = assemble(room.database, room.redis)
    mine = ClaimAsk(child_id(sale.sale_id), "alice", 1)
    lock = room.stock.lock_for_load

    async def too_late(sale_id: str, token: str) -> bool:
        await elsewhere.loader.load(sale_id)
        await elsewhere.stock.claim(sale_id, [mine])
        return await lock(sale_id, token)

    monkeypatch.setattr(room.stock, "lock_for_load", too_late)
    await room.loader.load(sale.sale_id)
    assert (await room.stock.glance(sale.sale_id, 0)).taken == 1
