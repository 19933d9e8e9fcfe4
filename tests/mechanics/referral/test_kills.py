"""The process dies between any two steps: nothing is half-done, and doing it again does it once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from growth.mechanics.referral import person as shopper
from growth.plumbing.postgres.database import CommitUnknown, Database, Tx
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Unavailable
from tests.mechanics.referral.conftest import Room, a_draft, an_act, assemble, milestones

pytestmark = pytest.mark.anyio

TABLES = (
    "referral.programs",
    "referral.terms",
    "referral.relations",
    "referral.inviters",
    "referral.inviter_months",
    "referral.inviter_days",
    "referral.progress",
    "referral.milestones",
    "granting.grants",
    "shop.orders",
    "shop.events",
    "plumbing.audit",
)
MAX_STEPS = 90


class Killed(Unavailable):
    """The process is gone."""


class Mortal(Database):
    """A pool whose transactions die before their n-th statement, or (the statement after the last) before COMMIT."""

    def __init__(self, database: Database, steps: int) -> None:
        super().__init__(database.pool, acquire_seconds=60)
        self.left = steps

    def _step(self) -> None:
        if self.left == 0:
            raise Killed("gone")
        self.left -= 1

    @asynccontextmanager
    async def transaction(self, **told: Any) -> AsyncIterator[Tx]:
        async with super().transaction(**told) as tx:
            for name in ("fetch", "fetchrow", "fetchval", "execute"):
                setattr(tx, name, self._mortal(getattr(tx, name)))
            yield tx
            self._step()

    def _mortal(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any) -> Any:
            self._step()
            return await call(*args)

        return run


class Deaf(Database):
    """A pool that commits, and does not hear so the first time."""

    def __init__(self, database: Database, *, heard: bool) -> None:
        super().__init__(database.pool, acquire_seconds=60)
        self.heard = heard
        """Whether the first transaction was committed."""
        self.is_first = True

    @asynccontextmanager
    async def transaction(self, **told: Any) -> AsyncIterator[Tx]:
        was_first, self.is_first = self.is_first, False
        async with super().transaction(**told) as tx:
            yield tx
            if was_first and not self.heard:
                raise CommitUnknown("lost")
        if was_first:
            raise CommitUnknown("lost")


async def everything(database: Database) -> list[str]:
    found = []
    for table in TABLES:
        rows = await database.fetch(f"SELECT t::text AS row FROM {table} AS t ORDER BY 1")
        found += [f"{table} {row['row']}" for row in rows]
    rows = await database.fetch("SELECT type, subject, data::text AS data FROM plumbing.outbox ORDER BY position")
    return found + [f"outbox {tuple(row)}" for row in rows]


Act = Callable[[Room], Awaitable[Any]]


async def binding(room: Room) -> Act:
    code = await room.code("ann")
    return lambda mortal: mortal.relations.bind("bob", code, None, now())


async def binding_who_brought_somebody(room: Room) -> Act:
    await room.binds("bob", "ann")
    code = await room.code("cat")
    return lambda mortal: mortal.relations.bind("ann", code, None, now())


async def paying(room: Room) -> Act:
    await room.binds("bob", "ann")
    return lambda mortal: mortal.pays("bob", "o1")


async def receiving(room: Room) -> Act:
    await room.binds("bob", "ann")
    await room.pays("bob", "o1")
    return lambda mortal: mortal.receives("o1")


async def refunding(room: Room) -> Act:
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")
    return lambda mortal: mortal.refunds("o1")


async def ending_a_relation(room: Room) -> Act:
    await room.binds("bob", "ann")
    relation_id = await room.database.fetchval("SELECT relation_id FROM referral.relations")
    return lambda mortal: mortal.corrections.end(an_act(), relation_id, "fraud")


async def rebinding(room: Room) -> Act:
    await room.binds("bob", "ann")
    return lambda mortal: mortal.corrections.rebind(an_act(), "bob", "cat", "mistake", "k", b"")


async def merging(room: Room) -> Act:
    for invitee, inviter in (("x", "old"), ("y", "new"), ("old", "ann"), ("new", "x")):
        await room.binds(invitee, inviter)
        await room.buys(invitee)

    async def merge(mortal: Room) -> None:
        async with mortal.database.transaction() as tx:
            await shopper.merge(tx, "old", "new", now())

    return merge


async def editing(room: Room) -> Act:
    (program,) = await room.programs.page(state="published", before=None, limit=2)
    return lambda mortal: mortal.programs.change(
        an_act(), program.program_id, program.version, a_draft(levels=1), accept_warnings=True
    )


async def ending_the_program(room: Room) -> Act:
    (program,) = await room.programs.page(state="published", before=None, limit=2)
    return lambda mortal: mortal.programs.end(an_act(), program.program_id)


@pytest.mark.parametrize(
    "story",
    [
        binding,
        binding_who_brought_somebody,
        paying,
        receiving,
        refunding,
        ending_a_relation,
        rebinding,
        merging,
        editing,
        ending_the_program,
    ],
)
async def test_a_process_that_dies_anywhere_leaves_nothing_half_done(
    room: Room, story: Callable[[Room], Awaitable[Act]]
) -> None:
    await room.program(milestones=milestones(at_1=100))
    act = await story(room)
    before = await everything(room.database)
    for steps in range(MAX_STEPS):
        try:
            await act(assemble(Mortal(room.database, steps)))
        except Killed:
            assert await everything(room.database) == before, f"killed before step {steps}"
            continue
        assert steps > 2
        break
    else:
        pytest.fail("it never got to the end")
    assert await everything(room.database) != before


@pytest.mark.parametrize("heard", [True, False])
async def test_a_binding_whose_commit_is_unknown_is_made_once(room: Room, *, heard: bool) -> None:
    await room.program()
    code = await room.code("ann")
    deaf = assemble(Deaf(room.database, heard=heard))
    bound = await deaf.relations.bind("bob", code, None, now())
    assert (bound.inviter_id, bound.replayed) == ("ann", heard)
    assert await room.totals("ann") == (1, 0, 0)
    assert len(await room.events("bound")) == 1
