"""The outbox: events leave in the transaction of what happened, and reach each subscriber in commit-safe order.

A subscriber reads by (xid, position), below the oldest transaction still running, so that a slow transaction is never
skipped; it moves its cursor in the transaction of what it writes, so that it handles each event exactly once.
"""

import msgspec

from growth.plumbing.postgres import Tx
from growth.vocabulary import ids
from growth.vocabulary.events import Event

_encode = msgspec.json.Encoder().encode


async def emit(tx: Tx, *events: Event) -> None:
    """Write `events` in `tx`, in this order, with one statement however many there are. None are told if `tx` fails."""
    if not events:
        return
    await tx.execute(
        """
        INSERT INTO plumbing.outbox (event_id, type, subject, at, data)
        SELECT event.event_id::uuid, event.type, event.subject, event.at, event.data::jsonb
        FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[])
             WITH ORDINALITY AS event (event_id, type, subject, at, data, place)
        ORDER BY event.place
        """,
        [ids.new_id(event.at) for event in events],
        [event.__struct_config__.tag for event in events],
        [event.subject for event in events],
        [event.at for event in events],
        [_encode(event).decode() for event in events],
    )
