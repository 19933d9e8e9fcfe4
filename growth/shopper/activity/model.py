"""What may be told, and how it is read. No I/O.

Everything is bounded: the number of events, their types, the size of their data, and how far their time may be off.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from growth.plumbing.field_errors import FieldError, field_error
from growth.plumbing.outbox.outbox import Log, events_below
from growth.plumbing.postgres.database import Record
from growth.plumbing.strict_json import Instant, composed_json, decode_json, decoder_for, is_plain
from growth.vocabulary.activities import ActivityTold
from growth.vocabulary.clock import AHEAD, MAX_AHEAD
from growth.vocabulary.events import Event
from growth.vocabulary.ids import ClientId, ShopperId
from growth.vocabulary.refusals import Refusal

MAX_EVENTS = 100
"""In one batch of a client."""
MAX_KEYS = 20
"""Of one event's data."""
MAX_TEXT_CHARACTERS = 256
"""Of one value."""
MAX_AGE = timedelta(hours=72)
"""A client may have been without a network for so long."""
MAX_SHOP_AGE = timedelta(days=7)
"""The shop may have been in trouble for so long. Days younger than this are always kept, see `MIN_KEEP_DAYS`."""
MIN_KEEP_DAYS = MAX_SHOP_AGE.days + 1
"""What is told again must find itself."""

SHOP_PREFIX = "shop/"
"""How the name of what the shop tells begins."""

UNKNOWN_TYPE: Final = "event.unknown_type"
RESERVED_TYPE = "event.reserved_type"
BAD_ID: Final = "event.bad_id"
BAD_AT: Final = "event.bad_at"
TOO_OLD: Final = "event.too_old"
IN_FUTURE: Final = "event.in_future"
DATA_TOO_LARGE: Final = "event.data_too_large"
BAD_DATA: Final = "event.bad_data"
MALFORMED: Final = "event.malformed"

RejectionCode = Literal[
    "event.unknown_type",
    "event.bad_id",
    "event.bad_at",
    "event.too_old",
    "event.in_future",
    "event.data_too_large",
    "event.bad_data",
    "event.malformed",
]

_CODES: Mapping[str, RejectionCode] = {"type": UNKNOWN_TYPE, "id": BAD_ID, "at": BAD_AT, "data": BAD_DATA}
_TOO_LARGE = re.compile(r"of length <= ")
_SHOP_TYPE = re.compile(r"[a-z][a-z0-9_]{0,31}(?:\.[a-z0-9_]{1,32}){1,3}")

ClientType = Literal["app.opened", "product.viewed", "content.shared", "page.viewed"]
"""What a shopper's client may say. By convention `product.viewed` has `sku` in its data."""

Scalar: TypeAlias = str | int | float | bool | None
_Key = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$(?!\n)")]
_Value = (
    Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)]
    | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    | float
    | bool
    | None
)
Data = Annotated[
    dict[_Key, _Value],
    Meta(
        max_length=MAX_KEYS,
        description=f"Flat: at most {MAX_KEYS} names of letters, digits and _, each with a text (at most "
        f"{MAX_TEXT_CHARACTERS} characters), a number, true, false or null.",
    ),
]


class Activity(Struct, frozen=True, kw_only=True, gc=False):
    """What one shopper did, as followers of the log get it."""

    activity_id: str
    """With the shopper and the UTC day of `at`, its name. 1 to 64 characters of A-Z a-z 0-9 _ . : @ | - /"""
    user_id: str
    type: str
    at: datetime
    """When it happened, as it was told, but not after it was heard of; not the order in which activities come."""
    heard_at: datetime
    """When it came in."""
    data: Mapping[str, Scalar]

    @property
    def counted_at(self) -> datetime:
        """When it counts for what is won by the day: the shop's word stands, a client's as in `counted_at`."""
        return self.at if self.activity_id.startswith(SHOP_PREFIX) else counted_at(self.at, self.heard_at)


def counted_at(at: datetime, heard_at: datetime) -> datetime:
    """Return when something that a client tells counts for what is won by the day: believed as far as clocks differ.

    Whoever may say at noon that it was yesterday does yesterday's tasks today.
    """
    return at if heard_at - at <= MAX_AHEAD else heard_at


