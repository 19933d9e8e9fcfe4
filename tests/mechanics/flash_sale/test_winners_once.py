"""A shopper stands in the list of winners once, whatever is claimed and given back, and the list stays readable."""

from datetime import timedelta
from typing import Any

import pytest

from growth.mechanics.flash_sale import board as boards
from growth.mechanics.flash_sale import stock as stocks
from growth.mechanics.flash_sale.board import BoardSale, SaleBoard
from growth.mechanics.flash_sale.claim import service
from growth.mechanics.flash_sale.claim.keeping import service as keeping
from growth.mechanics.flash_sale.model import Admission, Sale
from growth.mechanics.flash_sale.stock import ClaimAsk, Occupied, admission_of
from growth.vocabulary.clock import now
from growth.vocabulary.ids import child_id
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.mechanics.flash_sale.conftest import Room

pytestmark = pytest.mark.anyio

CYCLES = 50
REMEMBERED = 20


async def in_redis(room: Room, sale: Sale, user_id: str) -> Occupied | None:
    """Claim one unit at the gate, past Postgres."""
    claim_id, moment = child_id(sale.sale_id), now()
    reply = await room.stock.claim(sale.sale_id, [ClaimAsk(claim_id, user_id, 1)])
    won = admission_of(reply.answers[0])[0] is Admission.WON
    return Occupied(claim_id, user_id, 0, moment) if won else None


async def give_back(room: Room, sale: Sale, *gone: Occupied | None) -> None:
    await room.stock.settle(sale.sale_id, [one for one in gone if one is not None])


async def winners(room: Room, sale: Sale) -> list[bytes]:
    redis: Any = room.redis
    found: list[bytes] = await redis.lrange(f"flash_sale:{{{sale.sale_id}}}:winners", 0, -1)
    return found


async def looked(board: SaleBoard, sale: Sale) -> BoardSale:
    """What a process knows after two looks: it starts over when the list is another one."""
    for _ in range(2):
        board._catalogue_at = float("-inf")
        await board._refresh()
    return board.entries[sale.sale_id]


