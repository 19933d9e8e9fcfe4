"""Whoever has won and asks again, at any process and however soon, never hears that all units are taken."""

import pytest

from growth.mechanics.flash_sale import board as boards
from growth.mechanics.flash_sale.board import BoardSale, SaleBoard
from growth.mechanics.flash_sale.model import Admission, Sale
from growth.mechanics.flash_sale.stock import ClaimAsk, Occupied, Stock, admission_of
from growth.vocabulary.clock import now
from growth.vocabulary.ids import child_id
from tests import world
from tests.mechanics.flash_sale.conftest import Room

MAX_AGE_SECONDS = 3600
"""Instead of a moment: nothing here depends on how fast the test runs."""


@pytest.fixture(autouse=True)
def a_long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "MAX_AGE_SECONDS", MAX_AGE_SECONDS)


async def claim(stock: Stock, sale: Sale, user_id: str) -> tuple[Admission, str]:
    claim_id = child_id(sale.sale_id)
    reply = await stock.claim(sale.sale_id, [ClaimAsk(claim_id, user_id, 1)])
    return admission_of(reply.answers[0])[0], claim_id


async def give_back(stock: Stock, sale: Sale, user_id: str, claim_id: str) -> None:
    await stock.settle(sale.sale_id, [Occupied(claim_id, user_id, 0, now())])


async def a_sold_out_sale(room: Room, stock: Stock) -> tuple[Sale, str]:
    sale = await world.put_sale(room.database, units_total=1)
    await stock.load(sale, 1)
    _, claim_id = await claim(stock, sale, "alice")
    return sale, claim_id


async def entry_of(board: SaleBoard, sale: Sale) -> BoardSale:
    """What another process remembers: it looks twice, since a sale seen for the first time starts over."""
    for _ in range(2):
        board._catalogue_at = float("-inf")
        await board._refresh()
    return board.entries[sale.sale_id]


def refuses(board: SaleBoard, entry: BoardSale, user_id: str) -> bool:
    """Whether the turnstile would turn this shopper away from memory."""
    return board.verdict(entry) is not None and entry.winners is not None and user_id.encode() not in entry.winners


async def test_a_unit_that_came_back_waits_until_nobody_says_sold_out_from_memory(room: Room) -> None:
    stock = Stock(room.redis, back_after_seconds=MAX_AGE_SECONDS)
    sale, alices = await a_sold_out_sale(room, stock)
    elsewhere = await entry_of(room.board, sale)
    await give_back(stock, sale, "alice", alices)
    assert (await claim(stock, sale, "bob"))[0] is Admission.SOLD_OUT
    assert refuses(room.board, elsewhere, "bob")
    # So long has passed, and what other processes remember with it.
    await room.redis.hincrby(f"flash_sale:{{{sale.sale_id}}}:sale", "back_ms", -MAX_AGE_SECONDS * 1000)
    assert (await claim(stock, sale, "bob"))[0] is Admission.WON


async def test_without_the_wait_a_winner_is_refused_elsewhere(room: Room) -> None:
    stock = Stock(room.redis)
    sale, alices = await a_sold_out_sale(room, stock)
    elsewhere = await entry_of(room.board, sale)
    await give_back(stock, sale, "alice", alices)
    assert (await claim(stock, sale, "bob"))[0] is Admission.WON
    assert refuses(room.board, elsewhere, "bob")


async def test_units_an_operator_adds_to_a_sold_out_sale_wait_as_well(room: Room) -> None:
    stock = Stock(room.redis, back_after_seconds=MAX_AGE_SECONDS)
    sale, _ = await a_sold_out_sale(room, stock)
    await stock.configure(world.a_sale(sale_id=sale.sale_id, version=sale.version + 1, units_total=5))
    assert (await claim(stock, sale, "bob"))[0] is Admission.SOLD_OUT


async def test_units_that_come_back_while_others_are_left_do_not_wait(room: Room) -> None:
    stock = Stock(room.redis, back_after_seconds=MAX_AGE_SECONDS)
    sale = await world.put_sale(room.database, units_total=3)
    await stock.load(sale, 1)
    _, alices = await claim(stock, sale, "alice")
    await give_back(stock, sale, "alice", alices)
    assert (await claim(stock, sale, "bob"))[0] is Admission.WON


async def test_winners_of_a_redis_that_came_back_older_and_filled_up_again_are_known(room: Room) -> None:
    sale = await world.put_sale(room.database, units_total=4)
    await room.stock.load(sale, 1)
    for number in range(3):
        await claim(room.stock, sale, f"a{number}")
    entry = await entry_of(room.board, sale)
    assert entry.winners == {b"a0", b"a1", b"a2"}
    # The same generation without its claims, then more of them than the board has read.
    await room.redis.flushall()
    await room.stock.load(sale, 1)
    for number in range(4):
        await claim(room.stock, sale, f"b{number}")
    entry = await entry_of(room.board, sale)
    assert entry.winners == {b"b0", b"b1", b"b2", b"b3"}
    assert not any(refuses(room.board, entry, f"b{number}") for number in range(4))
