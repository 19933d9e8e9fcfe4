"""Every SQL statement on the events that were heard, and on what they were answered."""

from datetime import datetime

import msgspec

from growth.plumbing.postgres.database import Tx
from growth.shop.order.hooks import KnownHook
from growth.shop.order.model import Answer
from growth.vocabulary.orders import LineOutcome, Outcome


async def begin_event(
    tx: Tx, hook: KnownHook, subject: str, said: bytes, now: datetime
) -> tuple[str, bytes, Answer] | None:
    """Take the event's id for this transaction; return None, or the subject, content and answer it was taken with.

    Waits for another transaction that holds the same id, and sees what became of it.
    """
    is_first = await tx.fetchval(
        """
        INSERT INTO shop.events (source, event_id, type, subject, content, received_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (source, event_id) DO NOTHING
        RETURNING true
        """,
        hook.source,
        hook.id,
        hook.__struct_config__.tag,
        subject,
        said,
        now,
    )
    if is_first:
        return None
    row = await tx.fetchrow(
        """
        SELECT subject, content, outcome, code, detail, lines
        FROM shop.events
        WHERE source = $1 AND event_id = $2
        """,
        hook.source,
        hook.id,
    )
    assert row is not None
    lines = tuple(msgspec.convert(row["lines"], list[LineOutcome]))
    return row["subject"], row["content"], Answer(Outcome(row["outcome"]), row["code"], row["detail"], lines)


async def retell_event(tx: Tx, hook: KnownHook, subject: str, said: bytes, now: datetime) -> None:
    """Let the id of an event that was rejected stand for what it is told with now. The caller answers it in the end."""
    await tx.execute(
        """
        UPDATE shop.events
        SET type = $3, subject = $4, content = $5, received_at = $6, outcome = NULL
        WHERE source = $1 AND event_id = $2
        """,
        hook.source,
        hook.id,
        hook.__struct_config__.tag,
        subject,
        said,
        now,
    )


async def end_event(tx: Tx, hook: KnownHook, answer: Answer) -> None:
    """Keep what the event is answered, for every redelivery."""
    await tx.execute(
        """
        UPDATE shop.events
        SET outcome = $3, code = $4, detail = $5, lines = $6
        WHERE source = $1 AND event_id = $2
        """,
        hook.source,
        hook.id,
        answer.outcome,
        answer.code,
        answer.detail,
        answer.lines,
    )
