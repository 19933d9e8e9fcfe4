"""What operators do to relations by hand; two ids that become one person's; a person who is forgotten."""

import asyncio
import itertools

import pytest

from growth.mechanics.referral import person as shopper
from growth.mechanics.referral.correction.model import RelationFilter
from growth.mechanics.referral.relation.store import relations_in_force
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from tests.mechanics.referral.conftest import Room, an_act, assemble, milestones, paid

pytestmark = pytest.mark.anyio


async def merge(room: Room, old: str, new: str) -> None:
    async with room.database.transaction() as tx:
        await shopper.merge(tx, old, new, now())


async def relation_of(room: Room, invitee_id: str) -> str:
    found: str = await room.database.fetchval(
        "SELECT relation_id FROM referral.relations WHERE invitee_id = $1 AND is_current", invitee_id
    )
    return found


async def test_an_operator_ends_a_relation_once_and_what_was_earned_stays(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")
    relation_id = await relation_of(room, "bob")
    ended = await room.corrections.end(an_act("fraud"), relation_id, "fraud")
    assert (ended.end_reason, ended.is_current, ended.state) == ("fraud", False, "valid")
    with pytest.raises(Refusal, match="relation_over"):
        await room.corrections.end(an_act("fraud"), relation_id, "fraud")
    assert await room.points("ann") == 10
    assert await room.tries("bob", "cat") == "not_new"
    actions = await room.database.fetch("SELECT action, reason FROM plumbing.audit ORDER BY entry DESC LIMIT 1")
    assert [tuple(row) for row in actions] == [("referral.end_relation", "fraud")]
    (event,) = await room.events("relation_ended")
    assert event["reason"] == "fraud"
    await room.refunds("o1")
    assert await room.points("ann") == 0


async def test_who_was_let_go_before_buying_can_be_bound_again(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.corrections.end(an_act(), await relation_of(room, "bob"), "mistake")
    assert await room.tries("bob", "cat") == "bound"
    await room.buys("bob", "o1")
    assert (await room.points("ann"), await room.points("cat")) == (0, 10)


async def test_an_operator_binds_by_hand_whom_nobody_else_could(room: Room) -> None:
    await room.program()
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")
    made = await room.corrections.rebind(an_act("mistake"), "bob", "cat", "mistake", None, b"")
    assert (made.answer.inviter_id, made.answer.is_new, made.answer.source) == ("cat", False, "operator")
    await room.buys("bob", "o2")
    assert (await room.points("ann"), await room.points("cat")) == (10, 0)
    for invitee, inviter, why in (("cat", "bob", "loop"), ("cat", "cat", "own_code"), ("bob", "cat", "wrong_state")):
        with pytest.raises(Refusal, match=why):
            await room.corrections.rebind(an_act(), invitee, inviter, "other", None, b"")
    listed = await room.corrections.page(RelationFilter(invitee_id="bob"), None, 10)
    assert [(one.inviter_id, one.is_current) for one in listed] == [("cat", True), ("ann", False)]
    assert await room.corrections.page(RelationFilter(is_suspected=True), None, 10) == []


async def test_operators_and_shoppers_who_bind_each_other_at_once_make_no_ring(room: Room) -> None:
    await room.program()
    other = assemble(room.database)
    for number in range(8):
        one, two = f"a{number}", f"b{number}"
        code = await room.code(two)
        told = await asyncio.gather(
            room.tries_code(one, code),
            other.corrections.rebind(an_act(), two, one, "other", None, b""),
            return_exceptions=True,
        )
        assert sum(answer == "loop" or isinstance(answer, Refusal) for answer in told) == 1


async def test_two_ids_of_one_person_become_one(room: Room) -> None:
    await room.program(milestones=milestones(at_2=100))
    await room.binds("old", "ann")
    await room.binds("new", "cat")
    await room.binds("x", "old")
    await room.binds("y", "new")
    old_code, new_code = await room.code("old"), await room.code("new")
    await room.buys("x")
    await room.buys("y")
    await merge(room, "old", "new")
    await merge(room, "old", "new")
    assert await room.inviter_of("new") == "ann"
    assert await room.inviter_of("old") is None
    assert await room.totals("new") == (0, 0, 2)
    assert await room.code("new") == new_code
    assert await room.tries_code("z", old_code) == "bound"
    assert await room.inviter_of("z") == "new"
    # Reached by both together; paid to the one who remains.
    reached = await room.events("milestone_reached")
    assert [(event["inviter_id"], event["invitees"]) for event in reached] == [("new", 2)]
    await room.refunds("o-x")
    assert await room.events("milestone_lost")


async def test_nobody_is_their_own_inviter_after_a_merge(room: Room) -> None:
    await room.program()
    await room.binds("new", "old")
    await room.buys("new", "o1")
    assert await room.points("old") == 10
    await merge(room, "old", "new")
    assert await room.inviter_of("new") is None
    assert (await room.points("old"), await room.points("new")) == (0, 0)
    assert await room.totals("new") == (0, 0, 0)


@pytest.mark.parametrize("length", [1, 2, 5])
async def test_a_merge_closes_no_ring(room: Room, length: int) -> None:
    await room.program()
    line = ["old", *[f"m{number}" for number in range(length)], "new"]
    for above, below in itertools.pairwise(line):
        await room.binds(below, above)
    await merge(room, "old", "new")
    assert await room.inviter_of("new") is None
    assert await room.inviter_of("m0") == "new"


async def test_of_two_first_orders_of_one_person_the_earlier_one_counts(room: Room) -> None:
    await room.program()
    await room.binds("old", "ann")
    await room.binds("new", "cat")
    await room.buys("new", "o1")
    await room.buys("old", "o2")
    await merge(room, "old", "new")
    assert (await room.points("cat"), await room.points("ann")) == (10, 0)
    assert (await room.totals("cat"), await room.totals("ann")) == ((0, 0, 1), (1, 0, 0))
    assert await room.inviter_of("new") == "ann"


async def test_a_milestone_that_both_ids_hold_is_given_once(room: Room) -> None:
    await room.program(inviter_rewards=[], invitee_rewards=[], milestones=milestones(at_1=100))
    for invitee, inviter in (("x", "old"), ("y", "new")):
        await room.binds(invitee, inviter)
        await room.buys(invitee)
    assert (await room.points("old"), await room.points("new")) == (100, 100)
    await merge(room, "old", "new")
    assert await room.points("old") + await room.points("new") == 100
    await room.refunds("o-x")
    assert await room.points("old") + await room.points("new") == 100
    await room.refunds("o-y")
    assert await room.points("old") + await room.points("new") == 0


async def test_a_person_who_is_forgotten_leaves_counts_and_no_trace(room: Room) -> None:
    await room.program()
    await room.binds("ann", "zoe", "安")
    await room.binds("bob", "ann")
    await room.buys("bob", "o1")
    code = await room.code("ann")
    told = await shopper.export(room.database, "ann")
    assert told.codes == [code]
    assert ([one.inviter_id for one in told.as_invitee], [one.invitee_id for one in told.as_inviter]) == (
        ["zoe"],
        ["bob"],
    )
    for _ in range(2):
        async with room.database.transaction() as tx:
            await shopper.erase(tx, "ann", "erased:0f0f")
    assert await room.tries_code("cat", code) == "unknown_code"
    assert await room.inviter_of("bob") == "erased:0f0f"
    assert (await shopper.export(room.database, "ann")).as_inviter == []
    rows = await room.database.fetch("SELECT t::text AS row FROM referral.relations AS t")
    assert not any("安" in row["row"] or ",ann," in row["row"] for row in rows)
    await room.refunds("o1")


async def test_relations_of_a_moment_are_those_in_force_then(room: Room) -> None:
    program = await room.program()
    await room.binds("bob", "ann")
    await room.binds("cat", "bob")
    await room.later(1)
    found = await relations_in_force(room.database, ["bob", "cat", "dan"], now())
    assert {user: (one.inviter_id, one.grand_inviter_id) for user, one in found.items()} == {
        "bob": ("ann", None),
        "cat": ("bob", "ann"),
    }
    assert found["cat"].terms is not None
    assert (found["cat"].terms.program_id, found["cat"].terms.version) == (program.program_id, program.version)
    await room.corrections.end(an_act(), await relation_of(room, "bob"), "other")
    later = await relations_in_force(room.database, ["bob", "cat"], now())
    assert {user: (one.inviter_id, one.grand_inviter_id) for user, one in later.items()} == {"cat": ("bob", None)}
    await room.programs.end(an_act(), program.program_id)
    assert (await relations_in_force(room.database, ["cat"], now()))["cat"].terms is None
    await room.tells(paid("cat", "o1"))
    assert await room.totals("bob") == (1, 0, 0)
