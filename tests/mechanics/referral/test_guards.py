"""Negative controls: each guard is taken away once, and something breaks that held with it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from growth.kit.campaign import store as campaigns
from growth.kit.campaign.audience import Audiences
from growth.mechanics.referral import store as programs_store
from growth.mechanics.referral.model import PROGRAMS, Caps
from growth.mechanics.referral.relation import service as relation_service
from growth.mechanics.referral.relation import store
from growth.mechanics.referral.relation.model import BindWish, Tie
from growth.mechanics.referral.reward import store as rewards
from growth.mechanics.referral.reward.settlement import reach_milestones
from growth.mechanics.referral.service import program_at
from growth.plumbing.postgres.database import Database, Tx
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.orders import Order
from tests.kit.invariants import violations
from tests.mechanics.referral.conftest import ZONE, Room, a_draft, an_act, milestones

pytestmark = pytest.mark.anyio

RING = "Nobody brought, through whomever, those who brought them"
COUNTED = "An inviter's invitees are counted as they are"


class Without:
    """A transaction whose statements have lost one guard."""

    def __init__(self, tx: Tx, guard: str, instead: str = "TRUE") -> None:
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


class Undone(Exception):
    """What the test wrote is not kept."""


@asynccontextmanager
async def undone(database: Database) -> AsyncIterator[Tx]:
    """A transaction that never happened."""
    try:
        async with database.transaction() as tx:
            yield tx
            raise Undone  # noqa: TRY301
    except Undone:
        pass


async def broken(tx: Tx) -> list[str]:
    return [violation.name for violation in await violations(tx) if violation.room == "referral"]


def wish(invitee_id: str, code: str) -> BindWish:
    return BindWish(relation_id=new_id(now()), invitee_id=invitee_id, code=code, nickname="*")


def tie(program_id: str, invitee_id: str, inviter_id: str) -> Tie:
    return Tie(
        relation_id=new_id(now()),
        invitee_id=invitee_id,
        inviter_id=inviter_id,
        program_id=program_id,
        source="shopper",
        nickname="*",
        is_new=True,
        bound_at=now(),
        ends_at=None,
    )


async def bind_unseen(room: Room, one: str, two: str) -> None:
    """Two processes bind each other's shopper; both look before either writes, since nothing makes one of them wait."""
    codes = {user: await room.code(user) for user in (one, two)}
    async with room.database.transaction() as first, room.database.transaction() as second:
        for tx, invitee, inviter in ((first, one, two), (second, two, one)):
            asked = [wish(invitee, codes[inviter])]
            seen = await relation_service._look(tx, asked, Audiences())
            answers, plain, careful = relation_service.judge(asked, seen)
            assert (len(answers), len(plain), careful) == (1, 1, [])
            if tx is first:
                kept = plain
            else:
                await relation_service.write(first, [made for _, made in kept], over=[], now=seen.now)
                # The counts of two inviters are two rows: nobody waits.
                await relation_service.write(second, [made for _, made in plain], over=[], now=seen.now)


async def test_without_the_lock_two_who_bind_each_other_close_a_ring(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.program()
    async with room.database.transaction() as one, room.database.transaction() as two:
        await store.lock(one)
        taken = await two.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended('referral.relations', 0))")
        assert taken is False, "the lock is there"

    async def no_lock(_: Tx) -> Any:
        return now()

    monkeypatch.setattr(store, "lock", no_lock)
    await bind_unseen(room, "ann", "bob")
    assert [violation.name for violation in await violations(room.database)] == [RING]
    await room.database.fetchval("DELETE FROM referral.relations WHERE invitee_id = 'ann'")
    await room.database.fetchval("DELETE FROM referral.inviters WHERE user_id = 'bob'")


async def test_without_the_look_at_the_line_a_ring_closes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.binds("cat", "bob")
    assert await room.tries("ann", "cat") == "loop"

    async def nobody(*_: object) -> bool:
        return False

    monkeypatch.setattr(store, "is_above", nobody)
    assert await room.tries("ann", "cat") == "bound"
    assert [violation.name for violation in await violations(room.database)] == [RING]
    await room.database.fetchval("DELETE FROM referral.relations WHERE invitee_id = 'ann'")
    await room.database.fetchval("DELETE FROM referral.inviters WHERE user_id = 'cat'")


async def test_without_the_unique_index_a_shopper_has_two_inviters(room: Room) -> None:
    program = await room.program()
    await room.binds("bob", "ann")
    with pytest.raises(asyncpg.UniqueViolationError):
        async with room.database.transaction() as tx:
            await store.tie(tx, [tie(program.program_id, "bob", "cat")])
    async with undone(room.database) as tx:
        await tx.execute("DROP INDEX referral.relations_one_current")
        await store.tie(tx, [tie(program.program_id, "bob", "cat")])
        assert await broken(tx) == ["A shopper has one inviter, and is not it"]


async def test_without_the_check_shoppers_bring_themselves(room: Room) -> None:
    program = await room.program()
    with pytest.raises(asyncpg.CheckViolationError):
        async with room.database.transaction() as tx:
            await store.tie(tx, [tie(program.program_id, "bob", "bob")])
    async with undone(room.database) as tx:
        await tx.execute("ALTER TABLE referral.relations DROP CONSTRAINT relations_not_oneself")
        await store.tie(tx, [tie(program.program_id, "bob", "bob")])
        assert "A shopper has one inviter, and is not it" in await broken(tx)


