"""The room of flash sales on stores of its own; whatever a test does, every invariant holds after it."""

from collections.abc import AsyncIterator

import pytest
from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.mechanics.flash_sale.board import SaleBoard
from growth.mechanics.flash_sale.claim.draw.service import Draws
from growth.mechanics.flash_sale.claim.gate import DecidedClaim
from growth.mechanics.flash_sale.claim.periodic import ClaimKeeper
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.claim.settlement.service import ClaimSettlement
from growth.mechanics.flash_sale.service import Sales
from growth.mechanics.flash_sale.stock import Stock
from growth.plumbing.postgres.database import Database
from growth.plumbing.redis.client import AnyRedis
from growth.shop.order.service import ShopService
from growth.vocabulary.clock import now
from tests import world
from tests.kit.invariants import violations
from tests.shop.order.telling import SECRET


class Room(Struct):
    """What one process has of the room."""

    database: Database
    redis: AnyRedis
    stock: Stock
    board: SaleBoard
    loader: Loader
    draws: Draws
    shop: ShopService
    sales: Sales
    claims: Claims
    keeper: ClaimKeeper
    settlement: ClaimSettlement

    async def claim(self, sale_id: str, user_id: str, units: int = 1, key: str | None = None) -> DecidedClaim:
        """Claim as a shopper does."""
        answer = await self.claims.claim(sale_id, user_id, units, key, "")
        assert isinstance(answer, DecidedClaim)
        return answer


def assemble(database: Database, redis: AnyRedis) -> Room:
    """One more process on the same stores."""
    stock = Stock(redis)
    board, loader, draws = SaleBoard(database, stock, now), Loader(database, stock, now), Draws(database, stock)
    settlement = ClaimSettlement(stock)
    shop = ShopService(database, [settlement], [SECRET])
    return Room(
        database=database,
        redis=redis,
        stock=stock,
        board=board,
        loader=loader,
        draws=draws,
        shop=shop,
        sales=Sales(database, stock, board, loader, shop, Audiences()),
        claims=Claims(database, stock, board, loader, draws, shop, Audiences()),
        keeper=ClaimKeeper(database, stock, loader),
        settlement=settlement,
    )


@pytest.fixture
async def room(postgres_dsn: str, redis_url: str) -> AsyncIterator[Room]:
    """A process of its own, with empty stores."""
    async with world.stores(postgres_dsn, redis_url) as (database, redis):
        room = assemble(database, redis)
        yield room
        await room.claims.drain()
        await room.loader.close()
        assert not await violations(database)
