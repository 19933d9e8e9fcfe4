"""Text that people write and others read: bounded, and without characters that hide or reorder what is shown."""

from typing import Annotated

from msgspec import Meta

# Control characters; soft hyphen; Arabic letter mark; Mongolian vowel separator; zero-width characters and direction
# marks; line and paragraph separators, embeddings and overrides; word joiner to isolates; byte-order mark;
# interlinear annotation; tags. ZERO WIDTH JOINER is among them: emoji families fall apart into their members.
_INVISIBLE = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufeff\uffa0\ufff9-\ufffb"
    # As characters: beyond 16 bits, Python and JavaScript (readers of the OpenAPI document) escape differently.
    "\U000e0000-\U000e007f"
)
_INVISIBLE_BUT_LINES = _INVISIBLE.replace(r"\u0000-\u001f", r"\u0000-\u0008\u000b-\u001f")

# "$" also matches before a last newline, hence the look-ahead: without it "Sale\n" passes.
_END = r"$(?!\n)"

LINE_PATTERN = rf"^(?=.*\S)[^{_INVISIBLE}]*{_END}"
"""One line with at least one visible character."""
LINES_PATTERN = rf"^(?=[\s\S]*\S)[^{_INVISIBLE_BUT_LINES}]*$"
"""The same, with tabs and line feeds."""

Title = Annotated[
    str, Meta(min_length=1, max_length=120, pattern=LINE_PATTERN, description="One line, 1 to 120 characters.")
]
"""What a campaign is called."""

Name = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=LINE_PATTERN, description="One line, 1 to 64 characters.")
]
"""What a person, series or endpoint is called."""

Reason = Annotated[
    str, Meta(min_length=1, max_length=500, pattern=LINE_PATTERN, description="One line, 1 to 500 characters.")
]
"""Why an operator did something."""

Description = Annotated[
    str, Meta(min_length=1, max_length=4000, pattern=LINES_PATTERN, description="Text, 1 to 4000 characters.")
]
"""What shoppers may read about a campaign."""
