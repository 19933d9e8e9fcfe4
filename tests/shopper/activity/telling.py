"""How a test speaks as a client."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from growth.plumbing.postgres.database import Reader
from growth.shopper.activity.service import BatchTaken, Events
from growth.vocabulary.clock import rfc3339

JSON = dict[str, Any]

NO_LIMIT = 1_000_000
NOW = datetime.now(UTC).replace(microsecond=0)
"""The first days of the log are made around the day on which the tests run."""


def ago(**units: float) -> str:
    """So long before now."""
    return rfc3339(NOW - timedelta(**units))


def event(id_: object = "a", type_: str = "product.viewed", at: str | None = None, **data: object) -> JSON:
    return {"id": str(id_), "type": type_, "at": at or ago(minutes=1), "data": data}


def raw_of(*events: object) -> bytes:
    return json.dumps({"events": events}).encode()


async def tell(service: Events, *events: object, user_id: str = "u1", now: datetime = NOW) -> BatchTaken:
    return await service.take(user_id, raw_of(*events), now)


def counts(taken: BatchTaken) -> tuple[int, int, list[tuple[int, str]]]:
    return taken.accepted, taken.duplicate, [(one.index, one.code) for one in taken.rejected]


async def names(reader: Reader) -> list[str]:
    """The ids in the log, in its order."""
    rows = await reader.fetch("SELECT event_id FROM activity.log ORDER BY xid, position")
    return [row["event_id"] for row in rows]
