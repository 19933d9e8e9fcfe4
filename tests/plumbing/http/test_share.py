"""A share at one process: so often on average, so many at once, and what is remembered has an end."""

import time

import pytest

from growth.plumbing.http import limits
from growth.plumbing.http.limits import Share, TooManyRequests


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


def test_a_burst_passes_and_then_the_steady_pace(clock: list[float]) -> None:
    share = Share("tea", per_second=4, burst=3)
    assert [share.wait("a") for _ in range(3)] == [0, 0, 0]
    assert share.wait("a") == pytest.approx(0.25)
    assert share.wait("b") == 0
    for _ in range(10):
        clock[0] += 0.25
        assert share.wait("a") == 0
        assert share.wait("a") > 0


def test_who_is_refused_is_told_when_to_come_back() -> None:
    share = Share("tea", per_second=0.1, burst=1)
    share.take("a")
    with pytest.raises(TooManyRequests) as refused:
        share.take("a")
    assert refused.value.headers["Retry-After"] == "10"
    assert refused.value.headers["RateLimit-Policy"] == '"tea";q=1;w=10'
    assert refused.value.members["limit"] == "tea"


def test_without_a_rate_there_is_no_limit() -> None:
    share = Share("tea", per_second=0, burst=1)
    assert [share.wait("a") for _ in range(100)] == [0] * 100
    assert len(share) == 0


def test_who_has_their_share_whole_again_is_forgotten(clock: list[float]) -> None:
    share = Share("tea", per_second=10, burst=10)
    for number in range(10 * limits.FEW_SHARES):
        clock[0] += 0.01
        share.wait(f"u{number}")
    assert len(share) <= limits.FEW_SHARES


def test_however_many_there_are_no_more_are_remembered_and_who_owes_most_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SHARES", 1_000)
    monkeypatch.setattr(limits, "FEW_SHARES", 100)
    share = Share("tea", per_second=1, burst=5)
    while not share.wait("greedy"):
        pass
    for number in range(20_000):
        share.wait(f"somebody-else-{number}")
        assert len(share) <= 1_000
    assert share.wait("greedy") > 0, "many addresses do not free one"