async def test_without_the_guard_on_the_first_order_a_second_one_counts(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.binds("cat", "ann")
    await room.pays("bob", "o1")
    terms = await program_at(room.database, now())
    assert terms is not None
    order = Order(order_id="o2", user_id="bob", paid_at=now(), paid_fen=1)
    async with undone(room.database) as tx:
        (relation,) = await rewards.lock_relations(tx, "bob")
        assert not await rewards.claim(tx, relation, order, terms)
        without = Without(tx, "AND first_order_id IS NULL", "")
        assert await rewards.claim(without, relation, order, terms)  # type: ignore[arg-type]
        assert await broken(tx) == [COUNTED]


async def test_without_the_guard_on_receipt_an_invitee_counts_twice(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.binds("cat", "ann")
    await room.pays("cat", "o2")
    await room.buys("bob", "o1")
    month = now().astimezone(ZoneInfo(ZONE)).date().replace(day=1)
    async with undone(room.database) as tx:
        (relation,) = await rewards.lock_relations(tx, "bob")
        assert await rewards.validate(tx, relation, "o1", now(), month) is None
        without = Without(tx, "AND first_received_at IS NULL", "")
        assert await rewards.validate(without, relation, "o1", now(), month) == 2  # type: ignore[arg-type]
        assert COUNTED in await broken(tx)


async def test_without_the_guard_on_the_order_another_refund_takes_the_invitee_away(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")
    async with undone(room.database) as tx:
        (relation,) = await rewards.lock_relations(tx, "bob")
        assert await rewards.lose(tx, relation, "o2") is None
        looked = Without(tx, "AND first_order_id = $2", "AND $2::text <> ''")
        without = Without(looked, "AND relation.first_order_id = $2", "")  # type: ignore[arg-type]
        assert await rewards.lose(without, relation, "o2") == 0  # type: ignore[arg-type]
        assert await tx.fetchval("SELECT state FROM referral.relations") == "bound", "though o1 was not paid back"
    async with undone(room.database) as tx:
        assert await rewards.lose(tx, relation, "o1") == 0
        assert await rewards.lose(tx, relation, "o1") is None
        assert await broken(tx) == []


@pytest.mark.one_day
@pytest.mark.parametrize(("guard", "caps"), [("one.rewarded < $5", 1), ("rewarded < $4", 1)])
async def test_without_the_guard_on_a_cap_more_are_rewarded(room: Room, guard: str, caps: int) -> None:
    await room.program(caps=Caps(invitees_per_day=caps) if "$5" in guard else Caps(invitees=caps))
    limits = Caps(invitees_per_day=caps) if "$5" in guard else Caps(invitees=caps)
    for user in ("bob", "cat"):
        await room.binds(user, "ann")
        await room.buys(user)
    assert await room.points("ann") == 10
    async with undone(room.database) as tx:
        (relation,) = await rewards.lock_relations(tx, "cat")
        # The day on which bob was rewarded, not today's: between the two may lie the merchant's midnight.
        day = await tx.fetchval("SELECT max(day) FROM referral.inviter_days")
        assert not await rewards.take_caps(tx, relation, limits, day)
        without = Without(tx, guard)
        assert await rewards.take_caps(without, relation, limits, day)  # type: ignore[arg-type]
        assert without.found
        rewarded = await tx.fetchval("SELECT rewarded FROM referral.progress WHERE inviter_id = 'ann'")
        assert rewarded > caps


async def test_without_the_guard_on_held_a_milestone_is_given_twice(room: Room) -> None:
    await room.program(inviter_rewards=[], invitee_rewards=[], milestones=milestones(at_1=100))
    await room.binds("bob", "ann")
    await room.buys("bob")
    terms = await program_at(room.database, now())
    assert terms is not None
    (milestone,) = terms.draft.milestones
    async with undone(room.database) as tx:
        await reach_milestones(tx, terms, "ann", 1, now())
        again = await rewards.reach(tx, new_id(now()), terms.program_id, "ann", milestone, now())
        assert again is None
        without = Without(tx, "WHERE NOT one.is_held", "")
        reached = await rewards.reach(without, new_id(now()), terms.program_id, "ann", milestone, now())  # type: ignore[arg-type]
        assert reached is not None
        assert reached[1] == 2, "a key that was never granted: the milestone would be paid again"


async def test_without_the_unique_index_two_programs_are_live(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.program()
    second = (await room.programs.create(an_act(), a_draft(), None, b"")).answer

    async def none(_: object) -> None:
        return None

    monkeypatch.setattr(programs_store, "live_program", none)
    with pytest.raises(asyncpg.UniqueViolationError):
        await room.programs.publish(an_act(), second.program_id, accept_warnings=True)
    async with undone(room.database) as tx:
        await tx.execute("DROP INDEX referral.programs_one_live")
        await campaigns.move(tx, PROGRAMS, second.program_id, ["draft"], "published", now())
        assert "At most one program is live" in await broken(tx)


async def test_a_third_level_is_refused_by_the_tables_as_well(room: Room) -> None:
    program = await room.program()
    for table in ("programs", "terms"):
        with pytest.raises(asyncpg.CheckViolationError):
            await room.database.fetchval(
                f"UPDATE referral.{table} SET levels = 3, draft = draft || '{{\"levels\": 3}}' WHERE program_id = $1",
                program.program_id,
            )