@pytest.fixture
def few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if twenty were twenty thousand."""
    for module in (stocks, boards, keeping):
        monkeypatch.setattr(module, "MAX_WINNERS", REMEMBERED)
    monkeypatch.setattr(keeping, "ZEROS_LEFT", REMEMBERED)


async def test_who_claims_and_gives_back_stands_in_the_list_once(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=1)
    await room.loader.load(sale.sale_id)
    for cycle in range(CYCLES):
        await give_back(room, sale, await in_redis(room, sale, f"u{cycle % 2}"))
    assert await winners(room, sale) == [b"u0", b"u1"]
    redis: Any = room.redis
    assert await redis.hlen(f"flash_sale:{{{sale.sale_id}}}:shoppers") == 2
    assert await redis.hlen(f"flash_sale:{{{sale.sale_id}}}:claims") == 0


@pytest.mark.usefixtures("few_are_remembered")
async def test_a_crowd_that_claims_and_gives_back_cannot_blind_a_process(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=2)
    await room.loader.load(sale.sale_id)
    for number in range(3 * REMEMBERED):
        await give_back(room, sale, await in_redis(room, sale, f"u{number}"))
    assert len(await winners(room, sale)) == REMEMBERED + 1
    for who in ("ann", "bob"):
        assert (await room.claim(sale.sale_id, who)).claim.state == "held"
    assert (await looked(room.board, sale)).winners is None
    await room.loader.reconcile(sale.sale_id, now())
    assert sorted(await winners(room, sale)) == [b"ann", b"bob"]
    entry = await looked(room.board, sale)
    assert entry.winners == {b"ann", b"bob"}
    assert room.board.verdict(entry) is not None, "it says by itself that all are taken"


@pytest.mark.usefixtures("few_are_remembered")
async def test_a_list_that_is_made_shorter_is_read_anew_and_nobody_who_won_is_turned_away(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=3 * REMEMBERED)
    gone = []
    for number in range(10):
        decided = await room.claim(sale.sale_id, f"u{number}")
        gone.append(decided.claim)
    assert len((await looked(room.board, sale)).winners or ()) == 10
    for claim in gone[:9]:
        await room.claims.give_back(claim.claim_id, claim.user_id, now())
    await room.loader._names._names.thin(sale.sale_id)
    assert await winners(room, sale) == [b"u9"]
    for number in range(9, 15):
        if number > 9:
            await room.claim(sale.sale_id, f"u{number}")
    entry = await looked(room.board, sale)
    assert entry.winners is not None
    assert {f"u{number}".encode() for number in range(9, 15)} <= entry.winners


@pytest.mark.usefixtures("few_are_remembered")
async def test_more_winners_than_are_remembered_are_listed_no_further(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=3 * REMEMBERED)
    for number in range(2 * REMEMBERED):
        await room.claim(sale.sale_id, f"u{number}")
    await room.loader.reconcile(sale.sale_id, now())
    assert len(await winners(room, sale)) == REMEMBERED + 1
    assert (await looked(room.board, sale)).winners is None
    # A rebuild lists no more either.
    await room.redis.flushall()
    await room.loader.load(sale.sale_id)
    assert len(await winners(room, sale)) == REMEMBERED + 1


async def test_a_list_of_an_older_release_is_made_right(room: Room) -> None:
    sale = await world.put_sale(room.database)
    await room.claim(sale.sale_id, "ann")
    await room.claim(sale.sale_id, "bob")
    redis: Any = room.redis
    await redis.rpush(f"flash_sale:{{{sale.sale_id}}}:winners", "ann", "nobody", "ann")
    await room.loader.reconcile(sale.sale_id, now())
    assert await winners(room, sale) == [b"ann", b"bob"]


# --- rows -------------------------------------------------------------------------------------------------------------


async def test_claiming_and_giving_back_again_and_again_comes_to_an_end(room: Room) -> None:
    sale = await world.put_sale(room.database)
    moment = now()
    for _ in range(service.MAX_GIVEN_BACK):
        claim = (await room.claim(sale.sale_id, "ann")).claim
        assert (await room.claims.give_back(claim.claim_id, "ann", moment)).state == "released"
    claim = (await room.claim(sale.sale_id, "ann")).claim
    with pytest.raises(Refusal) as refused:
        await room.claims.give_back(claim.claim_id, "ann", moment)
    assert refused.value.kind.code == "flash_sale.too_many_attempts"
    assert refused.value.members["retry_after_seconds"] == 3600
    # Others, other sales, and a later hour are not meant.
    bobs = (await room.claim(sale.sale_id, "bob")).claim
    assert (await room.claims.give_back(bobs.claim_id, "bob", moment)).state == "released"
    elsewhere = await world.put_sale(room.database, sku="coffee")
    other = (await room.claim(elsewhere.sale_id, "ann")).claim
    assert (await room.claims.give_back(other.claim_id, "ann", moment)).state == "released"
    later = moment + timedelta(hours=1, seconds=1)
    assert (await room.claims.give_back(claim.claim_id, "ann", later)).state == "released"


async def test_without_the_end_rows_grow_with_each_turn(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_GIVEN_BACK", 10 * service.MAX_GIVEN_BACK)
    sale = await world.put_sale(room.database)
    for _ in range(CYCLES):
        claim = (await room.claim(sale.sale_id, "ann")).claim
        await room.claims.give_back(claim.claim_id, "ann", now())
    assert await room.database.fetchval("SELECT count(*) FROM flash_sale.claims") == CYCLES


async def test_a_sale_that_redis_has_let_go_of_is_over_and_is_not_read_again(room: Room) -> None:
    opens_at = now() - timedelta(days=3)
    sale = await world.put_sale(room.database, opens_at=opens_at, closes_at=opens_at + timedelta(hours=1))
    with pytest.raises(Refusal, match="ended"):
        await room.claim(sale.sale_id, "ann")
    assert await room.redis.keys("*") == []
