"""The door of the short cuts: good tokens, not too often; all others go through the routes."""

import time
from typing import Any

import pytest

from growth.plumbing.http.identity import Identity
from growth.plumbing.http.limits import Share, TooManyRequests
from growth.plumbing.http.short_cut import Door
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


def a_door(identity: Identity, *, per_second: float, burst: int) -> Door:
    return Door(identity, Share("shopper", per_second=per_second, burst=burst))


def a_request() -> Any:
    return {"type": "http", "state": {}}


async def known(door: Door, token: bytes, request: Any) -> str | None:
    shopper = await door.known(token, request)
    return None if shopper is None else shopper.user_id


async def test_good_tokens_are_known_and_others_are_left_to_the_routes(identity: Identity) -> None:
    door = a_door(identity, per_second=5, burst=5)
    assert await known(door, token(identity, "ann"), a_request()) == "ann"
    assert await known(door, b"", a_request()) is None
    assert await known(door, b"nonsense", a_request()) is None


async def test_who_asks_too_often_is_left_to_the_routes_and_nobody_else(identity: Identity, clock: list[float]) -> None:
    door = a_door(identity, per_second=2, burst=3)
    ann, bob = token(identity, "ann"), token(identity, "bob")
    assert [await known(door, ann, a_request()) for _ in range(5)] == ["ann", "ann", "ann", None, None]
    assert await known(door, bob, a_request()) == "bob"
    clock[0] += 0.5
    assert [await known(door, ann, a_request()) for _ in range(2)] == ["ann", None], "the steady pace, not the burst"


async def test_the_routes_count_by_the_same_share_and_no_request_twice(identity: Identity) -> None:
    door = a_door(identity, per_second=1, burst=2)
    ann = token(identity, "ann")
    handed_on = a_request()
    assert await known(door, ann, handed_on) == "ann"
    door.count("ann", handed_on)
    door.count("ann", a_request())
    with pytest.raises(TooManyRequests):
        door.count("ann", a_request())
    assert await known(door, ann, a_request()) is None


async def test_without_a_limit_nobody_is_counted(identity: Identity) -> None:
    door = a_door(identity, per_second=0, burst=1)
    ann = token(identity, "ann")
    assert [await known(door, ann, a_request()) for _ in range(100)] == ["ann"] * 100
