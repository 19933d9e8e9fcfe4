"""What the shop may say: CloudEvents 1.0 in JSON, one Struct a type. Nothing unknown, nothing unbounded, no I/O."""

import hashlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr, replace

from growth.vocabulary import clock
from growth.vocabulary.ids import UUID_PATTERN, ForeignId, ShopperId
from growth.vocabulary.money import Fen
from growth.vocabulary.names import note
from growth.vocabulary.orders import OrderLine, Use

MAX_BODY_BYTES = 1_048_576
MAX_EVENTS = 500
"""In one hook."""
MAX_LINES = 500
"""Of one order, and of one refund."""
MAX_UNITS = 1_000_000
"""Of one line."""
USES: Mapping[str, str] = {"claim_id": "flash_sale.claim", "coupon_id": "coupon.coupon", "seat_id": "group_buy.seat"}
"""Which fields of a line, as the shop and events tell it, say what the line uses: field → kind, by kind."""
PARTLY = b"+"
"""Ends the content of an order of which lines were left out."""
ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)
"""No order is from before: a clock or a unit went wrong. None is from after; what lies ahead of our clock is refused by
`held_to`, this keeps times away from where they end."""

END = r"(?!\n)"
"""Behind a pattern's `$`, which alone lets a line break pass at the end."""

type_of_our_id = Meta(pattern=UUID_PATTERN + END, description="An id made by this service: a lower-case UUID.")
type_of_visible = Meta(pattern=r"^[!-~]{1,256}$" + END, description="1 to 256 visible ASCII characters.")
type_of_note = Meta(description="Any text; kept without what hides, up to 200 characters. Never refused.")
type_of_moment = Meta(tz=True, description="RFC 3339, with a zone.")

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
                # As instants: the first hour of a year in Shanghai lies in the year before by UTC.
                if not ANY_TIME[0] <= value < ANY_TIME[1]:
                    raise ValueError(f"{name} is outside the years 2000 to 2100")
                force_setattr(self, name, value.astimezone(UTC))
            elif isinstance(value, tuple):
                by_line = tuple(sorted(value, key=lambda line: line.line_id))
                if len({line.line_id for line in by_line}) != len(by_line):
                    raise ValueError(f"{name} has the same line_id twice")
                force_setattr(self, name, by_line)


class LineTold(_Told, frozen=True):
    """One line of an order, as placed or as paid."""

    line_id: ForeignId
    sku: ForeignId
    units: Units
    amount_fen: Fen
    """What the line cost, all units together, however it was paid."""
    claim_id: OurId | None = None
    """Of one claim there may be several lines: those that together have its units pay for it."""
    seat_id: OurId | None = None
    coupon_id: OurId | None = None

    def __post_init__(self) -> None:
        if self.claim_id is not None and self.seat_id is not None:
            raise ValueError("a line pays for a claim_id or for a seat_id, not for both")


class RefundLineTold(_Told, frozen=True):
    """How much of one line was paid back: units, money, or both. All units, or all money: the line is refunded.

    What exceeds a line (freight, goodwill) is kept and counts as far as it goes. Once refunds reach all that the order
    cost, it is refunded whole, whichever lines they name.
    """

    line_id: ForeignId
    units: Annotated[int, Meta(ge=0, le=MAX_UNITS)]
    amount_fen: Fen

    def __post_init__(self) -> None:
        if self.units == 0 and self.amount_fen == 0:
            raise ValueError("a refund of a line has units, or an amount_fen, or both")


class PlacedData(_Told, frozen=True, kw_only=True):
    """An order that is still to be paid."""

    order_id: ForeignId
    user_id: ShopperId
    placed_at: Moment
    lines: Annotated[tuple[LineTold, ...], Meta(min_length=1, max_length=MAX_LINES)]


class PaidData(_Told, frozen=True, kw_only=True):
    """An order that is paid."""

    order_id: ForeignId
    user_id: ShopperId
    paid_at: Moment
    paid_fen: Fen
    """What the shopper paid in all, in money: with freight, after every deduction. Not the sum of the lines.

    Where lines cost more, a balance or a gift card paid the rest: commissions are of this, spread over lines in
    proportion. With 0 nobody has bought, and nobody earns.
    """
    lines: Annotated[tuple[LineTold, ...], Meta(min_length=1, max_length=MAX_LINES)]


class RefundedData(_Told, frozen=True, kw_only=True):
    """Part of an order, or all of it, that was paid back."""

    order_id: ForeignId
    refund_id: ForeignId
    """Unique within its order."""
    lines: Annotated[tuple[RefundLineTold, ...], Meta(min_length=1, max_length=MAX_LINES)]


