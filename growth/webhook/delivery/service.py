"""What operators do with deliveries: look, send again, try."""

import asyncio
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from growth.plumbing.docs.event_catalogue import event_names
from growth.plumbing.field_errors import FieldError
from growth.plumbing.outbox import outbox
from growth.plumbing.outbox.cloud_events import cloud_event
from growth.plumbing.outbox.outbox import Envelope
from growth.plumbing.person.events import current
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import Instant, invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.vocabulary.events.webhook import WebhookTest
from growth.vocabulary.ids import Uuid, new_id
from growth.vocabulary.refusals import Refusal, Unavailable
from growth.webhook import model
from growth.webhook import store as endpoints_store
from growth.webhook.delivery import store
from growth.webhook.delivery.courier import Courier
from growth.webhook.delivery.queue import Queue, first_after
from growth.webhook.model import Delivery, DeliveryFilter, ErrorClass, Filter, WebhookEndpoint

MAX_TESTS_AT_ONCE = 4
"""Of one process: each may take as long as a receiver is given."""


class RedeliveryAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries to send again: one, or those of a range of events."""

    delivery_id: Uuid | None = None
    from_: Instant | None = msgspec.field(name="from", default=None)
    """Events that happened at this instant or later …"""
    to: Instant | None = None
    """… and before this one, a day later at most."""
    types: list[Filter] | None = None
    """Only events of these names or patterns, among those the endpoint asks for."""
    cursor: str | None = None
    """`next_cursor` of the call before, when a range had more than one call takes."""


class Redelivery(Struct, frozen=True, kw_only=True):
    """What was queued again."""

    events: int
    """Events of the range that the endpoint asks for; in a call, no more than 2,000."""
    queued: int
    """Deliveries queued; what is being sent right now is left as it is."""
    next_cursor: str | None
    """Where to go on, if the range has more."""


class ProbeAnswer(Struct, frozen=True, kw_only=True):
    """What the receiver did with a test event."""

    event_id: str
    """What webhook-id said."""
    delivered: bool
    status: int | None
    """What was answered; nothing if there was no answer."""
    error: ErrorClass | None
    milliseconds: int


class Deliveries:
    """The operators' side of deliveries."""

    def __init__(self, database: Database, courier: Courier, queue: Queue, source: str) -> None:
        self._database = database
        self._courier = courier
        self._queue = queue
        self._source = source
        self._tests = asyncio.Semaphore(MAX_TESTS_AT_ONCE)

    async def page(
        self, endpoint_id: str, which: DeliveryFilter, before: tuple[datetime, str] | None, limit: int
    ) -> list[Delivery]:
        """Return deliveries, newest event first. Raises `Refusal` 404."""
        await self._find(endpoint_id)
        return await store.page_of_deliveries(self._database, endpoint_id, which, before, limit)

    async def redeliver_one(self, act: Act, endpoint_id: str, delivery_id: str) -> Redelivery:
        """Queue one delivery again, under the same ids. Raises `Refusal` 404."""
        async with self._database.transaction(everyone=True) as tx:
            await self._lock(tx, endpoint_id)
            delivery = await store.requeue(tx, endpoint_id, delivery_id, act.now)
            if delivery is None:
                raise Refusal(model.DELIVERY_NOT_FOUND)
            await audit.record(tx, act, "webhook.redeliver", endpoint_id, after={"delivery_id": delivery_id})
        return Redelivery(events=1, queued=int(delivery.queued_at == delivery.next_try_at), next_cursor=None)

    async def redeliver_range(
        self,
        act: Act,
        endpoint_id: str,
        since: datetime,
        until: datetime,
        types: list[str] | None,
        after: tuple[datetime, str] | None,
    ) -> tuple[int, int, tuple[datetime, str] | None]:
        """Queue what happened in a range and the endpoint asks for, whether or not it was ever queued before.

        Only what the outbox still keeps. Return how many events that were, how many are queued, and where to go on.
        Raises `Refusal`: 400 for a range that is none or too long, 404.
        """
        if until <= since:
            raise invalid(FieldError("to", "Must be after from"))
        if until - since > timedelta(seconds=model.MAX_REDELIVERY_SECONDS):
            raise invalid(FieldError("to", "At most a day after from; take a longer range day by day"))
        endpoint = await self._find(endpoint_id)
        names = frozenset(
            name
            for name in event_names()
            if model.matches(endpoint.event_types, name) and (types is None or model.matches(types, name))
        )
        found = await outbox.history(
            self._database,
            since,
            until,
            names,
            after=after or first_after(since),
            limit=model.MAX_REDELIVERED + 1,
        )
        taken = found[: model.MAX_REDELIVERED]
        async with self._database.transaction(everyone=True) as tx:
            await self._lock(tx, endpoint_id)
            # An erased shopper's are told under the alias, as they were or would have been.
            told = await current(tx, taken, of_erased=True)
            fresh = [one for envelope in told for one in self._queue.deliveries_of(envelope, [endpoint_id])]
            queued = await store.queue_again(tx, fresh, act.now) if fresh else 0
            asked = {"from": since, "to": until, "types": types, "events": len(taken), "queued": queued}
            await audit.record(tx, act, "webhook.redeliver", endpoint_id, after=asked)
        more = len(found) > len(taken)
        return len(taken), queued, (taken[-1].event.at, taken[-1].event_id) if more else None

    async def test(self, act: Act, endpoint_id: str) -> ProbeAnswer:
        """Send a test event at once, with no transaction open, and say what became of it; nothing is tried again.

        Also to an endpoint that is disabled: it is what one looks at before enabling it. Raises `Refusal` 404, and
        `Unavailable` when too many tests are under way.
        """
        endpoint = await self._find(endpoint_id)
        secrets = await endpoints_store.secrets_of(self._database, endpoint_id, act.now)
        envelope = Envelope(new_id(act.now), WebhookTest(at=act.now, endpoint_id=endpoint_id))
        body = cloud_event(envelope, self._source)
        if self._tests.locked():
            raise Unavailable("too many tests at once")
        async with self._tests:
            told = await self._courier.send(
                endpoint.url, model.signed_headers(secrets, envelope.event_id, act.now, body), body
            )
        answer = ProbeAnswer(
            event_id=envelope.event_id,
            delivered=model.is_delivered(told.attempt),
            status=told.attempt.status,
            error=told.attempt.error,
            milliseconds=told.attempt.milliseconds,
        )
        async with self._database.transaction() as tx:
            await audit.record(tx, act, "webhook.test", endpoint_id, after=answer)
        return answer

    async def _find(self, endpoint_id: str) -> WebhookEndpoint:
        endpoint = await endpoints_store.find_endpoint(self._database, endpoint_id)
        if endpoint is None:
            raise Refusal(model.NOT_FOUND)
        return endpoint

    async def _lock(self, tx: Tx, endpoint_id: str) -> None:
        if await endpoints_store.lock_endpoint(tx, endpoint_id) is None:
            raise Refusal(model.NOT_FOUND)
