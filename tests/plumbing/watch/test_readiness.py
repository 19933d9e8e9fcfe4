"""Ready means that writes and claims would be taken, and asking leaves nothing behind."""

import pytest
from redis.asyncio import Redis

from growth.plumbing.postgres import database as postgres
from growth.plumbing.postgres.database import Database
from growth.plumbing.watch import readiness
from growth.vocabulary.refusals import Unavailable
from tests.app import running_app

pytestmark = pytest.mark.anyio

SICK = 503


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "READY_FOR_SECONDS", 0.0)
    monkeypatch.setattr(postgres, "RECYCLE_SECONDS", 0.0)


async def test_a_full_redis_is_not_ready_and_an_emptied_one_is(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app, Redis.from_url(redis_url) as redis:
        assert (await app.client.get("/readyz")).status_code == 200
        keys = await redis.dbsize()
        before = (await redis.config_get("maxmemory"))["maxmemory"] or "0"
        await redis.config_set("maxmemory", "1")
        try:
            full = await app.client.get("/readyz")
        finally:
            await redis.config_set("maxmemory", before)
        assert (full.status_code, full.text) == (SICK, "Redis takes no writes")
        assert (await app.client.get("/readyz")).status_code == 200
        assert await redis.dbsize() == keys


async def test_a_read_only_postgres_is_not_ready_and_is_within_a_look_when_it_writes(
    postgres_dsn: str, redis_url: str
) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        database = app.growth.database
        name = await database.fetchval("SELECT quote_ident(current_database())")
        async with database.transaction() as tx:
            await tx.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await database.pool.expire_connections()
        refused = await app.client.get("/readyz")
        assert (refused.status_code, refused.text) == (SICK, "Postgres is read-only")
        async with database.transaction() as tx:
            await tx.execute("SET TRANSACTION READ WRITE")
            await tx.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert (await app.client.get("/readyz")).status_code == 200


async def test_a_postgres_that_refuses_ids_is_not_ready(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Redis.from_url(redis_url) as redis:
        look = readiness.Readiness(database, redis)
        assert await look.trouble() is None
        with monkeypatch.context() as patched:
            patched.setattr(Database, "fetchval", _unavailable)
            assert await look.trouble() == "Postgres does not answer, or assigns no transaction id"
        assert await look.trouble() is None


async def _unavailable(_self: Database, query: str) -> object:
    assert "pg_current_xact_id()" in query
    raise Unavailable("refused")
