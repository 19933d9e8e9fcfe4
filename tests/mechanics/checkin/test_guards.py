"""Negative controls: each guard is taken away once, and something breaks that held with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from growth.mechanics.checkin.streak import service, store
from growth.mechanics.checkin.streak.day_end import service as night
from growth.mechanics.checkin.streak.model import Day, DayKind, Streak
from growth.mechanics.checkin.streak.repair import service as repair
from growth.mechanics.checkin.streak.repair import store as repairs
from growth.mechanics.checkin.streak.store import Written
from growth.plumbing.postgres.database import Tx
from growth.vocabulary.refusals import Refusal
from tests.kit.invariants import violations
from tests.mechanics.checkin.conftest import INVARIANTS, Room, a_draft, nth

pytestmark = pytest.mark.anyio


class Undone(Exception):
    """What the test wrote is not kept."""


@asynccontextmanager
async def undone(room: Room) -> AsyncIterator[Tx]:
    """A transaction that is rolled back."""
    with suppress(Undone):
        async with room.database.transaction() as tx:
            yield tx
            raise Undone


class Without:
    """A transaction whose statements have lost one guard."""

    def __init__(self, tx: Tx, guard: str, instead: str) -> None:
        self._tx = tx
        self._guard = guard
        self._instead = instead
        self.found = False
        self.people = tx.people

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._tx, name)

        def run(query: str, *args: object) -> Awaitable[Any]:
            self.found = self.found or self._guard in query
            return call(query.replace(self._guard, self._instead), *args)  # type: ignore[no-any-return]

        return run


def again(day: int) -> Written:
    """A second check-in of a day, by a process that did not see the first."""
    held = Day(nth(day), DayKind.CHECKED_IN, 1, 1, 1, 1)
    standing = Streak(last_day=nth(day), last_counted=nth(day), streak=1, run=1, position=1, longest=1, best=1, total=1)
    return Written("ann", held, standing, {}, None)


async def test_without_the_key_on_shopper_and_day_a_day_is_held_twice(room: Room) -> None:
    await room.program()
    await room.taps_daily("ann", 20)
    async with undone(room) as tx:
        assert not await store.write(tx, [again(20)], room.moment)
    async with undone(room) as tx:
        await tx.execute("ALTER TABLE checkin.days DROP CONSTRAINT days_pkey")
        without = Without(tx, "ON CONFLICT (user_id, day) DO NOTHING", "")
        assert await store.write(without, [again(20)], room.moment)  # type: ignore[arg-type]
        assert without.found
        broken = [one.name for one in await violations(tx, INVARIANTS)]
        assert "No shopper holds a day twice" in broken


async def test_without_the_lock_of_the_shopper_many_taps_are_held_back_by_the_key_alone(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight processes that all believe to be first: the key lets one through, the others give all of theirs up."""
    await room.program()
    room.at(nth(20))
    real = store.lock_shoppers

    async def unlocked(tx: Tx, user_ids: Any) -> Any:
        return await real(Without(tx, "FOR NO KEY UPDATE", ""), user_ids)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "lock_shoppers", unlocked)
    await room.check_ins.check_in("bob")
    told = await asyncio.gather(
        *[room.check_ins._together([service.Tap("ann", room.check_ins._monotonic(), None)]) for _ in range(8)],
        return_exceptions=True,
    )
    new = [one for one in told if isinstance(one, list) and isinstance(one[0], service.TapAnswer) and one[0].is_new]
    assert len(new) == 1
    assert len(await room.days("ann")) == 1
    assert await room.points("ann") == 1


async def test_without_the_limit_of_the_month_there_is_one_more(room: Room) -> None:
    await room.program(make_ups_per_month=1, make_up_within_days=31)
    await room.cards("ann", make_up=3)
    room.at(nth(5))
    await room.makes_up("ann", nth(1))
    month = nth(5).replace(day=1)
    async with undone(room) as tx:
        assert await repairs.count_make_up(tx, "ann", month, 1) is None
        without = Without(tx, "AND CASE WHEN make_up_month = $2 THEN make_ups_used ELSE 0 END < $3", "AND $3 > 0")
        assert await repairs.count_make_up(without, "ann", month, 1) == 2  # type: ignore[arg-type]
        assert without.found


async def test_without_the_card_a_day_is_made_up_for_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.program()
    room.at(nth(3))
    with pytest.raises(Refusal):
        await room.makes_up("ann", nth(2))
    assert await room.days("ann") == []

    async def no_card(*_: object) -> None:
        return None

    monkeypatch.setattr(repair, "_take_card", no_card)
    await room.makes_up("ann", nth(2))
    assert len(await room.days("ann")) == 1


async def test_without_looking_how_far_the_walk_is_a_late_card_undoes_what_was_told(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.program(uses_freeze_cards=True)
    await room.taps_daily("ann", 1, 2)
    room.at(nth(3), 1)
    await room.nights()
    room.at(nth(4), 1)
    await room.nights()
    await room.cards("ann", freeze=1)
    monkeypatch.setattr(store.TapGlance, "has_walked", lambda *_: False)
    assert (await room.taps("ann", nth(4), 2)).answer.streak == 3
    assert len(await room.events("streak_broken")) == 1
    assert night.HOUSE_ACCOUNT == "house/checkin"


async def test_without_the_constraint_two_programs_are_live_on_one_day(room: Room) -> None:
    await room.program()
    room.at(nth(1), -5)
    other = await room.programs.create(room.act(), a_draft(from_day=nth(9)), None, b"")
    with pytest.raises(Refusal):
        await room.programs.publish(room.act(), other.answer.program_id)
    sql = (
        "UPDATE checkin.programs SET state = 'published', published_at = created_at, terms_id = 1 WHERE state = 'draft'"
    )
    with pytest.raises(asyncpg.ExclusionViolationError):
        async with room.database.transaction() as tx:
            await tx.execute(sql)
    async with undone(room) as tx:
        await tx.execute("ALTER TABLE checkin.programs DROP CONSTRAINT programs_one_live")
        await tx.execute(sql)
        assert [one.name for one in await violations(tx, INVARIANTS)] == ["Two live programs share no day"]


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("UPDATE checkin.days SET streak = streak + 1 WHERE day = $1", "What is known of a shopper"),
        ("UPDATE checkin.days SET streak = streak + 1 WHERE day = $1::date - 1", "A streak grows by one"),
        ("DELETE FROM checkin.states WHERE $1::date IS NOT NULL", "Every day of late has the shopper's row"),
        ("UPDATE checkin.days SET kind = 2 WHERE day = $1", "Every day made up of late is noted"),
    ],
)
async def test_each_invariant_sees_what_it_is_for(room: Room, sql: str, name: str) -> None:
    await room.program()
    await room.taps_daily("ann", 19, 20, 21)
    async with undone(room) as tx:
        await tx.execute(sql, nth(21))
        assert [one.name for one in await violations(tx, INVARIANTS) if one.name.startswith(name)]