class EventTold(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One event, as a client tells it.

    Flat, so never part of a cycle: the collector, which took a quarter of the time, need not look at them.
    """

    id: ClientId
    """The client's own, the same at every attempt. A fresh UUID is right."""
    type: ClientType
    at: Instant
    data: Data | UnsetType = UNSET


class EventsTold(Struct, frozen=True, forbid_unknown_fields=True):
    """One batch of a client."""

    events: Annotated[list[EventTold], Meta(max_length=MAX_EVENTS)]


class LogEntry(Struct, frozen=True, gc=False):
    """One line of the log that is to be written."""

    event_id: str
    type: str
    subject: str
    """The shopper."""
    at: datetime
    data: Mapping[str, Scalar]


class Departure(Struct, frozen=True):
    """A shopper whose activities are to go."""

    user_id: str
    successor: str | None
    """Whose they become; None to erase them."""


class Rejection(Struct, frozen=True):
    """Why one event is not in the log. Sent again, it would be rejected again."""

    index: int
    """Its place in the batch, from 0."""
    code: RejectionCode
    detail: str


class _Batch(Struct, frozen=True, forbid_unknown_fields=True):
    events: Annotated[list[Raw], Meta(max_length=MAX_EVENTS)]


class _Skeleton(Struct, frozen=True, forbid_unknown_fields=True):
    events: list[None]


class _ShopData(Struct, frozen=True):
    user_id: ShopperId


_data = msgspec.json.Decoder(dict[str, Scalar])
_decode_batch = msgspec.json.Decoder(EventsTold).decode


def read_activity(row: Record) -> Activity:
    """Return a row of the log as its followers get it."""
    return Activity(
        activity_id=row["event_id"],
        user_id=row["subject"],
        type=row["type"],
        # The log keeps what was told: told again, an activity meets itself on the day that it was first told for.
        at=min(row["at"], row["written_at"]),
        heard_at=row["written_at"],
        data=_data.decode(row["data"]),
    )


LOG = Log("activity.log", read_activity)
"""For `Subscription(name, types, handle, LOG)`: types are such as `product.viewed`, or None for all."""


def read_batch(raw: bytes) -> Sequence[EventTold | Rejection]:
    """Return what each event of a client's batch says, or why it cannot be read.

    Raises `Refusal` `request.invalid` where the batch as a whole is not of the right form. The caller has bounded
    `raw`. The whole is read at once, and event by event only where something is wrong: the result is the same.
    """
    raw = composed_json(raw)
    try:
        batch = _decode_batch(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_each(raw)
    keys = 1 + sum([3 if event.data is UNSET else 4 + len(event.data) for event in batch.events])
    return batch.events if is_plain(raw, keys=keys) else _read_each(raw)


def _read_each(raw: bytes) -> Sequence[EventTold | Rejection]:
    try:
        events = decoder_for(_Batch).decode(raw).events
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The strict reader stumbles as well, and says why in the words of every other call.
        events = decode_json(raw, _Batch).events
    decode_json(_without(raw, events), _Skeleton)
    return [_read(index, bytes(event)) for index, event in enumerate(events)]


def _without(raw: bytes, events: Sequence[Raw]) -> bytes:
    """Return the batch with `null` for each event: what is left is to be right by itself."""
    pieces, done = [], 0
    for event in events:
        text = bytes(event)
        start = raw.index(text, done)
        pieces.append(raw[done:start])
        done = start + len(text)
    return b"null".join([*pieces, raw[done:]])


def _read(index: int, raw: bytes) -> EventTold | Rejection:
    try:
        return decode_json(raw, EventTold)
    except Refusal as refusal:
        field, _, detail = refusal.detail.partition(": ")
        return Rejection(index, _code(field, detail), refusal.detail)


def _code(field: str, detail: str) -> RejectionCode:
    name = re.split(r"[.\[]", field, maxsplit=1)[0]
    if name == "data" and _TOO_LARGE.search(detail):
        return DATA_TOO_LARGE
    # Of another field, or one that is missing or is not known, the event as a whole is to blame.
    return _CODES.get(name, MALFORMED)


def judge_time(at: datetime, now: datetime, max_age: timedelta) -> RejectionCode | None:
    """Return the code for a time that is too far off, else None."""
    if at > now + MAX_AHEAD:
        return IN_FUTURE
    return TOO_OLD if at < now - max_age else None


def entries_of(
    user_id: str, told: Sequence[EventTold | Rejection], now: datetime
) -> tuple[list[LogEntry], list[Rejection]]:
    """Return what is to be written of a client's batch, and what is not."""
    entries, rejected = [], []
    latest, earliest = now + MAX_AHEAD, now - MAX_AGE
    for index, event in enumerate(told):
        if isinstance(event, Rejection):
            rejected.append(event)
        elif earliest <= event.at <= latest:
            data = {} if event.data is UNSET else event.data
            entries.append(LogEntry(event.id, event.type, user_id, event.at, data))
        else:
            code = judge_time(event.at, now, MAX_AGE)
            assert code is not None
            rejected.append(Rejection(index, code, time_detail(code, MAX_AGE)))
    return entries, rejected


def time_detail(code: str, max_age: timedelta) -> str:
    """Say what is wrong with a time."""
    if code == IN_FUTURE:
        return f"at: {AHEAD}"
    return f"at: More than {max_age.days * 24} hours ago"


class BadActivity(Exception):
    """An activity that the shop told cannot be read: its code, and a sentence that names the field."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def is_activity(type_: str) -> bool:
    """Say whether a type of the shop's own can be one: two to four words of a-z 0-9 _ with dots between."""
    return _SHOP_TYPE.fullmatch(type_) is not None


def reserved_words() -> frozenset[str]:
    """Return the first words of our own events' names: nobody else tells of what happens in our rooms."""
    return frozenset(tag.partition(".")[0] for tag, _ in events_below(Event))


def entry_of(told: ActivityTold, reserved: frozenset[str], now: datetime) -> LogEntry:
    """Return what is to be written of an activity that the shop told. Raises `BadActivity`."""
    if told.type.partition(".")[0] in reserved:
        raise BadActivity(RESERVED_TYPE, "type: Begins with the name of a room of this service")
    if code := judge_time(told.at, now, MAX_SHOP_AGE):
        raise BadActivity(code, time_detail(code, MAX_SHOP_AGE))
    try:
        user_id = msgspec.convert(told.data, _ShopData).user_id
        rest = {key: value for key, value in told.data.items() if key != "user_id"}  # type: ignore[attr-defined]
        data: dict[str, Scalar] = msgspec.convert(rest, Data)
    except msgspec.ValidationError as error:
        fault: FieldError = field_error(error, prefix="data")
        code = DATA_TOO_LARGE if _TOO_LARGE.search(fault.detail) else BAD_DATA
        raise BadActivity(code, f"{fault.field}: {fault.detail}") from None
    return LogEntry(shop_event_id(told.source, told.id), told.type, user_id, told.at, data)


def shop_event_id(source: str, id_: str) -> str:
    """Return the name in the log of what the shop tells under `source` and `id_`. No client's id has a slash."""
    digest = hashlib.blake2b(f"{len(source)}:{source}{id_}".encode(), digest_size=16)
    return SHOP_PREFIX + digest.hexdigest()
