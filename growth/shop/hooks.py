"""What the shop may say: CloudEvents 1.0 in JSON, one Struct a type. Nothing unknown, nothing unbounded, no I/O."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import force_setattr

from growth.plumbing.wire import decode_json, decoder_for, field_error, invalid
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, UUID_PATTERN
from growth.vocabulary.money import Fen
from growth.vocabulary.refusals import Refusal

MAX_BODY_BYTES = 1_048_576
MAX_EVENTS = 500
"""In one hook."""
MAX_LINES = 100
"""Of one order, and of one refund."""
MAX_UNITS = 1_000_000
"""Of one line."""
MAX_ECHO_CHARS = 128
"""Of the id of an event that cannot be read."""
MIN_YEAR = 2000
MAX_YEAR = 2100
"""No order is from before, none from after: a clock or a unit went wrong. Also keeps times away from where they end."""

END = r"(?!\n)"
"""Behind a pattern's `$`, which alone lets a line break pass at the end."""

type_of_shops_id = Meta(
    pattern=FOREIGN_ID_PATTERN + END, description="An id of the shop's own: 1 to 64 of A-Z a-z 0-9 _ . : @ | -"
)
type_of_our_id = Meta(pattern=UUID_PATTERN + END, description="An id made by this service: a lower-case UUID.")
type_of_visible = Meta(pattern=r"^[!-~]{1,256}$" + END, description="1 to 256 visible ASCII characters.")
type_of_note = Meta(
    # No control characters, no bidirectional overrides, no zero-width ones.
    pattern=r"^[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]{1,200}$" + END,
    description="1 to 200 characters, none of them invisible.",
)
type_of_moment = Meta(tz=True, description="RFC 3339, with a zone.")

ShopsId = Annotated[str, type_of_shops_id]
OurId = Annotated[str, type_of_our_id]
Visible = Annotated[str, type_of_visible]
Note = Annotated[str, type_of_note]
Moment = Annotated[datetime, type_of_moment]
Units = Annotated[int, Meta(ge=1, le=MAX_UNITS)]


