"""What both long-running processes do as they start."""

import gc
from collections.abc import Iterator

import pytest

from growth.serving import YOUNG_OBJECTS, settle


@pytest.fixture
def as_before() -> Iterator[None]:
    """Leave the collector of this process as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("as_before")
def test_the_garbage_collector_does_not_look_through_what_stays() -> None:
    stays = [[number] for number in range(1_000)]
    assert any(one is stays for one in gc.get_objects()), "the control: it does look, before"

    settle()

    assert not any(one is stays for one in gc.get_objects())
    assert gc.get_threshold()[0] == YOUNG_OBJECTS


@pytest.mark.usefixtures("as_before")
def test_what_requests_leave_behind_is_still_collected() -> None:
    settle()
    begun = gc.get_stats()[0]["collections"]
    kept: list[list[int]] = [[] for _ in range(2 * YOUNG_OBJECTS)]

    assert gc.get_stats()[0]["collections"] > begun, len(kept)
