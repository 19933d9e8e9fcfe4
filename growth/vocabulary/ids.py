"""Identifiers. Ours are UUIDs led by 48 bits of time, so indexes grow at one end; the shop's are its own strings.

What the shop calls its things is its own affair: any text, whatever the script. Every door (bodies, paths, queries,
tokens) puts texts into Unicode's composed form (NFC) before it looks at them, so that what looks the same is the same.
"""

import os
import re
import unicodedata
from datetime import datetime
from hashlib import blake2b
from typing import Annotated

from msgspec import Meta

# "$" also matches before a last newline, hence the look-ahead.
UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$(?!\n)"
MAX_FOREIGN_ID_CHARS = 128
# Control characters, and those that turn the direction of writing or break the line: what stands in a log or a table
# would read as another id. Nor the mark that stands for bytes that were no text (U+FFFD): several ids would be one.
# Surrogates without their other half are no text either, and no reader of ours lets them in.
_NOT_IN_IDS = r"\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffd"
FOREIGN_ID_PATTERN = rf"^(?=\S)[^{_NOT_IN_IDS}]{{1,{MAX_FOREIGN_ID_CHARS}}}(?<=\S)$(?!\n)"
FOREIGN_ID = (
    f"An id of the shop's own: 1 to {MAX_FOREIGN_ID_CHARS} characters of any script, without blanks at its ends, "
    "control characters or bidirectional controls. Kept in NFC. Percent-encoded in a path, its slashes too."
)
HOUSE = "house/"
"""How the ledger's own accounts begin, which have no bottom: no shopper is called so."""
ALIAS_BYTES = 12
"""Enough that no two erased shoppers ever share one."""
_ALIAS_PATTERN = rf"erased:[0-9a-f]{{{2 * ALIAS_BYTES}}}"
USER_ID_PATTERN = rf"^(?!{HOUSE}){FOREIGN_ID_PATTERN[1:]}"
SHOPPER_ID_PATTERN = rf"^(?!{_ALIAS_PATTERN}$){USER_ID_PATTERN[1:]}"
USER_ID = f"{FOREIGN_ID} None that begins with `{HOUSE}`."
SHOPPER_ID = f"{USER_ID} Nor one that looks like the alias of an erased shopper: `erased:` and 24 hex digits."
CLIENT_ID_PATTERN = r"^[A-Za-z0-9_.:@|-]{1,64}$(?!\n)"

type_of_our_id = Meta(pattern=UUID_PATTERN, description="An id made by this service: a lower-case UUID.")
type_of_foreign_id = Meta(
    pattern=FOREIGN_ID_PATTERN,
    min_length=1,
    max_length=MAX_FOREIGN_ID_CHARS,
    description=FOREIGN_ID,
)
type_of_client_id = Meta(
    pattern=CLIENT_ID_PATTERN, description="An id that a client made: 1 to 64 of A-Z a-z 0-9 _ . : @ | -"
)

type_of_user_id = Meta(pattern=USER_ID_PATTERN, min_length=1, max_length=MAX_FOREIGN_ID_CHARS, description=USER_ID)
type_of_shopper_id = Meta(
    pattern=SHOPPER_ID_PATTERN,
    min_length=1,
    max_length=MAX_FOREIGN_ID_CHARS,
    description=SHOPPER_ID,
)

Uuid = Annotated[str, type_of_our_id]
ForeignId = Annotated[str, type_of_foreign_id]
ClientId = Annotated[str, type_of_client_id]
"""Never with a slash: names that begin with `shop/` in the log of events are the shop's."""

SaleId = Uuid
SeriesId = Uuid
ClaimId = Uuid
GroupBuyId = Uuid
TeamId = Uuid
SeatId = Uuid
EventId = Uuid
UserId = Annotated[str, type_of_user_id]
"""Of a shopper, or the alias of one who was erased."""
ShopperId = Annotated[str, type_of_shopper_id]
"""What others may call a shopper: at every door through which an id comes in."""
OrderId = ForeignId
LineId = ForeignId
Sku = ForeignId


