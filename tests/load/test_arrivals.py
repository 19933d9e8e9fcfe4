import random
from itertools import pairwise

import pytest

from growth.load.arrivals import Stretch, due_offsets, flat


def test_requests_are_due_in_order_at_the_rate_that_was_asked_for() -> None:
    due = list(due_offsets([flat(10, 1000)], random.Random(1)))
    assert due == sorted(due)
    assert len(due) == pytest.approx(10_000, rel=0.04)
    assert due[-1] <= 10


def test_gaps_are_those_of_strangers_not_of_a_clock() -> None:
    due = list(due_offsets([flat(20, 1000)], random.Random(2)))
    gaps = [later - earlier for earlier, later in pairwise(due)]
    # Exponential gaps: a share of 1 - 1/e is shorter than the mean, and a clock would have none.
    assert sum(gap < 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.02)


def test_a_ramp_rises_in_a_straight_line_from_nothing() -> None:
    due = list(due_offsets([Stretch(2, 0, 4000)], random.Random(3)))
    assert len(due) == pytest.approx(4000, rel=0.06)
    assert sum(offset < 1 for offset in due) / len(due) == pytest.approx(0.25, abs=0.03)


def test_nothing_is_due_while_the_rate_is_nothing() -> None:
    due = list(due_offsets([flat(1, 500), flat(1, 0), flat(1, 500)], random.Random(4)))
    assert not [offset for offset in due if 1 < offset < 2]
    assert sum(offset >= 2 for offset in due) == pytest.approx(500, rel=0.2)


def test_the_same_seed_is_the_same_crowd() -> None:
    first, again = (list(due_offsets([flat(1, 300)], random.Random(5))) for _ in range(2))
    assert first == again
