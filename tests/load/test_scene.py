"""Scenes: their laws see what must not be."""

import random
from typing import Any

import msgspec
import pytest

from growth.load.scene.mixes import MIXES, CheckInRush, EventFirehose, GroupBuyEvening, SceneRequest
from growth.load.scene.play import FEW_SAMPLES, Sample, _flat

TAP = SceneRequest("check in", 7, "POST", "/v1/check-ins")


def held(laws: list[Any]) -> list[bool | None]:
    return [law.held for law in laws]


def test_a_shopper_who_was_first_twice_is_seen() -> None:
    rush = CheckInRush()
    rush.hear(TAP, 201, b"{}")
    rush.hear(TAP, 200, b"{}")
    assert held(rush.laws()) == [True, True]
    rush.hear(TAP, 201, b"{}")
    assert held(rush.laws()) == [False, True]


def test_a_refused_tap_is_seen() -> None:
    rush = CheckInRush()
    rush.hear(TAP, 409, b"{}")
    assert held(rush.laws()) == [True, False]


@pytest.mark.parametrize(
    ("kind", "accepted", "duplicate", "is_right"),
    [("batch", 100, 0, True), ("batch", 99, 1, False), ("batch again", 0, 100, True), ("batch again", 1, 99, False)],
)
def test_events_counted_twice_or_lost_are_seen(kind: str, accepted: int, duplicate: int, is_right: bool) -> None:  # noqa: FBT001
    hose = EventFirehose()
    said = msgspec.json.encode({"accepted": accepted, "duplicate": duplicate, "rejected": []})
    hose.hear(SceneRequest(kind, 1, "POST", "/v1/events"), 202, said)
    assert held(hose.laws()) == [is_right]


def test_a_team_above_its_size_is_seen_and_a_repeated_answer_is_none() -> None:
    evening = GroupBuyEvening()
    evening._size = 2
    for seat in ("a", "a", "b"):
        said = msgspec.json.encode({"seat": {"team_id": "t", "seat_id": seat}})
        evening.hear(SceneRequest("join", 1, "POST", "/"), 201, said)
    assert held(evening.laws()) == [True]
    evening.hear(SceneRequest("join", 1, "POST", "/"), 201, b'{"team_id":"t","seat_id":"c"}')
    assert held(evening.laws()) == [False]


def test_batches_are_sent_again_once_they_were_acknowledged() -> None:
    hose, dice = EventFirehose(), random.Random(1)
    first = hose.ask(dice, 3)
    hose.hear(first, 202, b'{"accepted":100,"duplicate":0,"rejected":[]}')
    again = [asked for asked in (hose.ask(dice, 4) for _ in range(200)) if asked.kind == "batch again"]
    assert again
    assert {asked.body for asked in again} == {first.body}


def samples(kib: Any, descriptors: Any) -> list[Sample]:
    return [Sample(n, {"server": kib(n)}, {"server": descriptors(n)}) for n in range(FEW_SAMPLES * 2)]


def test_memory_and_connections_that_grow_without_end_are_seen() -> None:
    assert held(_flat(samples(lambda _: 100, lambda n: 20 + n % 3))) == [True, True]
    assert held(_flat(samples(lambda n: 100 + 10 * n, lambda n: 20 + n))) == [False, False]


def test_the_command_offers_every_scene() -> None:
    from growth.load.commands import SCENES  # noqa: PLC0415 - as late as the command itself does

    assert set(SCENES) == set(MIXES)
