"""Who claims while a sale draws has an entry: one, durable, and in the draw."""

import asyncio
from datetime import timedelta

import pytest

from growth.kit.campaign import store as campaigns
from growth.mechanics.flash_sale.claim.draw.model import DrawEntry, show_entry
from growth.mechanics.flash_sale.claim.draw.service import Draws
from growth.mechanics.flash_sale.model import SALES, Protection
from growth.plumbing.postgres.database import connect_postgres
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal, Unavailable
from tests import world
from tests.kit.outcomes import refusal
from tests.mechanics.flash_sale.claim.draw.drawing import (
    DRAW_SECONDS,
    draw_now,
    enter_all,
    entrants,
    in_time,
    put_draw,
    time_to_draw,
)
from tests.mechanics.flash_sale.conftest import Room
from tests.plumbing.postgres_proxy import PostgresProxy

pytestmark = pytest.mark.anyio


async def test_a_claim_while_the_sale_draws_is_an_entry(room: Room) -> None:
    sale = await put_draw(room.database)
    answer = await room.claims.claim(sale.sale_id, "alice", 1, "key", "")
    assert isinstance(answer, DrawEntry)
    shown = show_entry(answer, now())
    assert (shown.state, shown.units, shown.draw_at, shown.claim_id) == ("entered", 1, sale.draw_at, None)
    found = await room.draws.entry(sale.sale_id, "alice", shown.server_time)
    assert found == shown
    assert await entrants(room.database, sale) == {"alice"}


async def test_again_is_the_same_entry_whatever_the_units(room: Room) -> None:
    sale = await put_draw(room.database, max_per_shopper=3)
    first = await room.draws.enter(sale, "alice", 2, in_time(sale))
    assert await room.draws.enter(sale, "alice", 3, in_time(sale, 9)) == first
    # Also when entries are over, or the shopper would be refused by now.
    assert await room.draws.enter(sale, "alice", 99, in_time(sale, DRAW_SECONDS + 1)) == first


async def test_a_shopper_in_many_taps_on_many_processes_has_one_entry(room: Room) -> None:
    sale = await put_draw(room.database)
    processes = [Draws(room.database, room.stock) for _ in range(4)]
    entries = await asyncio.gather(*[processes[n % 4].enter(sale, "alice", 1, in_time(sale)) for n in range(64)])
    assert len({entry.entry_id for entry in entries}) == 1
    assert await entrants(room.database, sale) == {"alice"}


async def test_a_crowd_at_several_processes_all_enters(room: Room) -> None:
    sales = [await put_draw(room.database, sku=sku) for sku in ("tea", "milk")]
    processes = [Draws(room.database, room.stock) for _ in range(3)]
    crowd = [f"u{n}" for n in range(300)]
    entries = await asyncio.gather(
        *[processes[n % 3].enter(sales[n % 2], user_id, 1, in_time(sales[0])) for n, user_id in enumerate(crowd)]
    )
    assert [entry.user_id for entry in entries] == crowd
    assert await entrants(room.database, sales[0]) == set(crowd[::2])
    assert await entrants(room.database, sales[1]) == set(crowd[1::2])


async def test_who_cannot_enter_hears_why_and_harms_nobody(room: Room) -> None:
    draws, database = room.draws, room.database
    sale = await put_draw(database)
    plain = await world.put_sale(database, sku="milk")
    paused = await put_draw(database, sku="jam", state="paused")
    ended = await put_draw(database, sku="rye", state="ended")
    draft = await put_draw(database, sku="egg", state="draft")
    unknown = world.a_sale(protection=Protection(draw_seconds=60))
    early, late = in_time(sale, -1), in_time(sale, DRAW_SECONDS)
    # All at once, in one batch with somebody who may.
    codes = asyncio.gather(
        refusal(draws.enter(sale, "u1", 1, early)),
        refusal(draws.enter(sale, "u2", 1, late)),
        refusal(draws.enter(sale, "u3", 2, in_time(sale))),
        refusal(draws.enter(plain, "u4", 1, in_time(plain))),
        refusal(draws.enter(paused, "u5", 1, in_time(paused))),
        refusal(draws.enter(ended, "u6", 1, in_time(ended))),
        refusal(draws.enter(draft, "u7", 1, in_time(draft))),
        refusal(draws.enter(unknown, "u8", 1, in_time(unknown))),
        refusal(draws.enter(sale, "u9", 1, sale.closes_at)),
    )
    assert (await draws.enter(sale, "alice", 1, in_time(sale))).state == "entered"
    assert [code.removeprefix("flash_sale.") for code in await codes] == [
        "not_open",
        "drawing",
        "limit_reached",
        "draw_over",
        "paused",
        "ended",
        "not_found",
        "not_found",
        "ended",
    ]
    assert await entrants(database, sale) == {"alice"}
    assert await room.database.fetchval("SELECT count(*) FROM flash_sale.draw_entries") == 1


async def test_between_entries_and_the_draw_the_refusal_says_when(room: Room) -> None:
    sale = await put_draw(room.database)
    with pytest.raises(Refusal) as refused:
        await room.draws.enter(sale, "alice", 1, time_to_draw(sale))
    assert refused.value.kind.code == "flash_sale.drawing"
    assert refused.value.members["draw_at"] == sale.draw_at


