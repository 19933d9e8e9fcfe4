"""Audit: what operators did, written in the transaction of what they did.

Only ever added to; a trigger refuses the rest.
"""

from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.strict_json import plain
from growth.vocabulary.actors import Operator


class Act(Struct, frozen=True):
    """An operator doing something: who, when, under which request, and why."""

    operator: Operator
    now: datetime
    request_id: str = ""
    reason: str = ""

    def why(self, reason: str) -> "Act":
        """Return it with a reason."""
        return replace(self, reason=reason)


class AuditEntry(Struct, frozen=True):
    """One thing that an operator did."""

    entry: int
    """Grows; the newest is the largest."""
    at: datetime
    operator: str
    action: str
    """`room.what_was_done`, such as `flash_sale.publish`."""
    subject: str
    """The id of what it was done to."""
    before: Any
    after: Any
    reason: str
    request_id: str


class AuditFilter(Struct, frozen=True, kw_only=True):
    """Which entries; None for all."""

    operator: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Not including this instant."""


async def record(
    tx: Tx,
    act: Act,
    action: str,
    subject: str,
    *,
    before: object = None,
    after: object = None,
    reason: str | None = None,
) -> None:
    """Write down what was done to `subject`. `before` and `after` are Structs, collections or None.

    `reason` stands in place of the one that the act itself has.
    """
    await tx.execute(
        """
        INSERT INTO plumbing.audit (at, operator, action, subject, before, after, reason, request_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        act.now,
        act.operator.name,
        action,
        subject,
        plain(before),
        plain(after),
        act.reason if reason is None else reason,
        act.request_id,
    )


async def page(reader: Reader, filters: AuditFilter, *, before_entry: int | None, limit: int) -> list[AuditEntry]:
    """Return up to `limit` entries below `before_entry` (None: from the newest), newest first."""
    rows = await reader.fetch(
        """
        SELECT entry, at, operator, action, subject, before, after, reason, request_id
        FROM plumbing.audit
        WHERE ($1::bigint IS NULL OR entry < $1)
          AND ($2::text IS NULL OR operator = $2)
          AND ($3::text IS NULL OR action = $3)
          AND ($4::text IS NULL OR subject = $4)
          AND ($5::timestamptz IS NULL OR at >= $5)
          AND ($6::timestamptz IS NULL OR at < $6)
        ORDER BY entry DESC
        LIMIT $7
        """,
        before_entry,
        filters.operator,
        filters.action,
        filters.subject,
        filters.since,
        filters.until,
        limit,
    )
    return [AuditEntry(**dict(row)) for row in rows]
