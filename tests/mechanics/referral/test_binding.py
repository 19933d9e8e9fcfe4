"""Who is bound to whom: first touch, never oneself, never in a ring, only newcomers; also when all ask at once."""

import asyncio
import itertools
import re
from collections import Counter
from datetime import timedelta

import pytest

from growth.mechanics.referral.relation import model
from growth.mechanics.referral.relation.model import CODE_ALPHABET, CODE_CHARACTERS, MAX_SCENE_CHARACTERS, scene_of
from growth.vocabulary.clock import now
from tests.mechanics.referral.conftest import Room, a_draft, an_act, assemble
from tests.shop.order import telling

pytestmark = pytest.mark.anyio

SCENE = re.compile(r"[0-9A-Za-z!#$&'()*+,/:;=?@._~-]{1,32}")
"""What WeChat's getwxacodeunlimit takes as a scene."""


def registered(user_id: str, *, days_ago: float = 0, **data: object) -> telling.JSON:
    told = {"user_id": user_id, "registered_at": (now() - timedelta(days=days_ago)).isoformat(), **data}
    return telling.event("shopper.registered", told, id_=f"registered:{user_id}", time=now().isoformat())


def test_a_code_has_sixty_random_bits_and_fits_a_scene() -> None:
    assert len(CODE_ALPHABET) == len(set(CODE_ALPHABET)) == 32
    assert not set(CODE_ALPHABET) & set("0O1I")
    assert 5 * CODE_CHARACTERS >= 60
    codes = {model.new_code() for _ in range(2000)}
    assert len(codes) == 2000
    assert all(SCENE.fullmatch(scene_of(code)) and len(scene_of(code)) <= MAX_SCENE_CHARACTERS for code in codes)
    assert all(model.read_code(f" {scene_of(code).lower()} ".replace("i=", "i=")) == code for code in codes)


async def test_a_shopper_has_one_code_however_many_ask_for_it_at_once(room: Room) -> None:
    codes = await asyncio.gather(*[room.code("ann") for _ in range(64)])
    assert len(set(codes)) == 1
    assert await room.code("ann") == codes[0] != await room.code("bob")


async def test_first_touch_wins_and_the_same_again_is_the_same(room: Room) -> None:
    await room.program()
    first = await room.binds("bob", "ann")
    assert (first.inviter_id, first.replayed) == ("ann", False)
    assert first.ends_at is not None
    assert first.ends_at - first.bound_at == timedelta(days=365)
    again = await room.binds("bob", "ann")
    assert (again.bound_at, again.replayed) == (first.bound_at, True)
    assert await room.tries("bob", "cat") == "already_bound"
    assert await room.totals("ann") == (1, 0, 0)
    (event,) = await room.events("bound")
    assert (event["inviter_id"], event["invitee_id"], event["source"]) == ("ann", "bob", "shopper")


async def test_nobody_brings_themselves(room: Room) -> None:
    await room.program()
    assert await room.tries("ann", "ann") == "own_code"


async def test_a_code_that_nobody_has_is_unknown_whatever_it_looks_like(room: Room) -> None:
    await room.program()
    tried = ["AAAAAAAAAAAAA", "A", "'OR(1=1)", "i=", "i=i=", "~" * 32]
    assert {await room.tries_code("bob", code) for code in tried} == {"unknown_code"}


async def test_a_ring_of_any_length_is_refused(room: Room) -> None:
    await room.program()
    people = [f"u{number}" for number in range(12)]
    for inviter, invitee in itertools.pairwise(people):
        await room.binds(invitee, inviter)
    for below in people[1:]:
        assert await room.tries("u0", below) == "loop"
    assert await room.tries("u0", "stranger") == "bound"


async def test_a_line_too_long_to_tell_is_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("growth.mechanics.referral.relation.store.MAX_LINE", 5)
    await room.program()
    people = [f"u{number}" for number in range(10)]
    for inviter, invitee in itertools.pairwise(people):
        assert await room.tries(invitee, inviter) == "bound"
    await room.binds("child", "root")
    assert await room.tries("root", "u9") == "loop"
    assert await room.tries("root", "u1") == "bound"


async def test_only_who_never_bought_is_bound(room: Room) -> None:
    await room.program()
    await room.pays("bob", "o1")
    assert await room.tries("bob", "ann") == "not_new"
    await room.refunds("o1")
    assert await room.tries("bob", "ann") == "bound"


async def test_only_within_the_days_after_the_first_visit(room: Room) -> None:
    await room.program(attribution_days=7)
    await room.tells(registered("bob", days_ago=6.9), registered("cat", days_ago=7.1))
    assert await room.tries("bob", "ann") == "bound"
    assert await room.tries("cat", "ann") == "not_new"


