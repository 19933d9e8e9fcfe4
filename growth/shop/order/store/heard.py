"""Every SQL statement on the events that were heard, and on what they were answered."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from growth.plumbing.postgres.database import Tx
from growth.shop.order.hooks import KnownHook
from growth.shop.order.model import Answer
from growth.vocabulary.orders import LineOutcome, Outcome

Name = tuple[str, str]
"""The source and the id of an event."""

_encode = msgspec.json.Encoder().encode


class FirstHeard(Struct, frozen=True):
    """What an event was heard with, and answered."""

    subject: str
    content: bytes
    answer: Answer


class AnsweredEvent(Struct, frozen=True, kw_only=True):
    """An event with its answer, to be kept for every redelivery."""

    source: str
    event_id: str
    type: str
    subject: str
    """The order, shopper or spending."""
    content: bytes
    outcome: Outcome
    code: str
    detail: str
    lines: tuple[LineOutcome, ...]


def answered(hook: KnownHook, subject: str, said: bytes, answer: Answer) -> AnsweredEvent:
    """Return an event with its answer."""
    return AnsweredEvent(
        source=hook.source,
        event_id=hook.id,
        type=str(hook.__struct_config__.tag),
        subject=subject,
        content=said,
        outcome=answer.outcome,
        code=answer.code,
        detail=answer.detail,
        lines=answer.lines,
    )


async def find_events(tx: Tx, names: Sequence[Name]) -> Mapping[Name, FirstHeard]:
    """Return those of the events that were heard before."""
    rows = await tx.fetch(
        """
        SELECT source, event_id, subject, content, outcome, code, detail, lines
        FROM unnest($1::text[], $2::text[]) AS asked (source, event_id)
        JOIN shop.events USING (source, event_id)
        """,
        [source for source, _ in names],
        [event_id for _, event_id in names],
    )
    return {
        (row["source"], row["event_id"]): FirstHeard(
            row["subject"],
            row["content"],
            Answer(
                Outcome(row["outcome"]),
                row["code"],
                row["detail"],
                tuple(msgspec.convert(row["lines"], list[LineOutcome])),
            ),
        )
        for row in rows
    }


async def keep_events(tx: Tx, events: Sequence[AnsweredEvent], now: datetime) -> int:
    """Keep events with their answers; return how many ids nobody else has taken.

    Waits for other transactions that take the same ids, and sees what became of them.
    """
    taken = await tx.fetch(
        """
        INSERT INTO shop.events (source, event_id, type, subject, content, outcome, code, detail, lines, received_at)
        SELECT source, event_id, type, subject, decode(content, 'base64'), outcome, code, detail, lines, $2
        FROM json_to_recordset($1::json) AS event (source text, event_id text, type text, subject text, content text,
            outcome text, code text, detail text, lines jsonb)
        ORDER BY source, event_id
        ON CONFLICT (source, event_id) DO NOTHING
        RETURNING 1
        """,
        _encode(events).decode(),
        now,
    )
    return len(taken)


async def retell_event(tx: Tx, event: AnsweredEvent, now: datetime) -> None:
    """Let the id of an event that was rejected stand for what it was told with now, and answered."""
    await tx.execute(
        """
        UPDATE shop.events
        SET type = $3, subject = $4, content = $5, outcome = $6, code = $7, detail = $8, lines = $9, received_at = $10
        WHERE source = $1 AND event_id = $2
        """,
        event.source,
        event.event_id,
        event.type,
        event.subject,
        event.content,
        event.outcome,
        event.code,
        event.detail,
        event.lines,
        now,
    )
