"""The room of webhooks on a database of its own; whatever a test does, every invariant holds after it."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiohttp.abc import AbstractResolver
from msgspec import Struct

from growth.plumbing.outbox import outbox
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.audit import Act
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.events import Event
from growth.vocabulary.events.flash_sale import FlashSalePaused
from growth.webhook.delivery.courier import Courier
from growth.webhook.delivery.queue import Queue
from growth.webhook.delivery.sender import Sender
from growth.webhook.delivery.service import Deliveries
from growth.webhook.model import Delivery, DeliveryFilter, EndpointDraft
from growth.webhook.service import EndpointMade, Webhooks
from tests.kit.invariants import violations
from tests.webhook.receiving import JSON, Receiver, settled

SOURCE = "growth.test"


class Hands(Struct):
    """A clock that tests move."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return clock.now() + self.ahead


class Room(Struct):
    """What one process has of the room."""

    database: Database
    hands: Hands
    courier: Courier
    queue: Queue
    sender: Sender
    webhooks: Webhooks
    deliveries: Deliveries

    def act(self) -> Act:
        return Act(Operator("ada", Role.ADMIN), self.hands.now(), "r-1", "because")

    async def endpoint(self, receiver: Receiver | str, *types: str) -> EndpointMade:
        url = receiver if isinstance(receiver, str) else receiver.url
        draft = EndpointDraft(url=url, event_types=list(types) or ["*"])
        made, _ = await self.webhooks.create(self.act(), draft, None, b"")
        return made

    async def happens(self, *events: Event) -> None:
        """Events are emitted, and queued."""
        async with self.database.transaction() as tx:
            await outbox.emit(tx, *events)
        await self.queue_all()

    async def queue_all(self) -> None:
        subscription = Subscription("shop.webhook_queue", None, self.queue.take)
        while await outbox.deliver(self.database, subscription):
            pass

    async def sends(self) -> int:
        """Send all that is due now; return how many attempts that was."""
        total = 0
        while taken := await self.sender.take():
            total += taken
            await settled(self.sender)
        return total

    def later(self, **time: float) -> None:
        self.hands.ahead += timedelta(**time)

    async def log(self, endpoint_id: str) -> list[Delivery]:
        return await self.deliveries.page(endpoint_id, DeliveryFilter(), None, 100)

    async def only(self, endpoint_id: str) -> Delivery:
        (delivery,) = await self.log(endpoint_id)
        return delivery

    async def told(self, type_: str) -> list[JSON]:
        rows = await self.database.fetch("SELECT data::text FROM plumbing.outbox WHERE type = $1", type_)
        return [msgspec.json.decode(row["data"]) for row in rows]

    def another(self) -> "Room":
        """Another process on the same database."""
        return room_on(self.database, self.hands)


def room_on(database: Database, hands: Hands, *, exempt: tuple[str, ...] = ("127.0.0.1",), names: Any = None) -> Room:
    resolver: AbstractResolver | None = names
    courier = Courier(exempt, hands.now, resolver)
    sender = Sender(database, courier, hands.now)
    queue = Queue(SOURCE, hands.now, sender.wake)
    return Room(
        database=database,
        hands=hands,
        courier=courier,
        queue=queue,
        sender=sender,
        webhooks=Webhooks(database, courier),
        deliveries=Deliveries(database, courier, queue, SOURCE),
    )


def paused(name: object = "sale-1", at: datetime | None = None) -> FlashSalePaused:
    return FlashSalePaused(at=at or clock.now(), sale_id=str(name))


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    yield database
    broken = await violations(database)
    await database.close()
    assert not broken


@pytest.fixture
async def room(database: Database) -> AsyncIterator[Room]:
    room = room_on(database, Hands())
    yield room
    await settled(room.sender)
    await room.courier.close()