class OrderData(_Told, frozen=True, kw_only=True):
    """An order to which something happened at the event's `time`."""

    order_id: ForeignId


class RegisteredData(_Told, frozen=True, kw_only=True):
    """A shopper, as the shop knows them."""

    user_id: ShopperId
    registered_at: Moment
    source: Note | None = None
    """Where the shopper came from, in the shop's own words."""
    device_id: Note | None = None
    address: Note | None = None
    """The network address they registered from."""

    def __post_init__(self) -> None:
        """Clean what is only remarked: no remark keeps a shopper from being registered."""
        super().__post_init__()
        for name in ("source", "device_id", "address"):
            force_setattr(self, name, note(getattr(self, name)))


Points = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class SpentData(_Told, frozen=True, kw_only=True):
    """Points that a shopper pays with. The shop asks before it takes the order: there may be too few."""

    spend_id: ForeignId
    user_id: ShopperId
    points: Points


class ReturnedData(_Told, frozen=True, kw_only=True):
    """Points of a spending that come back to the shopper: all of them, or some."""

    spend_id: ForeignId
    return_id: ForeignId
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


def subject_of(hook: KnownHook) -> str:
    """Return what a hook is about: one at a time."""
    match hook:
        case ShopperRegistered(data=registered):
            return registered.user_id
        case PointsSpent(data=spent):
            return spent.spend_id
        case PointsReturned(data=back):
            return back.spend_id
        case _:
            return hook.data.order_id


def line_of(told: LineTold) -> OrderLine:
    """Return a line as rooms see it."""
    return OrderLine(
        line_id=told.line_id, sku=told.sku, units=told.units, amount_fen=told.amount_fen, uses=uses_of(told)
    )


def uses_of(told: LineTold) -> tuple[Use, ...]:
    """Return what a line uses, by kind."""
    named = ((kind, getattr(told, field)) for field, kind in sorted(USES.items(), key=lambda pair: pair[1]))
    return tuple(Use(kind, id_) for kind, id_ in named if id_ is not None)


def use_fields(line: OrderLine) -> dict[str, str | None]:
    """Return the fields that tell what a line uses."""
    return {field: line.used(kind) for field, kind in USES.items()}


T = TypeVar("T", bound=_Told)


class InFuture(Exception):
    """A time of a hook lies further ahead than clocks differ; `field` has it."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def held_to(now: datetime, told: T, path: str = "") -> T:
    """Return a hook, or data of one, whose times are no later than `now`. Raises `InFuture` beyond what clocks differ.

    Its `content` is that of the hook as it was told: told again a minute later, it is still the same.
    """
    changes: dict[str, object] = {}
    for name in told.__struct_fields__:
        value = getattr(told, name)
        if isinstance(value, datetime):
            held = clock.held_to(now, value)
            if held is None:
                raise InFuture(path + name)
            changes[name] = held
        elif isinstance(value, _Told):
            changes[name] = held_to(now, value, f"{path}{name}.")
    return replace(told, **changes)


def content(hook: KnownHook, *, is_partly: bool = False) -> bytes:
    """Return a digest of what the event says, its type and its data: 32 bytes, and one more if lines were left out.

    `time` is left out: a sender that stamps it anew at each attempt still tells of the same thing. So is the shopper,
    who may have several ids: whose it is, is compared by itself.
    """
    data = msgspec.to_builtins(hook.data)
    data.pop("user_id", None)
    digest = hashlib.sha256(msgspec.json.encode((hook.__struct_config__.tag, data))).digest()
    return digest + (PARTLY if is_partly else b"")


def content_with_id(hook: KnownHook) -> bytes:
    """Return the digest as it was kept until ids of shoppers were left out of it."""
    said = hook.__struct_config__.tag, hook.data
    return hashlib.sha256(msgspec.json.encode(said)).digest()


def in_todays_form(hook: KnownHook, kept: bytes | None) -> bytes | None:
    """Return a digest that was kept as `content` tells it today, if it is that of `hook`; else as it is."""
    return content(hook) if kept is not None and kept == content_with_id(hook) else kept


def added_lines(hook: "OrderPlaced | OrderPaid", known: bytes, known_lines: Collection[str]) -> tuple[LineTold, ...]:
    """Return the lines that mend an order of which `known` was told without them; none if it says anything else."""
    lines = hook.data.lines
    as_before = replace(hook, data=replace(hook.data, lines=tuple(one for one in lines if one.line_id in known_lines)))
    if content(as_before, is_partly=True) != known:
        return ()
    return tuple(one for one in lines if one.line_id not in known_lines)
