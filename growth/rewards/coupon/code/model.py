"""What a code looks like: decisions without I/O."""

import os
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated

from msgspec import Meta, Struct

from growth.vocabulary.ids import Uuid
from growth.vocabulary.names import typed_code
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Name

MAX_CODES = 10_000
"""Of one batch."""

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: without I, L, O (read as 1, 1, 0) and U."""
CODE_CHARACTERS = 16
"""5 random bits each."""
GROUP_CHARACTERS = 4
"""As printed: `7K3M-9QXT-0A2B-C4DE`."""

CODE_NOT_FOUND = Kind("coupon.code_not_found", "There is no such code, or it was redeemed already.", 404)
BATCH_NOT_FOUND = Kind("coupon.batch_not_found", "There is no such batch of codes.", 404)
BATCH_REVOKED = Kind("coupon.batch_revoked", "The batch was already revoked.")
TOO_MANY = Kind("coupon.units_missing", "The template does not have that many units left.")

_READ_AS = str.maketrans({"I": "1", "L": "1", "O": "0"})


class CodeBatchDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator asks to have printed."""

    name: Name
    """Where they are for, as operators see it: "Flyer, spring"."""
    codes: Annotated[int, Meta(ge=1, le=MAX_CODES)]


class CodeBatch(Struct, frozen=True, kw_only=True):
    """A batch of codes, without the codes."""

    batch_id: Uuid
    template_id: Uuid
    name: str
    codes: int
    redeemed: int
    made_at: datetime
    revoked_at: datetime | None


class MadeCodes(Struct, frozen=True, kw_only=True):
    """A batch just made: the only time that its codes are told."""

    batch: CodeBatch
    codes: list[str]
    """Empty where an Idempotency-Key is used again: they were told once."""


def new_codes(count: int) -> list[str]:
    """Return fresh codes, spelled without dashes."""
    raw = os.urandom(count * CODE_CHARACTERS)
    # 256 is a multiple of 32: every character is as likely.
    text = "".join([ALPHABET[byte & 31] for byte in raw])
    return [text[start : start + CODE_CHARACTERS] for start in range(0, len(text), CODE_CHARACTERS)]


def printed(code: str) -> str:
    """Return a code as people read it."""
    return "-".join(code[start : start + GROUP_CHARACTERS] for start in range(0, len(code), GROUP_CHARACTERS))


def read_code(text: str) -> str | None:
    """Return the code that somebody typed, in whatever case, width and grouping; None if it cannot be one."""
    code = typed_code(text).translate(_READ_AS)
    return code if len(code) == CODE_CHARACTERS and set(code) <= set(ALPHABET) else None


def hash_of(code: str) -> bytes:
    """Return what is kept of a code (32 bytes). Not salted: 80 random bits are in no dictionary."""
    return sha256(code.encode()).digest()


def hashes_of(codes: Sequence[str]) -> list[bytes]:
    """Return what is kept of codes."""
    return [hash_of(code) for code in codes]