_foreign_id = re.compile(FOREIGN_ID_PATTERN)
_shopper_id = re.compile(SHOPPER_ID_PATTERN)
_alias = re.compile(_ALIAS_PATTERN)


_MAX_MARKS_IN_A_ROW = 30
"""Of what combines with the character before it (UAX #15, stream-safe text): no script writes more."""
_FIRST_MARK, _LAST_MARK = 0x300, 0x1EFFF
_marks = "".join(char for char in map(chr, range(_FIRST_MARK, _LAST_MARK + 1)) if unicodedata.combining(char))
_too_many_marks = re.compile(f"[{_marks}]{{{_MAX_MARKS_IN_A_ROW + 1}}}")


def composed(text: str) -> str:
    """Return a text in Unicode's composed form (NFC), in which an e with an accent is one character.

    One with marks upon marks is returned as it is: to sort them costs the square of how many there are.
    """
    return text if text.isascii() or _too_many_marks.search(text) else unicodedata.normalize("NFC", text)


def is_composed(text: str) -> bool:
    """Say whether `composed` would return the text as it is."""
    return bool(_too_many_marks.search(text)) or unicodedata.is_normalized("NFC", text)


def foreign_id(text: str) -> str | None:
    """Return an id of the shop's own as it is kept; None if it is none."""
    text = composed(text)
    return text if _foreign_id.fullmatch(text) else None


def shopper_id(text: str) -> str | None:
    """Return a shopper's id as it is kept; None if no shopper may be called so."""
    text = composed(text)
    return text if _shopper_id.fullmatch(text) else None


def new_alias() -> str:
    """Return what stands in the place of an erased shopper's id."""
    return f"erased:{os.urandom(ALIAS_BYTES).hex()}"


def is_alias(user_id: str | None) -> bool:
    """Say whether an id stands for an erased shopper."""
    return user_id is not None and _alias.fullmatch(user_id) is not None


def new_id(now: datetime) -> str:
    """Return a fresh UUIDv7 (RFC 9562, section 5.7)."""
    return _spell(f"{int(now.timestamp() * 1000) & (1 << 48) - 1:012x}", os.urandom(10).hex(), "7")


def new_ids(now: datetime, count: int) -> list[str]:
    """Return `count` fresh UUIDv7 with one look at the kernel's randomness."""
    time, tails = f"{int(now.timestamp() * 1000) & (1 << 48) - 1:012x}", os.urandom(10 * count).hex()
    return [_spell(time, tails[start : start + 20], "7") for start in range(0, 20 * count, 20)]


def derived_id(parent_id: str, *parts: str) -> str:
    """Return the one UUIDv8 (RFC 9562, section 5.8) that `parts` name under `parent_id`, led by the time in it.

    Asking twice gives the same id, which makes an insert under it happen once, with nothing stored beside; and the ids
    of one parent lie together in an index.
    """
    # The whole parent: its time alone is shared by all made in the same millisecond, as the sales of one round are.
    # A length before each part, so that ("ab", "c") and ("a", "bc") differ.
    text = "".join([f"{len(part)}:{part}" for part in (parent_id, *parts)])
    return _spell(parent_id[:8] + parent_id[9:13], blake2b(text.encode(), digest_size=10).hexdigest(), "8")


def child_id(parent_id: str) -> str:
    """Return a fresh UUIDv8 led by the time in `parent_id`."""
    return _spell(parent_id[:8] + parent_id[9:13], os.urandom(10).hex(), "8")


def _spell(time: str, tail: str, version: str) -> str:
    """Lay out 12 hex digits of time and 20 of anything; version and variant each take a digit of the latter."""
    variant = "89ab"[int(tail[4], 16) & 3]
    return f"{time[:8]}-{time[8:]}-{version}{tail[1:4]}-{variant}{tail[5:8]}-{tail[8:]}"