class _Told(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what comes in: what means the same becomes the same content."""

    def __post_init__(self) -> None:
        """Put times into UTC, and lines into the order of their ids, since that of the shop says nothing."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime):
                if not MIN_YEAR <= value.year <= MAX_YEAR:
                    raise ValueError(f"{name} is outside the years {MIN_YEAR} to {MAX_YEAR}")
                force_setattr(self, name, value.astimezone(UTC))
            elif isinstance(value, tuple):
                by_line = tuple(sorted(value, key=lambda line: line.line_id))
                if len({line.line_id for line in by_line}) != len(by_line):
                    raise ValueError(f"{name} has the same line_id twice")
                force_setattr(self, name, by_line)


class LineTold(_Told, frozen=True):
    """One line of an order, as placed or as paid."""

    line_id: ShopsId
    sku: ShopsId
    units: Units
    amount_fen: Fen
    """For all units together."""
    claim_id: OurId | None = None
    seat_id: OurId | None = None
    coupon_id: OurId | None = None

    def __post_init__(self) -> None:
        if self.claim_id is not None and self.seat_id is not None:
            raise ValueError("a line pays for a claim_id or for a seat_id, not for both")


class RefundLineTold(_Told, frozen=True):
    """How much of one line was paid back: units, money, or both."""

    line_id: ShopsId
    units: Annotated[int, Meta(ge=0, le=MAX_UNITS)]
    amount_fen: Fen

    def __post_init__(self) -> None:
        if self.units == 0 and self.amount_fen == 0:
            raise ValueError("a refund of a line has units, or an amount_fen, or both")


class PlacedData(_Told, frozen=True, kw_only=True):
    """An order that is still to be paid."""

    order_id: ShopsId
    user_id: ShopsId
    placed_at: Moment
    lines: Annotated[tuple[LineTold, ...], Meta(min_length=1, max_length=MAX_LINES)]


class PaidData(_Told, frozen=True, kw_only=True):
    """An order that is paid."""

    order_id: ShopsId
    user_id: ShopsId
    paid_at: Moment
    paid_fen: Fen
    """What the shopper paid in all: with freight, after every deduction. Not the sum of the lines."""
    lines: Annotated[tuple[LineTold, ...], Meta(min_length=1, max_length=MAX_LINES)]


class RefundedData(_Told, frozen=True, kw_only=True):
    """Part of an order, or all of it, that was paid back."""

    order_id: ShopsId
    refund_id: ShopsId
    """Unique within its order."""
    lines: Annotated[tuple[RefundLineTold, ...], Meta(min_length=1, max_length=MAX_LINES)]


class OrderData(_Told, frozen=True, kw_only=True):
    """An order to which something happened at the event's `time`."""

    order_id: ShopsId


class RegisteredData(_Told, frozen=True, kw_only=True):
    """A shopper, as the shop knows them."""

    user_id: ShopsId
    registered_at: Moment
    source: Note | None = None
    """Where the shopper came from, in the shop's own words."""
    device_id: Note | None = None
    address: Note | None = None
    """The network address they registered from."""


Points = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class SpentData(_Told, frozen=True, kw_only=True):
    """Points that a shopper pays with. The shop asks before it takes the order: there may be too few."""

    spend_id: ShopsId
    user_id: ShopsId
    points: Points


class ReturnedData(_Told, frozen=True, kw_only=True):
    """Points of a spending that come back to the shopper: all of them, or some."""

    spend_id: ShopsId
    return_id: ShopsId
    """Unique within its spending."""
    points: Points


class Hook(_Told, frozen=True, kw_only=True, tag_field="type"):
    """What every event carries: the attributes of CloudEvents 1.0. Redelivered under the same `source` and `id`."""

    specversion: Literal["1.0"]
    id: Visible
    source: Visible
    time: Moment
    """When it happened."""
    datacontenttype: Literal["application/json"] | None = None
    dataschema: Visible | None = None
    subject: Visible | None = None


class OrderPlaced(Hook, frozen=True, kw_only=True, tag="order.placed"):
    """An order was placed; it is still to be paid."""

    data: PlacedData


class OrderPaid(Hook, frozen=True, kw_only=True, tag="order.paid"):
    """An order was paid."""

    data: PaidData


class OrderClosed(Hook, frozen=True, kw_only=True, tag="order.closed"):
    """An order was given up without payment."""

    data: OrderData


class OrderReceived(Hook, frozen=True, kw_only=True, tag="order.received"):
    """The shopper has the goods."""

    data: OrderData


class OrderRefunded(Hook, frozen=True, kw_only=True, tag="order.refunded"):
    """Part of an order, or all of it, was paid back."""

    data: RefundedData


class ShopperRegistered(Hook, frozen=True, kw_only=True, tag="shopper.registered"):
    """Somebody became a shopper."""

    data: RegisteredData


class PointsSpent(Hook, frozen=True, kw_only=True, tag="points.spent"):
    """A shopper pays with points."""

    data: SpentData


class PointsReturned(Hook, frozen=True, kw_only=True, tag="points.returned"):
    """Points that were spent come back."""

    data: ReturnedData


class OtherHook(_Told, frozen=True, kw_only=True):
    """An event of another type: read, and left to whoever will listen."""

    specversion: Literal["1.0"]
    id: Visible
    source: Visible
    type: Visible
    time: Moment
    data: Any = None
    datacontenttype: Literal["application/json"] | None = None
    dataschema: Visible | None = None
    subject: Visible | None = None


OrderHook = OrderPlaced | OrderPaid | OrderClosed | OrderReceived | OrderRefunded
PointsHook = PointsSpent | PointsReturned
KnownHook = OrderHook | ShopperRegistered | PointsHook

HOOKS: dict[str, Any] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        OrderPlaced,
        OrderPaid,
        OrderClosed,
        OrderReceived,
        OrderRefunded,
        ShopperRegistered,
        PointsSpent,
        PointsReturned,
    )
}


class Unreadable(Struct, frozen=True):
    """One event that cannot be read; its neighbours can."""

    id: str | None
    detail: str
    """Which field is wrong, and why."""


class _Head(Struct, frozen=True):
    id: Any = None
    type: Any = None


_Batch = Annotated[list[Raw], Meta(max_length=MAX_EVENTS)]


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
        # The strict reader stumbles as well, and says why in the words of every other call.
        return [decode_json(raw, Raw)]
    return events


def read_event(raw: Raw) -> KnownHook | OtherHook | Unreadable:
    """Read one event, strictly."""
    text = bytes(raw)
    try:
        head = decoder_for(_Head).decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = _Head()
    try:
        known = HOOKS.get(head.type) if isinstance(head.type, str) else None
        hook: KnownHook | OtherHook = decode_json(text, known or OtherHook)
    except Refusal as refusal:
        return Unreadable(head.id[:MAX_ECHO_CHARS] if isinstance(head.id, str) else None, refusal.detail)
    return hook


def content(hook: KnownHook) -> bytes:
    """Return a digest (32 bytes) of what the event says: its type and its data.

    `time` is left out: a sender that stamps it anew at each attempt still tells of the same thing. So is the shopper,
    who may have several ids: whose it is, is compared by itself.
    """
    data = msgspec.to_builtins(hook.data)
    data.pop("user_id", None)
    return hashlib.sha256(msgspec.json.encode((hook.__struct_config__.tag, data))).digest()


def content_with_id(hook: KnownHook) -> bytes:
    """Return the digest as it was kept until ids of shoppers were left out of it."""
    said = hook.__struct_config__.tag, hook.data
    return hashlib.sha256(msgspec.json.encode(said)).digest()


def in_todays_form(hook: KnownHook, kept: bytes | None) -> bytes | None:
    """Return a digest that was kept as `content` tells it today, if it is that of `hook`; else as it is."""
    return content(hook) if kept is not None and kept == content_with_id(hook) else kept
