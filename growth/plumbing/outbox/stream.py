"""The outbox on a Redis Stream, for consumers in the same cluster: at least once, in commit order, under the same ids.

An event is added before the cursor moves past it. Whoever dies in between leaves the cursor where it was, and the same
events are added again: after a repeat the stream goes on from an earlier event, so a consumer drops ids that it knows.
While Redis does not answer the cursor stands still, and nothing is lost. The stream is one key, so any server of a
Cluster can have it; it is trimmed to about a number of events, whether or not anybody has read them.
"""

import asyncio
from collections.abc import Sequence

from growth.plumbing.outbox.cloud_events import cloud_event
from growth.plumbing.outbox.outbox import Envelope
from growth.plumbing.postgres.database import Tx
from growth.plumbing.redis.client import OUTSIDE_FAILING, AnyRedis, unavailable

ADD_SECONDS = 2.0
"""For one batch. The cursor's transaction is open meanwhile: other listeners wait for it, so it is short."""


class Stream:
    """Adds events to one stream."""

    def __init__(self, redis: AnyRedis, key: str, *, max_events: int, source: str) -> None:
        self._redis = redis
        self._key = key
        self._max_events = max_events
        self._source = source

    async def take(self, _tx: Tx, envelopes: Sequence[Envelope]) -> None:
        """Add `envelopes`, in order. Raises `Unavailable`, with perhaps some of them added: then all come again.

        An entry has three fields: `id` and `type`, to choose by, and `event`, the CloudEvent in JSON.
        """
        try:
            async with asyncio.timeout(ADD_SECONDS):
                pipeline = self._redis.pipeline(transaction=False)
                for envelope in envelopes:
                    pipeline.xadd(
                        self._key,
                        {
                            "id": envelope.event_id,
                            "type": str(envelope.event.__struct_config__.tag),
                            "event": cloud_event(envelope, self._source),
                        },
                        maxlen=self._max_events,
                        approximate=True,
                    )
                await pipeline.execute()
        except OUTSIDE_FAILING as error:
            raise unavailable(error) from error
