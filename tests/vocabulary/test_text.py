"""Text that people write is bounded, visible, and reads in the order it was written."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.vocabulary.text import LINE_PATTERN, LINES_PATTERN, Description, Name, Reason, Title

GOOD = [
    "a",
    "秒杀 ¥1 每周三 20:00",
    "❤️ 100% «ok»",
    'O\'Neil & "co" <b>',
    "=1+1",
    "العربية",
    "Ünïcödé",
    "e\u0301",
    "a\u3000b",
]
HIDDEN = [
    *(chr(code) for code in (0x00, 0x01, 0x08, 0x0B, 0x0C, 0x0D, 0x1B, 0x1F, 0x7F, 0x80, 0x85, 0x9F)),
    *(chr(code) for code in (0x00AD, 0x061C, 0x115F, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F)),
    *(chr(code) for code in (0x2028, 0x2029, 0x202A, 0x202E, 0x2060, 0x2066, 0x2069, 0x3164, 0xFEFF, 0xFFA0)),
    *(chr(code) for code in (0xFFF9, 0xE0001, 0xE0041, 0xE007F)),
]


def _takes(type_: object, text: str) -> bool:
    try:
        return bool(msgspec.convert(text, type_) == text)
    except msgspec.ValidationError:
        return False


@pytest.mark.parametrize("text", GOOD)
def test_what_people_write_is_taken(text: str) -> None:
    assert all(_takes(type_, text) for type_ in (Title, Name, Reason, Description))


@pytest.mark.parametrize("letter", HIDDEN, ids=[f"U+{ord(letter):04X}" for letter in HIDDEN])
def test_what_hides_or_reorders_is_not(letter: str) -> None:
    for text in (f"a{letter}b", f"{letter}a", f"a{letter}", letter):
        assert not any(_takes(type_, text) for type_ in (Title, Name, Reason, Description)), repr(text)


@pytest.mark.parametrize("text", ["", " ", "   ", "\u3000", "\u00a0", "\u2003"])
def test_blank_is_not_text(text: str) -> None:
    assert not any(_takes(type_, text) for type_ in (Title, Name, Reason, Description))


@pytest.mark.parametrize("text", ["a\nb", "a\n", "\na", "a\tb"])
def test_only_a_description_has_lines(text: str) -> None:
    assert _takes(Description, text)
    assert not any(_takes(type_, text) for type_ in (Title, Name, Reason))


def test_without_the_look_ahead_a_last_newline_would_pass() -> None:
    """Negative control: "$" also matches before it."""
    assert re.search(LINE_PATTERN.removesuffix(r"(?!\n)"), "a\n")
    assert not re.search(LINE_PATTERN, "a\n")


@pytest.mark.parametrize(("type_", "most"), [(Title, 120), (Name, 64), (Reason, 500), (Description, 4000)])
def test_length_is_bounded_in_characters(type_: object, most: int) -> None:
    assert _takes(type_, "秒" * most)
    assert not _takes(type_, "秒" * (most + 1))


@given(st.text(max_size=40))
def test_a_line_is_always_something_to_see_on_one_line(text: str) -> None:
    if _takes(Title, text):
        assert len(text.splitlines()) == 1
        assert text.strip()
        assert _takes(Description, text)


@pytest.mark.parametrize("pattern", [LINE_PATTERN, LINES_PATTERN])
def test_other_languages_read_the_patterns_alike(pattern: str) -> None:
    """No escape that JavaScript lacks: it reads them in the OpenAPI document."""
    assert not re.search(r"\\[UAZzQE]|\(\?[P<]", pattern)
