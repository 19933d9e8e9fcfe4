"""A short cut of plain batches: most are small, and the routes would cost more than their events."""

from collections.abc import Sequence

import msgspec

from growth.plumbing.http.answers import MAX_BODY_BYTES
from growth.plumbing.http.short_cut import JSON, Answer, PlainRequest, ShortCut
from growth.shopper.activity.service import Events
from growth.vocabulary.clock import Clock

_encode = msgspec.json.Encoder().encode


def short_cuts(events: Events, now: Clock) -> Sequence[ShortCut]:
    """Return the batch, whose body is read event by event further in."""

    async def take(asked: PlainRequest) -> Answer:
        taken = await events.take(asked.shopper.user_id, asked.body, now())
        return 202, [JSON], _encode(taken)

    return [
        ShortCut(
            method="POST",
            path="/v1/events",
            serve=take,
            body=lambda body: body or None,
            max_bytes=MAX_BODY_BYTES,
            is_limited=True,
        )
    ]
