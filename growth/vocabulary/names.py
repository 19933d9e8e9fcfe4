"""Names that people carry with them, and codes that people type: whatever comes is read, and nothing is refused for it.

A name is decoration: others see its first character and a star. A character is what people call one (Unicode's grapheme
cluster): a family of emoji, a flag, a letter with its accents.
"""

import re
from typing import Annotated
from unicodedata import category, decimal, normalize

from msgspec import Meta

HIDDEN = "*"
"""What stands for the rest of a name, and for a name of which there is nothing to see."""

MAX_LOOKED_AT = 1_024
"""Characters of a name, from its beginning, within which the first visible one is looked for."""
MAX_CLUSTER = 16
"""Code points that are kept of one character: the longest emoji in use has 10."""
MAX_NOTE_CHARACTERS = 200
MAX_TYPED_CHARACTERS = 256
"""Of a code as it was typed or pasted, with all that came along."""

Decoration = Annotated[
    str,
    Meta(
        description="Any text. Shown as its first character and a star; with nothing to show, as a star. Never refused."
    ),
]
"""A nickname as the platform gives it."""

_ZERO_WIDTH_JOINER = "\u200d"
_UNREAD = "\ufffd"
_NOTHING_TO_SEE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffc\ufffd")
"""Letters and signs without a shape, and the signs for what could not be read."""
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_TAGS = range(0xE0020, 0xE007F)
_LAST_TAG = "\U000e007f"
_YOUNG_PICTURES = range(0x1F000, 0x20000 - 2)
_PICTURES = frozenset({"So", "Sm", "Cn"})
"""Emoji, arrows among them, and those that are younger than this Python's tables."""
_SCENE = re.compile(r"\s*i\s*(?:=|%3d)", re.IGNORECASE)


def masked(name: str | None) -> str:
    """Return what others see of a name: its first character and a star."""
    return first_character(name or "") + HIDDEN


def first_character(text: str) -> str:
    """Return the first character that is to be seen, whole; nothing if there is none."""
    name = normalize("NFC", text[:MAX_LOOKED_AT])
    start = next((place for place, letter in enumerate(name) if _is_seen(letter)), None)
    if start is None:
        return ""
    end = start + 1
    if ord(name[start]) in _FLAG_LETTERS:
        return name[start : end + 1] if end < len(name) and ord(name[end]) in _FLAG_LETTERS else name[start]
    is_picture = category(name[start]) in _PICTURES
    while end < min(len(name), start + MAX_CLUSTER) and (step := _goes_on(name, end, is_picture=is_picture)):
        end += step
    return name[start:end]


def _is_seen(letter: str) -> bool:
    """Say whether a character has a shape of its own: no blank, mark, control, tag, private or half character."""
    kind = category(letter)
    if kind == "Cn":
        # Not assigned when this Python was made: a new emoji, or what never will be a character.
        return ord(letter) in _YOUNG_PICTURES
    return kind[0] not in "CZM" and letter not in _NOTHING_TO_SEE


def _goes_on(name: str, place: int, *, is_picture: bool) -> int:
    """Return how many code points from `place` on belong to the character before."""
    letter = name[place]
    if category(letter)[0] == "M" or letter in "\uff9e\uff9f":
        return 1
    if not is_picture:
        return 0
    if ord(letter) in _SKIN_TONES:
        return 1
    if letter == _ZERO_WIDTH_JOINER:
        after = name[place + 1 : place + 2]
        return 2 if after and _is_seen(after) and category(after) in _PICTURES else 0
    end = place
    while end < len(name) and ord(name[end]) in _TAGS:
        end += 1
    return end + 1 - place if end > place and name[end : end + 1] == _LAST_TAG else 0


def note(text: str | None) -> str | None:
    """Return what is kept of a remark of somebody else's: one line without what hides, cut; nothing if it is empty."""
    kept = [" " if one.isspace() else one for one in text or "" if one.isspace() or category(one)[0] != "C"]
    seen = "".join(kept).replace(_UNREAD, "")
    return seen.strip()[:MAX_NOTE_CHARACTERS].strip() or None


def typed_code(text: str) -> str:
    """Return a code as a person means it: capitals and digits, in whatever width, grouping or company they came."""
    return "".join([str(decimal(one, one)) for one in normalize("NFKC", text).upper() if category(one)[0] in "LN"])


def without_scene(text: str) -> str:
    """Return what follows `i=`, as the `scene` of a mini-program's code has it, however that was written."""
    plain = normalize("NFKC", text)
    found = _SCENE.match(plain)
    return text if found is None else plain[found.end() :]