async def test_without_a_published_program_nobody_is_bound(room: Room) -> None:
    assert await room.tries("bob", "ann") == "no_program"
    program = await room.program()
    await room.programs.pause(an_act(), program.program_id)
    assert await room.tries("bob", "ann") == "no_program"
    await room.programs.resume(an_act(), program.program_id)
    assert await room.tries("bob", "ann") == "bound"
    await room.programs.end(an_act(), program.program_id)
    assert await room.tries("cat", "ann") == "no_program"
    assert await room.tries("bob", "ann") == "again"


async def test_a_relation_that_is_over_lets_a_newcomer_be_bound_again(room: Room) -> None:
    await room.program(relation_days=30, attribution_days=90)
    await room.binds("bob", "ann")
    await room.later(31)
    assert await room.tries("bob", "cat") == "bound"
    assert await room.inviter_of("bob") == "cat"
    assert await room.tries("bob", "ann") == "already_bound"


async def test_a_ring_is_a_ring_also_where_a_link_is_over(room: Room) -> None:
    await room.program(relation_days=30, attribution_days=90)
    await room.binds("bob", "ann")
    await room.later(31)
    assert await room.tries("ann", "bob") == "loop"


@pytest.mark.parametrize("length", [2, 3, 4, 7])
async def test_who_bind_each_other_at_once_make_no_ring(room: Room, length: int) -> None:
    await room.program()
    other = assemble(room.database)
    for number in range(6):
        ring = [f"r{number}-{place}" for place in range(length)]
        codes = [await room.code(user) for user in ring]
        told = await asyncio.gather(
            *[
                (room if place % 2 else other).tries_code(user, codes[(place + 1) % length])
                for place, user in enumerate(ring)
            ]
        )
        assert Counter(told) == {"bound": length - 1, "loop": 1}


async def test_one_shopper_with_64_codes_at_once_gets_one_inviter(room: Room) -> None:
    await room.program()
    codes = [await room.code(f"i{number}") for number in range(64)]
    other = assemble(room.database)
    told = await asyncio.gather(
        *[(room if number % 2 else other).tries_code("bob", code) for number, code in enumerate(codes)]
    )
    assert Counter(told) == {"bound": 1, "already_bound": 63}


async def test_64_shoppers_at_once_that_form_one_ring_lack_one_link(room: Room) -> None:
    await room.program()
    ring = [f"u{number}" for number in range(64)]
    codes = [await room.code(user) for user in ring]
    processes = [room, assemble(room.database), assemble(room.database)]
    told = await asyncio.gather(
        *[processes[place % 3].tries_code(user, codes[(place + 1) % len(ring)]) for place, user in enumerate(ring)]
    )
    assert Counter(told) == {"bound": 63, "loop": 1}


async def test_a_crowd_that_comes_by_one_code_is_counted_whole(room: Room) -> None:
    await room.program()
    code = await room.code("ann")
    told = await asyncio.gather(*[room.tries_code(f"u{number}", code) for number in range(300)])
    assert Counter(told) == {"bound": 300}
    assert await room.totals("ann") == (300, 0, 0)


async def test_what_accounts_share_is_told_and_stops_nothing(room: Room) -> None:
    await room.program()
    await room.tells(
        registered("ann", device_id="d1", address="10.0.0.1"),
        registered("bob", device_id="d1", address="10.0.0.2"),
        registered("cat", device_id="d2", address="10.0.0.1"),
        registered("dan", device_id="d2", address="10.0.0.3"),
        registered("eve", device_id="d3", address="10.0.0.4"),
    )
    for user in ("bob", "cat", "dan", "eve"):
        assert await room.tries(user, "ann") == "bound"
    told = {event["invitee_id"]: event["signs"] for event in await room.events("suspected")}
    assert told == {"bob": ["same_device"], "cat": ["same_address"], "dan": ["shared_device"]}


async def test_a_dry_run_says_what_would_be_and_changes_nothing(room: Room) -> None:
    program = (await room.programs.create(an_act(), a_draft(), None, b"")).answer
    code, moment = await room.code("ann"), now()
    before = await room.programs.dry_run(program.program_id, "bob", code, moment)
    assert (before.would, before.inviter_id, before.code) == ("bind", "ann", None)
    await room.programs.publish(an_act(), program.program_id, accept_warnings=True)
    assert (await room.programs.dry_run(program.program_id, "ann", code, moment)).code == "referral.own_code"
    assert (await room.programs.dry_run(program.program_id, "bob", "NOBODY", moment)).code == "referral.unknown_code"
    assert await room.inviter_of("bob") is None
    await room.binds("bob", "ann")
    assert (await room.programs.dry_run(program.program_id, "bob", code, moment + timedelta(days=1))).would == "nothing"
    bobs = await room.code("bob")
    assert (await room.programs.dry_run(program.program_id, "ann", bobs, now())).code == "referral.loop"
    await room.pays("cat", "o1")
    assert (await room.programs.dry_run(program.program_id, "cat", code, now())).code == "referral.not_new"
    await room.programs.pause(an_act(), program.program_id)
    assert (await room.programs.dry_run(program.program_id, "dan", code, now())).code == "referral.no_program"
