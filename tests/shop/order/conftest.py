"""The shop's room on a database of its own."""

from collections.abc import AsyncIterator

import httpx
import pytest

from growth.plumbing.postgres.database import Database, connect_postgres
from growth.shop.order.service import ShopService
from growth.vocabulary import clock
from tests.kit.invariants import violations
from tests.shop.order.hooking import Shop, app_of
from tests.shop.order.telling import NOON, SECRET, Recorder


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    yield database
    broken = await violations(database)
    await database.close()
    assert not broken


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def service(database: Database, recorder: Recorder) -> ShopService:
    return ShopService(database, [recorder], [SECRET])


@pytest.fixture
async def shop(service: ShopService, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    monkeypatch.setattr(clock, "now", lambda: NOON)
    transport = httpx.ASGITransport(app_of(service), raise_app_exceptions=True)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        yield Shop(client)
