"""Identifiers: one for each name, ordered by time."""

import re
from datetime import UTC, datetime, timedelta

from growth.vocabulary.ids import UUID_PATTERN, child_id, derived_id, new_id, new_ids

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def test_what_parts_name_under_one_parent_is_one_id() -> None:
    parent = new_id(NOON)
    assert derived_id(parent, "alice", "k") == derived_id(parent, "alice", "k")
    assert len({derived_id(parent, *parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""))}) == 4


def test_the_same_parts_under_two_parents_of_one_millisecond_are_two_ids() -> None:
    """Sales of one round are made in the same millisecond, and shoppers use one Idempotency-Key for both."""
    one, other = new_ids(NOON, 2)
    assert one[:13] == other[:13]
    assert derived_id(one, "alice", "k") != derived_id(other, "alice", "k")


def test_every_id_is_a_lower_case_uuid() -> None:
    parent = new_id(NOON)
    for made in (parent, child_id(parent), derived_id(parent, "alice")):
        assert re.fullmatch(UUID_PATTERN, made), made


def test_later_ids_sort_behind_and_children_lie_with_their_parent() -> None:
    earlier, later = new_id(NOON), new_id(NOON + timedelta(milliseconds=1))
    assert earlier < later
    assert child_id(earlier) < later
    assert derived_id(earlier, "alice") < later
