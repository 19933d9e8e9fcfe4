"""The lot decides: once, wholly, and over every entry that was acknowledged."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from growth.kit.campaign import store as campaigns
from growth.mechanics.flash_sale.claim import store as claims_store
from growth.mechanics.flash_sale.claim.draw import service, store
from growth.mechanics.flash_sale.claim.draw.model import DrawEntry, EntryWish
from growth.mechanics.flash_sale.claim.draw.service import Draws
from growth.mechanics.flash_sale.claim.model import Wanted
from growth.mechanics.flash_sale.model import SALES, Protection, Sale, faults
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.postgres.database import Database, Tx, connect_postgres
from growth.plumbing.work.periodic import LeaseLost
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal, Unavailable
from tests import world
from tests.kit.outcomes import refusal
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.claim.draw.drawing import (
    DRAW_SECONDS,
    draw_now,
    enter_all,
    entrants,
    events,
    in_order,
    in_time,
    put_draw,
    sale_now,
    time_to_draw,
    told_once,
    untouched,
    winners,
)
from tests.mechanics.flash_sale.conftest import Room, assemble
from tests.mechanics.flash_sale.story import claim_now, off_by, units_in_both

pytestmark = pytest.mark.anyio

CROWD = 64
CRITICAL_CHI_SQUARE = 43.8
"""Exceeded by chance once in a thousand times, with 19 degrees of freedom."""


async def test_the_first_of_the_lot_win_until_units_are_gone(room: Room) -> None:
    sale = await put_draw(room.database, units_total=10)
    crowd = [f"u{n}" for n in range(CROWD)]
    await enter_all(room.draws, sale, *crowd)
    drawn = await draw_now(room, sale)
    assert drawn.draw_seed is not None
    assert await winners(room.database, sale) == in_order(drawn.draw_seed, set(crowd))[:10]
    assert (drawn.taken, drawn.drawn_at, drawn.version) == (10, time_to_draw(sale), sale.version + 1)


async def test_winners_hold_claims_as_if_they_had_claimed(room: Room) -> None:
    sale = await put_draw(room.database, units_total=5, max_per_shopper=2, hold_seconds=90)
    await enter_all(room.draws, sale, "alice", units=2)
    await draw_now(room, sale)
    entry = await room.draws.entry(sale.sale_id, "alice", now())
    claim = await claim_now(room, str(entry.claim_id))
    assert (claim.state, claim.units, claim.price_fen, claim.sku) == ("held", 2, sale.price_fen, sale.sku)
    assert claim.held_at == time_to_draw(sale)
    assert claim.held_until == time_to_draw(sale) + timedelta(seconds=90)
    told = await events(room.database, sale)
    assert [name for name, _ in told] == ["claim_held", "drawn"]
    assert told[0][1]["claim_id"] == claim.claim_id
    assert told[1][1] | {"seed": "", "at": ""} == {
        "type": "flash_sale.drawn",
        "sale_id": sale.sale_id,
        "entries": 1,
        "winners": 1,
        "seed": "",
        "at": "",
    }


async def test_units_add_up_in_the_order_of_the_lot(room: Room) -> None:
    sale = await put_draw(room.database, units_total=10, max_per_shopper=4)
    wanted = {f"u{n}": 1 + n % 4 for n in range(20)}
    await asyncio.gather(*[room.draws.enter(sale, user_id, units, in_time(sale)) for user_id, units in wanted.items()])
    drawn = await draw_now(room, sale)
    assert drawn.draw_seed is not None
    expected, units = [], 0
    for user_id in in_order(drawn.draw_seed, set(wanted)):
        units += wanted[user_id]
        if units > 10:
            break
        expected.append(user_id)
    assert await winners(room.database, sale) == expected
    assert drawn.taken == sum(wanted[user_id] for user_id in expected)


async def test_whoever_wants_more_than_the_limit_lets_them_have_is_passed_over(room: Room) -> None:
    sale = await put_draw(room.database, units_total=3, max_per_shopper=2)
    await enter_all(room.draws, sale, "greedy", units=2)
    await enter_all(room.draws, sale, "alice", "bob")
    # An operator lowered the limit, and somebody holds a unit from before the draw was set up.
    await room.database.fetch("UPDATE flash_sale.sales SET max_per_shopper = 1, state = 'paused'")
    await room.database.fetch("UPDATE flash_sale.sales SET state = 'published'")
    async with room.database.transaction() as tx:
        early = await claims_store.win(tx, sale.sale_id, [Wanted(sale.sale_id, "bob", 1, now())])
        assert early.complete
    await draw_now(room, sale)
    assert await winners(room.database, sale) == ["alice"]


async def test_if_all_can_win_all_do_and_the_last_unit_is_told(room: Room) -> None:
    sale = await put_draw(room.database, units_total=3)
    await enter_all(room.draws, sale, "alice", "bob", "carol")
    drawn = await draw_now(room, sale)
    assert set(await winners(room.database, sale)) == {"alice", "bob", "carol"}
    assert [name for name, _ in await events(room.database, sale)] == ["claim_held"] * 3 + ["sold_out", "drawn"]
    assert drawn.sold_out_at == drawn.drawn_at


async def test_many_winners_are_written_in_batches(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WIN_BATCH", 3)
    sale = await put_draw(room.database, units_total=10)
    await room.loader.load(sale.sale_id)
    await enter_all(room.draws, sale, *[f"u{n}" for n in range(11)])
    await draw_now(room, sale)
    assert len(await winners(room.database, sale)) == 10
    names = Counter(name for name, _ in await events(room.database, sale))
    assert names == {"claim_held": 10, "sold_out": 1, "drawn": 1}
    assert await units_in_both(room, sale.sale_id) == (10, 10)


async def test_without_entries_the_sale_is_open_to_all(room: Room) -> None:
    sale = await put_draw(room.database, units_total=1)
    await room.loader.load(sale.sale_id)
    await draw_now(room, sale)
    assert (await told_once(room.database, sale))["entries"] == 0
    assert (await room.claim(sale.sale_id, "alice")).claim.state == "held"


async def test_what_is_left_is_open_to_all_but_winners_have_theirs(room: Room) -> None:
    sale = await put_draw(room.database, units_total=4, max_per_shopper=2)
    await room.loader.load(sale.sale_id)
    await enter_all(room.draws, sale, "alice", units=2)
    drawing = await room.claims.claim(sale.sale_id, "bob", 1, None, "")
    assert isinstance(drawing, DrawEntry)
    await room.database.fetch("DELETE FROM flash_sale.draw_entries WHERE user_id = 'bob'")
    await draw_now(room, sale)
    assert await refusal(room.claim(sale.sale_id, "alice")) == "flash_sale.limit_reached"
    await asyncio.gather(room.claim(sale.sale_id, "bob"), room.claim(sale.sale_id, "carol"))
    assert await refusal(room.claim(sale.sale_id, "dan")) == "flash_sale.sold_out"
    assert await units_in_both(room, sale.sale_id) == (4, 4)
    assert await off_by(room.stock, sale.sale_id) == 0


async def test_no_key_of_a_shopper_is_that_of_a_draw(room: Room) -> None:
    sale = await put_draw(room.database, units_total=2, max_per_shopper=2)
    await enter_all(room.draws, sale, "alice")
    await draw_now(room, sale)
    for key in ("draw", "claim", "draw5:claim"):
        assert await _won_claim(room, sale, "alice") != await _claim_or_none(room, sale, "alice", key)


async def _won_claim(room: Room, sale: Sale, user_id: str) -> str | None:
    return (await room.draws.entry(sale.sale_id, user_id, now())).claim_id


async def _claim_or_none(room: Room, sale: Sale, user_id: str, key: str) -> str | None:
    try:
        return (await room.claim(sale.sale_id, user_id, key=key)).claim.claim_id
    except Refusal:
        return None


@pytest.mark.parametrize(
    "why", ["too early", "paused", "ended", "a draft", "closed", "without a draw", "drawn already"]
)
async def test_what_is_not_to_be_drawn_is_left_alone(room: Room, why: str) -> None:
    state = {"paused": "paused", "ended": "ended", "a draft": "draft"}.get(why, "published")
    protection = Protection(draw_seconds=None if why == "without a draw" else DRAW_SECONDS)
    sale = await put_draw(room.database, state=state, protection=protection)
    moment = sale.opens_at + timedelta(seconds=DRAW_SECONDS + 2)
    if why == "too early":
        moment -= timedelta(milliseconds=1)
    elif why == "closed":
        moment = sale.closes_at
    elif why == "drawn already":
        sale = await draw_now(room, sale)
    turn = await leading_at(room.database, moment)
    assert await room.draws.draw_due(turn) == 0
    # Nor if somebody else thought that it was.
    async with turn.transaction() as tx:
        assert not await room.draws.draw(tx, sale.sale_id, moment)
    assert await sale_now(room.database, sale) == sale


async def test_a_sale_leaves_time_to_draw() -> None:
    hour = timedelta(hours=1)
    draft = world.a_draft(protection=Protection(draw_seconds=3540))
    assert draft.closes_at - draft.opens_at == hour
    assert faults(draft) == []
    (fault,) = faults(world.a_draft(protection=Protection(draw_seconds=3541)))
    assert fault.field == "protection.draw_seconds"


async def test_a_paused_draw_happens_once_it_is_resumed(room: Room) -> None:
    sale = await put_draw(room.database)
    await enter_all(room.draws, sale, "alice")
    for state, drawn in (("paused", 0), ("published", 1)):
        async with room.database.transaction() as tx:
            await campaigns.move(tx, SALES, sale.sale_id, ["published", "paused"], state, now())
        assert await room.draws.draw_due(await leading_at(room.database, time_to_draw(sale))) == drawn


async def test_two_workers_make_one_draw(room: Room, postgres_dsn: str, redis_url: str) -> None:
    sale = await put_draw(room.database, units_total=5)
    await enter_all(room.draws, sale, *[f"u{n}" for n in range(20)])
    turn = await leading_at(room.database, time_to_draw(sale))
    async with world.stores(postgres_dsn, redis_url) as (database, redis):
        rooms = [room, assemble(database, redis), assemble(database, redis)]
        drawn = await asyncio.gather(*[one.draws.draw_due(turn) for one in rooms])
    assert sum(drawn) == 1
    assert (await told_once(room.database, sale))["winners"] == 5
    assert len(await winners(room.database, sale)) == 5


async def test_a_worker_that_lost_its_lease_draws_nothing(room: Room) -> None:
    sale = await put_draw(room.database)
    await enter_all(room.draws, sale, "alice")
    turn = await leading_at(room.database, time_to_draw(sale))
    await room.database.fetch("UPDATE plumbing.leases SET fence = fence + 1")
    with pytest.raises(LeaseLost):
        await room.draws.draw_due(turn)
    await untouched(room.database, sale)


async def test_a_draw_that_fails_does_not_hold_up_the_others(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, sound = [await put_draw(room.database, sku=sku) for sku in ("tea", "milk")]
    await enter_all(room.draws, broken, "alice")
    await enter_all(room.draws, sound, "alice")
    pick = store.pick

    async def pick_or_die(tx: Tx, sale_id: str, seed: str) -> tuple[int, int]:
        if sale_id == broken.sale_id:
            raise _Killed
        return await pick(tx, sale_id, seed)

    monkeypatch.setattr(store, "pick", pick_or_die)
    with pytest.raises(_Killed):
        await draw_now(room, sound)
    assert await winners(room.database, sound) == ["alice"]
    monkeypatch.undo()
    await draw_now(room, broken)
    assert await winners(room.database, broken) == ["alice"]


# --- killed ---------------------------------------------------------------------------------------------------------


class _Killed(Exception):
    pass


def _dying(step: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    async def die(*args: Any, **kwargs: Any) -> None:
        if not before:
            await step(*args, **kwargs)
        raise _Killed

    return die


STEPS = [
    (store, "set_drawn"),
    (store, "pick"),
    (store, "winners_after"),
    (claims_store, "win"),
    (store, "set_claims"),
    (service, "emit"),
    (sales_store, "find_sale"),
]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(("module", "step"), STEPS, ids=[step for _, step in STEPS])
async def test_a_draw_killed_at_any_step_has_not_happened(
    room: Room, monkeypatch: pytest.MonkeyPatch, module: Any, step: str, *, before: bool
) -> None:
    sale = await put_draw(room.database, units_total=1)
    await enter_all(room.draws, sale, "alice", "bob")
    turn = await leading_at(room.database, time_to_draw(sale))
    with monkeypatch.context() as broken:
        broken.setattr(module, step, _dying(getattr(module, step), before=before))
        with pytest.raises(_Killed):
            await room.draws.draw_due(turn)
    await untouched(room.database, sale)
    assert await room.draws.draw_due(turn) == 1
    assert len(await winners(room.database, sale)) == 1


async def test_a_worker_killed_before_redis_heard_leaves_no_trace_for_long(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await put_draw(room.database, units_total=2)
    await room.loader.load(sale.sale_id)
    await enter_all(room.draws, sale, "alice")
    turn = await leading_at(room.database, time_to_draw(sale))

    async def die(*_: object) -> None:
        raise Unavailable("Redis did not answer")

    with monkeypatch.context() as broken:
        broken.setattr(Stock, "settle", die)
        broken.setattr(Stock, "configure", die)
        assert await room.draws.draw_due(turn) == 1
    # Redis still draws; whoever claims is told to try again, and nobody is lost.
    assert await refusal(room.claim(sale.sale_id, "bob")) == "flash_sale.draw_over"
    # The next turn brings the end of the draw, the reconciler the winners.
    assert await room.draws.draw_due(turn) == 0
    await room.loader.reconcile(sale.sale_id, now())
    assert await units_in_both(room, sale.sale_id) == (1, 1)
    assert await refusal(room.claim(sale.sale_id, "alice")) == "flash_sale.limit_reached"
    await room.claim(sale.sale_id, "bob")
    assert await units_in_both(room, sale.sale_id) == (2, 2)


async def test_even_before_the_reconciler_nothing_is_oversold(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    sale = await put_draw(room.database, units_total=1)
    await room.loader.load(sale.sale_id)
    await enter_all(room.draws, sale, "alice")

    async def die(*_: object) -> None:
        raise Unavailable("Redis did not answer")

    with monkeypatch.context() as broken:
        broken.setattr(Stock, "settle", die)
        await draw_now(room, sale)
    await room.draws.draw_due(await leading_at(room.database, time_to_draw(sale)))
    assert await refusal(room.claim(sale.sale_id, "bob")) == "flash_sale.sold_out"
    assert (await sale_now(room.database, sale)).taken == 1


async def test_a_rebuild_that_began_before_the_draw_is_put_right(room: Room) -> None:
    sale = await put_draw(room.database, units_total=1)
    generation = await sales_store.raise_generation(room.database, sale.sale_id)
    await enter_all(room.draws, sale, "alice")
    await draw_now(room, sale)
    await room.stock.load(sale, generation)
    assert await refusal(room.claim(sale.sale_id, "bob")) == "flash_sale.draw_over"
    await room.draws.draw_due(await leading_at(room.database, now()))
    await room.loader.reconcile(sale.sale_id, now())
    assert await refusal(room.claim(sale.sale_id, "bob")) == "flash_sale.sold_out"


# --- the moment of the draw -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("head_start", [1, 8, 16, 32, 48])
async def test_whoever_is_acknowledged_at_the_moment_of_the_draw_is_in_it(
    room: Room, postgres_dsn: str, head_start: int
) -> None:
    sale = await put_draw(room.database, units_total=CROWD)
    turn = await leading_at(room.database, time_to_draw(sale))
    # Over two connections, or the whole crowd would hold its share lock in turns and be served before the draw.
    database = await connect_postgres(postgres_dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
    acknowledged: set[str] = set()
    refused: Counter[str] = Counter()
    moment = asyncio.Event()

    async def enter(user_id: str) -> None:
        # A process of their own for each, so that entries come one by one and not in one batch.
        try:
            entry = await Draws(database, room.stock).enter(sale, user_id, 1, in_time(sale))
        except Refusal as refusal:
            refused[refusal.kind.code] += 1
        else:
            acknowledged.add(entry.user_id)
            if len(acknowledged) >= head_start:
                moment.set()

    async def draw() -> int:
        await moment.wait()
        return await room.draws.draw_due(turn)

    drawn, *_ = await asyncio.gather(draw(), *[enter(f"u{n}") for n in range(CROWD)])
    await database.close()
    assert drawn == 1
    # With a unit for everybody, to be in the draw is to win.
    assert set(await winners(room.database, sale)) == acknowledged == await entrants(room.database, sale)
    assert (await told_once(room.database, sale))["entries"] == len(acknowledged)
    assert refused.total() == CROWD - len(acknowledged)
    assert set(refused) <= {"flash_sale.draw_over"}


class _Unlocked:
    """A transaction whose statements take no share lock."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def execute(self, query: str, *args: object) -> str:
        assert "FOR SHARE" in query
        return await self._tx.execute(query.replace("FOR SHARE", ""), *args)


