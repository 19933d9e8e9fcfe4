"""Identifiers: one for each name, ordered by time."""

import re
import sys
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest

from growth.vocabulary.ids import UUID_PATTERN, child_id, composed, derived_id, is_composed, new_id, new_ids

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


@pytest.mark.parametrize("marks", [1, 30, 31, 5_000])
def test_marks_are_put_in_order_as_long_as_any_script_writes_them(marks: int) -> None:
    text = "a" + "\u0315" * (marks // 2) + "\u0300" * (marks - marks // 2)
    if marks <= 30:
        assert composed(text) == unicodedata.normalize("NFC", text)
        assert is_composed(text) == unicodedata.is_normalized("NFC", text)
    else:
        assert composed(text) == text
        assert is_composed(text)


def test_every_character_that_combines_counts() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.combining(char):
            assert composed("e\u0301" + char * 31) == "e\u0301" + char * 31
