"""The projection that queues: each event becomes a delivery for each enabled endpoint that asked for its type."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from growth.plumbing.outbox.cloud_events import cloud_event
from growth.plumbing.outbox.outbox import Envelope
from growth.plumbing.postgres.database import Tx
from growth.vocabulary.clock import Clock
from growth.vocabulary.ids import derived_id
from growth.webhook import model
from growth.webhook import store as endpoints_store
from growth.webhook.delivery import store
from growth.webhook.delivery.store import Fresh


class Queue:
    """Turns events into deliveries."""

    def __init__(self, source: str, clock: Clock, queued: Callable[[], None]) -> None:
        """`source` is the CloudEvents' own; `queued` is called when deliveries have been committed, to wake senders."""
        self._source = source
        self._clock = clock
        self._queued = queued

    async def take(self, tx: Tx, envelopes: Sequence[Envelope]) -> None:
        """Queue the deliveries of `envelopes`, in the transaction that moves the cursor."""
        listeners = await endpoints_store.listeners(tx)
        if not listeners:
            return
        asking: dict[str, list[str]] = {}
        fresh: list[Fresh] = []
        for envelope in envelopes:
            name = name_of(envelope)
            if name not in asking:
                asking[name] = [one.endpoint_id for one in listeners if model.matches(one.event_types, name)]
            if asking[name]:
                fresh += self.deliveries_of(envelope, asking[name])
        if fresh:
            await store.queue(tx, fresh, self._clock())
            tx.after_commit(self._wake)

    def deliveries_of(self, envelope: Envelope, endpoint_ids: Iterable[str]) -> list[Fresh]:
        """Return the deliveries of one event, to be queued."""
        body = cloud_event(envelope, self._source).decode()
        return [
            Fresh(
                endpoint_id,
                envelope.event.at,
                envelope.event_id,
                derived_id(envelope.event_id, "webhook", endpoint_id),
                name_of(envelope),
                body,
            )
            for endpoint_id in endpoint_ids
        ]

    async def _wake(self) -> None:
        self._queued()


def name_of(envelope: Envelope) -> str:
    """Return the event's name."""
    return str(envelope.event.__struct_config__.tag)


def first_after(at: datetime) -> tuple[datetime, str]:
    """Return the position before all events of `at`."""
    return at, "00000000-0000-0000-0000-000000000000"
