"""The process dies between any two steps: nothing is half-done, and doing it again does it once."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from growth.mechanics.referral import person as shopper
from growth.vocabulary.clock import now
from tests.kit.mortal import Deaf, dies_anywhere
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
    await dies_anywhere(room.database, TABLES, lambda mortal: act(assemble(mortal)))


@pytest.mark.parametrize("heard", [True, False])
async def test_a_binding_whose_commit_is_unknown_is_made_once(room: Room, *, heard: bool) -> None:
    await room.program()
    code = await room.code("ann")
    deaf = assemble(Deaf(room.database, heard=heard))
    bound = await deaf.relations.bind("bob", code, None, now())
    assert (bound.inviter_id, bound.replayed) == ("ann", heard)
    assert await room.totals("ann") == (1, 0, 0)
    assert len(await room.events("bound")) == 1