async def _draw_while_entering(room: Room, sale: Sale, *, unlocked: bool) -> int:
    """Draw while an entry is written and not yet committed; return how many entries the draw saw."""
    async with room.database.transaction() as tx:
        await store.enter(
            _Unlocked(tx) if unlocked else tx,  # type: ignore[arg-type]
            [EntryWish(sale.sale_id, "alice", 1, in_time(sale))],
        )
        drawing = asyncio.create_task(draw_now(room, sale))
        # Until the draw waits for us, or is done without us: only Postgres knows.
        while not drawing.done() and not await _somebody_waits(room.database):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await drawing
    assert await entrants(room.database, sale) == {"alice"}
    entries: int = (await told_once(room.database, sale))["entries"]
    return entries


async def _somebody_waits(database: Database) -> bool:
    waiting: bool = await database.fetchval(
        """
        SELECT EXISTS (SELECT
                       FROM pg_stat_activity
                       WHERE datname = current_database()
                         AND wait_event_type = 'Lock')
        """
    )
    return waiting


async def test_the_draw_waits_for_an_entry_that_is_being_written(room: Room) -> None:
    sale = await put_draw(room.database)
    assert await _draw_while_entering(room, sale, unlocked=False) == 1
    assert await winners(room.database, sale) == ["alice"]


