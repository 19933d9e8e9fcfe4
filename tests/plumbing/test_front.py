"""The door of the short cuts: good tokens, not too often; all others go through the routes."""

import time

import pytest

from growth.plumbing import front
from growth.plumbing.front import Door
from growth.plumbing.identity import Identity
from growth.vocabulary.clock import now

pytestmark = pytest.mark.anyio

SECRET = "a toy secret of more than thirty-two bytes"


@pytest.fixture
def identity() -> Identity:
    return Identity(algorithms=("HS256",), secret=SECRET)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


def token(identity: Identity, who: str) -> bytes:
    return identity.sign(who, now=now(), lifetime_seconds=60).encode()


async def known(door: Door, token: bytes) -> str | None:
    shopper = await door.known(token)
    return None if shopper is None else shopper.user_id


async def test_good_tokens_are_known_and_others_are_left_to_the_routes(identity: Identity) -> None:
    door = Door(identity, per_second=5)
    assert await known(door, token(identity, "ann")) == "ann"
    assert await known(door, b"") is None
    assert await known(door, b"nonsense") is None


async def test_who_asks_too_often_within_a_second_is_left_to_the_routes_and_nobody_else(
    identity: Identity, clock: list[float]
) -> None:
    door = Door(identity, per_second=3)
    ann, bob = token(identity, "ann"), token(identity, "bob")
    assert [await known(door, ann) for _ in range(5)] == ["ann", "ann", "ann", None, None]
    assert await known(door, bob) == "bob"
    clock[0] += 1
    assert await known(door, ann) == "ann"


async def test_without_a_limit_nobody_is_counted(identity: Identity) -> None:
    door = Door(identity, per_second=0)
    ann = token(identity, "ann")
    assert [await known(door, ann) for _ in range(100)] == ["ann"] * 100


async def test_what_is_counted_is_bounded(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MAX_COUNTED", 10)
    door = Door(identity, per_second=1)
    for number in range(100):
        assert await known(door, token(identity, f"u{number}")) == f"u{number}"
    assert len(door._counts) <= 10
