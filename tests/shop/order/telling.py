"""How a test speaks as the shop, and who listens."""

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from growth.plumbing.http.signatures import sign
from growth.plumbing.postgres.database import Database, Tx
from growth.shop.order.service import Result, ShopService
from growth.vocabulary.orders import LineOutcome, Order
from tests.kit.invariants import violations

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ELEVEN = NOON - timedelta(hours=1)
SECRET = "whsec_" + b64encode(b"a toy secret of thirty-two bytes").decode()
OLD_SECRET = "whsec_" + b64encode(b"the secret before, about to go!!").decode()

CLAIM_ID = "0199c0de-0000-7000-8000-000000000001"

JSON = dict[str, Any]


def at(minutes: int) -> str:
    """So many minutes after eleven: the service hears of it at noon, and believes no time that has not come."""
    return (ELEVEN + timedelta(minutes=minutes)).isoformat()


def event(type_: str, data: object, *, id_: str | None = None, time: str | None = None, source: str = "shop") -> JSON:
    """One CloudEvent; without an id, what it says names it."""
    name = id_ or f"{type_}:{sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]}"
    return {"specversion": "1.0", "id": name, "source": source, "type": type_, "time": time or at(0), "data": data}


def happened_at(event: JSON) -> datetime:
    """When all that it tells has happened: noon at the earliest."""
    told = [event["time"], *(value for name, value in event["data"].items() if name.endswith("_at"))]
    return max(NOON, *map(datetime.fromisoformat, told))


def line(line_id: str = "1", **changes: object) -> JSON:
    return {"line_id": line_id, "sku": "tea", "units": 2, "amount_fen": 200, **changes}


def of(units: int, amount_fen: int, line_id: str = "1") -> JSON:
    """So much of a line, paid back."""
    return {"line_id": line_id, "units": units, "amount_fen": amount_fen}


def placed(order_id: str = "o1", *lines: JSON, user_id: str = "u1", **envelope: Any) -> JSON:
    data = {"order_id": order_id, "user_id": user_id, "placed_at": at(1), "lines": list(lines) or [line()]}
    return event("order.placed", data, **envelope)


def paid(order_id: str = "o1", *lines: JSON, user_id: str = "u1", paid_fen: int = 200, **envelope: Any) -> JSON:
    told = list(lines) or [line()]
    data = {"order_id": order_id, "user_id": user_id, "paid_at": at(2), "paid_fen": paid_fen, "lines": told}
    return event("order.paid", data, **envelope)


def refunded(order_id: str = "o1", refund_id: str = "r1", *lines: JSON, **envelope: Any) -> JSON:
    told = list(lines) or [{"line_id": "1", "units": 1, "amount_fen": 100}]
    return event("order.refunded", {"order_id": order_id, "refund_id": refund_id, "lines": told}, **envelope)


def closed(order_id: str = "o1", **envelope: Any) -> JSON:
    return event("order.closed", {"order_id": order_id}, **{"time": at(3), **envelope})


def received(order_id: str = "o1", **envelope: Any) -> JSON:
    return event("order.received", {"order_id": order_id}, **{"time": at(4), **envelope})


def registered(user_id: str = "u1", minutes: int = 0, **data: object) -> JSON:
    return event("shopper.registered", {"user_id": user_id, "registered_at": at(minutes), **data})


def raw_of(*events: JSON) -> bytes:
    return json.dumps(events).encode()


async def tell(service: ShopService, *events: JSON, now: datetime = NOON) -> list[Result]:
    """Send one signed hook with these events."""
    raw = raw_of(*events)
    return await service.receive(sign(SECRET, "hook", now, raw), raw, now)


Settle = Callable[[Tx, Order], Awaitable[Sequence[LineOutcome]]]


class Recorder:
    """A participant that keeps every view it is handed; `settle_by` says what it answers."""

    def __init__(self, settle_by: Settle | None = None, kinds: Collection[str] = (), *, wants_all: bool = True) -> None:
        self.kinds = frozenset(kinds)
        self.wants_all = wants_all
        self.seen: list[Order] = []
        self.settle_by = settle_by

    def may_concern(self, order: Order) -> bool:  # noqa: ARG002
        return self.wants_all

    async def settle(self, tx: Tx, orders: Sequence[Order], now: datetime) -> Mapping[str, Sequence[LineOutcome]]:  # noqa: ARG002
        self.seen.extend(orders)
        return {order.order_id: await self.settle_by(tx, order) if self.settle_by else () for order in orders}


FACTS = {
    "orders": """
        SELECT order_id, user_id, placed_at, placed_content, paid_at, paid_fen, paid_content, closed_at, received_at
        FROM shop.orders
        ORDER BY order_id
    """,
    "lines": "SELECT * FROM shop.order_lines ORDER BY order_id, line_id",
    "refunds": "SELECT * FROM shop.refunds ORDER BY order_id, refund_id",
    "refund_lines": "SELECT * FROM shop.refund_lines ORDER BY order_id, refund_id, line_id",
    "shoppers": "SELECT * FROM shop.shoppers ORDER BY user_id",
}


async def stored(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every fact that is stored; not when it was heard, nor under which event."""
    return {name: [tuple(row.values()) for row in await database.fetch(sql)] for name, sql in FACTS.items()}


async def broken(database: Database) -> list[str]:
    """The sentences of the room's `invariants.sql` that do not hold."""
    return [violation.name for violation in await violations(database) if violation.room == "order"]


def story(order_id: str) -> list[JSON]:
    """All that can happen to one order; what was placed is not quite what was paid."""
    first, rest = {"line_id": "1", "units": 1, "amount_fen": 150}, {"line_id": "1", "units": 1, "amount_fen": 50}
    return [
        placed(order_id, line("1", units=3, amount_fen=300), line("gone")),
        paid(order_id, line("2", amount_fen=0), line("1", claim_id="0199c0de-0000-7000-8000-000000000001")),
        refunded(order_id, "partial", first),
        refunded(order_id, "rest", rest, {"line_id": "2", "units": 2, "amount_fen": 0}),
        closed(order_id),
        received(order_id),
    ]


def outcomes(results: Sequence[Result]) -> list[str]:
    return [result.outcome + (f" {result.code}" if result.code else "") for result in results]


def as_one_order(facts: dict[str, list[tuple[Any, ...]]]) -> set[tuple[str, tuple[Any, ...]]]:
    """The facts without the id of their order, nor the digests in which it is contained."""
    return {
        (name, tuple(value for value in row if value != row[0] and not isinstance(value, bytes)))
        for name, rows in facts.items()
        for row in rows
    }
