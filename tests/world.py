"""Builds states of the world: sales, shoppers, stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from growth.kit.campaign import store as campaigns
from growth.mechanics.flash_sale.model import SALES, Protection, Sale, SaleDraft
from growth.mechanics.flash_sale.store import sales as store
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.redis.client import AnyRedis, connect_redis
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def a_draft(**changes: Any) -> SaleDraft:
    """A plain sale: ten units at one yuan, open since a minute, for an hour."""
    opens_at = changes.pop("opens_at", now() - timedelta(minutes=1))
    plain: dict[str, Any] = {
        "title": "Tea for one yuan",
        "sku": "tea",
        "price_fen": 100,
        "list_price_fen": 9900,
        "units_total": 10,
        "opens_at": opens_at,
        "closes_at": opens_at + timedelta(hours=1),
        "protection": Protection(),
    }
    return SaleDraft(**plain | changes)


def a_sale(**changes: Any) -> Sale:
    """A published sale that no store knows."""
    own = {name: changes.pop(name) for name in tuple(changes) if name not in SaleDraft.__struct_fields__}
    known: dict[str, Any] = {
        "sale_id": new_id(NOON),
        "series_id": None,
        "state": "published",
        "version": 1,
        "taken": 0,
        "created_at": NOON,
        "published_at": NOON,
        "ended_at": None,
        "sold_out_at": None,
        "drawn_at": None,
        "draw_seed": None,
    }
    return Sale(**msgspec.structs.asdict(a_draft(**changes)) | known | own)


async def put_sale(database: Database, *, state: str = "published", **changes: Any) -> Sale:
    """A sale in Postgres, past the rules for operators."""
    moment = now()
    async with database.transaction() as tx:
        sale = await store.add_sale(tx, new_id(moment), a_draft(**changes), moment)
        assert sale is not None
        if state != "draft":
            sale = await campaigns.move(tx, SALES, sale.sale_id, ["draft"], state, moment)
            assert sale is not None
    return sale


@asynccontextmanager
async def stores(postgres_dsn: str, redis_url: str) -> AsyncIterator[tuple[Database, AnyRedis]]:
    """Both stores, as one process has them."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    redis = connect_redis(redis_url, max_connections=8, answer_seconds=60)
    try:
        yield database, redis
    finally:
        await redis.aclose()
        await database.close()