async def test_the_limit_is_that_of_the_sale_as_it_is_now(room: Room) -> None:
    sale = await put_draw(room.database, max_per_shopper=3)
    await room.database.fetch("UPDATE flash_sale.sales SET max_per_shopper = 1")
    with pytest.raises(Refusal) as refused:
        await room.draws.enter(sale, "alice", 2, in_time(sale))
    assert refused.value.members["max_per_shopper"] == 1


async def test_after_the_draw_winners_see_their_claim_and_losers_are_told_to_claim(room: Room) -> None:
    sale = await put_draw(room.database, units_total=1)
    await enter_all(room.draws, sale, "alice", "bob")
    await draw_now(room, sale)
    pages = {user_id: await room.draws.entry(sale.sale_id, user_id, now()) for user_id in ("alice", "bob")}
    (winner,) = [user_id for user_id, page in pages.items() if page.state == "won"]
    (loser,) = [user_id for user_id, page in pages.items() if page.state == "lost"]
    again = await room.draws.enter(sale, winner, 1, in_time(sale))
    assert (again.state, again.claim_id) == ("won", pages[winner].claim_id)
    assert (await room.claims.find(str(again.claim_id), winner)).state == "held"
    assert pages[loser].claim_id is None
    assert await refusal(room.draws.enter(sale, loser, 1, in_time(sale))) == "flash_sale.draw_over"
    assert await refusal(room.draws.enter(sale, "carol", 1, in_time(sale))) == "flash_sale.draw_over"


async def test_entries_to_a_sale_that_ends_undrawn_are_lost(room: Room) -> None:
    sale = await put_draw(room.database)
    await enter_all(room.draws, sale, "alice")
    async with room.database.transaction() as tx:
        await campaigns.move(tx, SALES, sale.sale_id, ["published"], "ended", now())
    assert (await room.draws.entry(sale.sale_id, "alice", now())).state == "lost"
    assert await refusal(room.draws.enter(sale, "alice", 1, in_time(sale))) == "flash_sale.ended"


async def test_without_an_entry_there_is_none(room: Room) -> None:
    sale = await put_draw(room.database)
    draft = await put_draw(room.database, sku="egg", state="draft")
    assert await refusal(room.draws.entry(sale.sale_id, "alice", now())) == "flash_sale.entry_not_found"
    assert await refusal(room.draws.entry(draft.sale_id, "alice", now())) == "flash_sale.not_found"
    assert await refusal(room.draws.entry(new_id(now()), "alice", now())) == "flash_sale.not_found"


async def test_the_account_and_the_allow_list_are_asked_before_the_draw(room: Room) -> None:
    protection = Protection(draw_seconds=DRAW_SECONDS, allow_list_only=True)
    sale = await put_draw(room.database, protection=protection)
    asked = room.claims.claim(sale.sale_id, "alice", 1, None, "")
    assert await refusal(asked) == "flash_sale.not_invited"
    assert await entrants(room.database, sale) == set()


async def test_an_entry_whose_commit_is_in_doubt_is_looked_up(room: Room, postgres_dsn: str) -> None:
    sale = await put_draw(room.database)
    async with PostgresProxy(postgres_dsn) as proxy:
        database = await connect_postgres(proxy.dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
        proxy.cut_after_commit = True
        entering = asyncio.create_task(Draws(database, room.stock).enter(sale, "alice", 1, in_time(sale)))
        await proxy.committed.wait()
        proxy.cut_after_commit = False
        assert (await entering).state == "entered"
        await database.close()
    assert await entrants(room.database, sale) == {"alice"}


async def test_an_entry_that_was_not_committed_is_not_acknowledged(room: Room, postgres_dsn: str) -> None:
    sale = await put_draw(room.database)
    async with PostgresProxy(postgres_dsn) as proxy:
        database = await connect_postgres(proxy.dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
        draws = Draws(database, room.stock)
        proxy.cut_before_commit = True
        with pytest.raises(Unavailable):
            await draws.enter(sale, "alice", 1, in_time(sale))
        assert await entrants(room.database, sale) == set()
        proxy.cut_before_commit = False
        assert (await draws.enter(sale, "alice", 1, in_time(sale))).state == "entered"
        await database.close()


async def test_operators_see_how_many_entered(room: Room) -> None:
    sale = await put_draw(room.database, max_per_shopper=2, units_total=3)
    await enter_all(room.draws, sale, "alice", "bob", "carol", units=2)
    seen = await room.draws.page(sale.sale_id, now())
    assert (seen.entries, seen.units_wanted, seen.winners, seen.units_won, seen.seed) == (3, 6, 0, 0, None)
    drawn = await draw_now(room, sale)
    seen = await room.draws.page(sale.sale_id, now())
    assert (seen.entries, seen.winners, seen.units_won, seen.seed) == (3, 1, 2, drawn.draw_seed)
    assert seen.drawn_at == drawn.drawn_at
    plain = await world.put_sale(room.database, sku="milk")
    assert await refusal(room.draws.page(plain.sale_id, now())) == "flash_sale.no_draw"
    assert await refusal(room.draws.page(new_id(now()), now())) == "flash_sale.not_found"


async def test_the_entry_time_is_that_of_the_gate(room: Room) -> None:
    sale = await put_draw(room.database)
    entry = await room.draws.enter(sale, "alice", 1, in_time(sale, DRAW_SECONDS - 0.001))
    assert entry.entered_at == in_time(sale, DRAW_SECONDS) - timedelta(milliseconds=1)
