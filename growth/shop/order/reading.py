"""Reads hooks, event by event and strictly. Of an order, a line that cannot be read harms no other line. No I/O."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from growth.plumbing.field_errors import field_error
from growth.plumbing.strict_json import composed_json, decode_json, decoder_for, invalid, mended
from growth.shop.order.hooks import (
    HOOKS,
    MAX_EVENTS,
    MAX_LINES,
    KnownHook,
    LineTold,
    OrderPaid,
    OrderPlaced,
    OtherHook,
    ShopperRegistered,
)
from growth.vocabulary.ids import foreign_id
from growth.vocabulary.orders import LineOutcome, Outcome
from growth.vocabulary.refusals import Refusal

MAX_ECHO_CHARS = 128
"""Of the id of an event that cannot be read."""
WITH_LINES = ("order.placed", "order.paid")
"""Types of which one line can be left out. A refund stands as a whole: half of it would be another refund."""


class Unreadable(Struct, frozen=True):
    """One event that cannot be read; its neighbours can."""

    id: str | None
    detail: str
    """Which field is wrong, and why."""


class Partly(Struct, frozen=True):
    """An order of which some lines cannot be read; the others stand."""

    hook: OrderPlaced | OrderPaid
    left_out: tuple[LineOutcome, ...]


class _Head(Struct, frozen=True):
    id: Any = None
    type: Any = None


class _Lines(Struct, frozen=True):
    lines: list[Raw]


class _WithLines(Struct, frozen=True):
    data: _Lines


class _LineHead(Struct, frozen=True):
    line_id: Any = None


_Batch = Annotated[list[Raw], Meta(max_length=MAX_EVENTS)]
_REGISTERED = b'"shopper.registered"'
"""What may carry remarks, of which half a character must not cost the whole."""


def read_batch(raw: bytes) -> list[Raw]:
    """Return the events of one hook, each still to be read. Raises `Refusal` `request.invalid`.

    The caller has bounded `raw` to `MAX_BODY_BYTES`.
    """
    try:
        if raw.lstrip(b" \t\r\n").startswith(b"{"):
            return [msgspec.json.decode(raw, type=Raw)]
        events: list[Raw] = decoder_for(_Batch).decode(raw)
    except msgspec.ValidationError as error:
        raise invalid(field_error(error)) from None
    except (msgspec.DecodeError, RecursionError):
        if _REGISTERED in raw and (legible := mended(raw)) != raw:
            return read_batch(legible)
        # The strict reader stumbles as well, and says why in the words of every other call.
        return [decode_json(raw, Raw)]
    return events


def read_event(raw: Raw) -> KnownHook | OtherHook | Partly | Unreadable:
    """Read one event, strictly. Of an order placed or paid, a line that cannot be read harms no other line."""
    text = bytes(raw)
    try:
        head = decoder_for(_Head).decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = _Head()
    try:
        known = HOOKS.get(head.type) if isinstance(head.type, str) else None
        hook: KnownHook | OtherHook = decode_json(
            mended(text) if known is ShopperRegistered else text, known or OtherHook
        )
    except Refusal as refusal:
        partly = _without_bad_lines(text, head.type) if head.type in WITH_LINES else None
        if partly is not None:
            return partly
        return Unreadable(head.id[:MAX_ECHO_CHARS] if isinstance(head.id, str) else None, refusal.detail)
    return hook


def _without_bad_lines(text: bytes, type_: str) -> Partly | None:
    """Read an order without the lines that cannot be read; None if there is none such, or more is wrong with it."""
    text = composed_json(text)
    try:
        lines = [bytes(line) for line in decoder_for(_WithLines).decode(text).data.lines]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    good: list[bytes] = []
    left_out: list[LineOutcome] = []
    for index, line in enumerate(lines[: MAX_LINES + 1]):
        try:
            decode_json(line, LineTold)
            good.append(line)
        except Refusal as refusal:
            left_out.append(_left_out(line, f"data.lines[{index}].{refusal.detail}"))
    if not good or not left_out or len(lines) > MAX_LINES:
        return None
    start = text.index(lines[0])
    end = start
    for line in lines:
        end = text.index(line, end) + len(line)
    try:
        hook: OrderPlaced | OrderPaid = decode_json(text[:start] + b",".join(good) + text[end:], HOOKS[type_])
    except Refusal:
        return None
    return Partly(hook, tuple(left_out))


def _left_out(line: bytes, why: str) -> LineOutcome:
    try:
        named = decoder_for(_LineHead).decode(line).line_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        named = None
    line_id = foreign_id(named) if isinstance(named, str) else None
    # It is kept: what Postgres or a log cannot hold (the name of a field that is none) is not repeated.
    told = "".join(one if one.isprintable() else "?" for one in why)
    return LineOutcome(line_id or "", Outcome.REJECTED, "request.invalid", told)
