"""Of a name its first character is shown, whole, and nobody is refused for a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.vocabulary.names import MAX_CLUSTER, first_character, masked, note

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
CHINA, JAPAN = "\U0001f1e8\U0001f1f3", "\U0001f1ef\U0001f1f5"
KISS = "\U0001f469\U0001f3fd\u200d\u2764\ufe0f\u200d\U0001f48b\u200d\U0001f468\U0001f3ff"
NODDING = "\U0001f642\u200d\u2195\ufe0f"


@pytest.mark.parametrize(
    "picture", [FAMILY, ENGLAND, CHINA, KISS, NODDING, "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001f44d\U0001f3fd"]
)
def test_a_picture_of_many_parts_is_one_character(picture: str) -> None:
    assert first_character(picture) == picture
    assert masked(f"  {picture}{picture} and more") == f"{picture}*"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (None, "*"),
        ("", "*"),
        ("   ", "*"),
        ("\u3000\u00a0\t\n", "*"),
        ("\u3164", "*"),
        ("\u2800", "*"),
        ("\u200b\u200d\ufeff\u00ad\u2060", "*"),
        ("\u0301", "*"),
        ("\ufe0f", "*"),
        ("\ud83d", "*"),
        ("\ufffd\ufffdAnn", "A*"),
        ("\ud83dAnn", "A*"),
        ("\ue056Ann", "A*"),
        ("\U000e0067\U000e007f", "*"),
        ("\u202eevil", "e*"),
        ("\u3164王", "王*"),
        ("张三", "张*"),
        ("e\u0301mile", "\u00e9*"),
        ("x\u0301\u0302y", "x\u0301\u0302*"),
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645*"),
        ("\u200c\u0645", "\u0645*"),
        (CHINA + JAPAN, CHINA + "*"),
        ("\U0001f1e8hina", "\U0001f1e8*"),
        # Tags without an end make no flag.
        (ENGLAND[:4], "\U0001f3f4*"),
        ("\U0001f468\u200dx", "\U0001f468*"),
        ("a\u200db", "a*"),
        ("\u1112\u1161\u11ab", "\ud55c*"),
        ("\uff76\uff9e", "\uff76\uff9e*"),
        ("x" * 65_000, "x*"),
        (" " * 65_000 + "x", "*"),
    ],
)
def test_an_odd_name_is_shown_as_one_character_or_as_a_star(name: str | None, shown: str) -> None:
    assert masked(name) == shown


@given(
    st.text(st.characters() | st.sampled_from("\u200d\ufe0f\u0301\U0001f468\U0001f3fd\U0001f1e8\U000e0067\U000e007f"))
)
def test_whatever_the_name_what_is_shown_is_short_and_can_be_written(name: str) -> None:
    shown = masked(name)
    assert shown.endswith("*")
    assert len(shown) <= MAX_CLUSTER * 2
    assert first_character(shown) in {shown[:-1], "*"}
    shown.encode()
    assert not shown.endswith("\u200d*")


@given(st.text(st.characters(codec=None)))
def test_a_remark_is_one_line_that_can_be_kept(text: str) -> None:
    kept = note(text)
    assert kept is None or (0 < len(kept) <= 200 and kept == kept.strip() and "\n" not in kept and "\x00" not in kept)
    (kept or "").encode()
