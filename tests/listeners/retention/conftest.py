"""The room on a database of its own; whatever a test does, every invariant holds after it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Struct

from growth.listeners.retention import person as shopper
from growth.listeners.retention.model import KINDS
from growth.listeners.retention.report.service import Reports
from growth.listeners.retention.service import RetentionProjection
from growth.listeners.retention.sighting import Sighting
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.vocabulary.facts import FunnelStage
from tests.kit.invariants import violations

ZONE = "Asia/Shanghai"


def at(text: str) -> datetime:
    """A time of the shop's: `2026-03-01 08:00`, eight hours ahead of UTC."""
    return datetime.fromisoformat(f"{text}+08:00").astimezone(UTC)


def sighting(user_id: str, when: str | datetime, kind: str = "app", **more: Any) -> Sighting:
    moment = at(when if len(when) > 10 else f"{when} 12:00") if isinstance(when, str) else when
    return Sighting(user_id=user_id, at=moment, kind=KINDS.index(kind), **more)


def registered(user_id: str, when: str, source: str = "") -> Sighting:
    return sighting(user_id, when, "registration", source=source)


def bound(user_id: str, when: str, inviter: str) -> Sighting:
    return sighting(user_id, when, "referral", inviter=inviter)


def step(user_id: str, when: str, taken: FunnelStage) -> Sighting:
    kind = {FunnelStage.VIEWED: "product", FunnelStage.BOUGHT: "order", FunnelStage.INVITED: "app"}.get(
        taken, "flash_sale"
    )
    return sighting(user_id, when, kind, step=taken)


class Room(Struct):
    """What one process has of the room."""

    database: Database
    projection: RetentionProjection
    reports: Reports

    async def see(self, *seen: Sighting) -> None:
        async with self.database.transaction() as tx:
            await self.projection.see(tx, seen)

    async def merge(self, old: str, new: str) -> None:
        async with self.database.transaction() as tx:
            await shopper.merge(tx, old, new, at("2026-06-01 00:00"))

    async def erase(self, user_id: str, alias: str) -> None:
        async with self.database.transaction() as tx:
            await shopper.erase(tx, user_id, alias)


def a_room(database: Database, zone: str = ZONE) -> Room:
    return Room(database, RetentionProjection(zone), Reports(database, zone))


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    found = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    try:
        yield found
        assert await violations(found) == []
    finally:
        await found.close()


@pytest.fixture
def room(database: Database) -> Room:
    return a_room(database)