async def test_negative_control_without_the_share_lock_an_acknowledged_entry_is_missed(room: Room) -> None:
    sale = await put_draw(room.database)
    assert await _draw_while_entering(room, sale, unlocked=True) == 0
    assert await winners(room.database, sale) == []


# --- fairness -------------------------------------------------------------------------------------------------------


async def test_every_entry_has_the_same_chance(room: Room) -> None:
    sale = await put_draw(room.database, units_total=5)
    crowd = [f"shopper-{n:03d}" for n in range(20)]
    for user_id in crowd:
        await room.draws.enter(sale, user_id, 1, in_time(sale))
    won: Counter[str] = Counter()
    draws = 400
    for seed in range(draws):
        won.update(await _picked(room.database, sale, f"{seed:064x}"))
    expected = draws * 5 / len(crowd)
    chi_square = sum((won[user_id] - expected) ** 2 / expected for user_id in crowd)
    assert won.total() == draws * 5
    assert chi_square < CRITICAL_CHI_SQUARE
    # Neither the early nor the late have an edge.
    assert abs(sum(won[user_id] for user_id in crowd[:10]) - draws * 2.5) < 0.08 * draws * 5


async def _picked(database: Database, sale: Sale, seed: str) -> list[str]:
    """Who would win by this seed; nothing is changed."""
    async with database.transaction() as tx:
        await store.pick(tx, sale.sale_id, seed)
        picked = await store.winners_after(tx, sale.sale_id, "", 100)
        await tx.execute("UPDATE flash_sale.draw_entries SET place = NULL WHERE place IS NOT NULL")
    return [user_id for user_id, _ in picked]


async def test_no_two_draws_have_one_seed(room: Room) -> None:
    sales = [await put_draw(room.database, sku=sku) for sku in ("tea", "milk")]
    seeds = {(await draw_now(room, sale)).draw_seed for sale in sales}
    assert len(seeds) == 2
    assert all(seed is not None and len(seed) == 64 for seed in seeds)


# --- afterwards -----------------------------------------------------------------------------------------------------


async def test_entries_are_forgotten_long_after_the_sale(room: Room) -> None:
    sale, other = [await put_draw(room.database, sku=sku) for sku in ("tea", "milk")]
    for one in (sale, other):
        await enter_all(room.draws, one, "alice", "bob")
        await draw_now(room, one)
    async with room.database.transaction() as tx:
        await campaigns.end_over(tx, SALES, sale.closes_at + timedelta(seconds=1), 1)
    late = sale.closes_at + service.ENTRIES_KEPT
    assert await room.draws.forget_old_entries(await leading_at(room.database, late)) == 0
    assert await room.draws.forget_old_entries(await leading_at(room.database, late + timedelta(seconds=1))) == 2
    left = await entrants(room.database, sale), await entrants(room.database, other)
    assert sorted(left, key=len) == [set(), {"alice", "bob"}]
