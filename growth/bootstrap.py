"""Settings → pools → stores → services: one plain object, one attribute a room."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from growth import rooms
from growth.mechanics.flash_sale.board import MAX_AGE_SECONDS
from growth.mechanics.flash_sale.stock import Stock
from growth.plumbing.http.identity import Identity
from growth.plumbing.http.limits import Limiter, Share
from growth.plumbing.http.operators import Operators
from growth.plumbing.person.erasure import Erasures
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.redis.client import AnyRedis, connect_redis
from growth.plumbing.settings import Settings
from growth.plumbing.watch.invariant_rounds import SENTENCE_SECONDS, InvariantRounds
from growth.rewards.granting.service import Granting
from growth.rewards.ledger.service import Ledger
from growth.rewards.pack.service import Packs
from growth.shop.order.owed.service import RefundsRequired
from growth.shop.order.service import ShopService
from growth.shoppers import SWEPT, Shoppers

REPLICA_MAX_CONNECTIONS = 4
"""Of one process: reports are few, and may wait for one another."""
REPLICA_STATEMENT_SECONDS = 30.0
INVARIANTS_MAX_CONNECTIONS = 1
"""Of one process, opened when they are first asked for."""


class Limits(Struct):
    """How much one caller may ask: over all processes what reaches the stores, and of this one whatever it is."""

    shopper: Limiter
    operator: Limiter
    shopper_here: Share
    address: Share


class Growth(Struct):
    """Everything that runs in one process."""

    settings: Settings
    database: Database
    invariants: InvariantRounds
    redis: AnyRedis
    identity: Identity
    operators: Operators
    limits: Limits
    shop: ShopService
    refunds_required: RefundsRequired
    events: rooms.EventsIn
    webhook: rooms.Webhook
    rewards: rooms.Rewards
    coupon: rooms.CouponRoom
    pack: Packs
    flash_sale: rooms.FlashSale
    group_buy: rooms.GroupBuyRoom
    retention: rooms.Retention
    task: rooms.TaskRoom
    referral: rooms.Referral
    commission: rooms.CommissionRoom
    checkin: rooms.Checkin
    shoppers: Shoppers
    erasures: Erasures


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Growth]:
    """Connect and assemble; on leaving, let what is under way end and close the pools."""
    database = await connect_postgres(
        settings.postgres_dsn,
        max_connections=settings.postgres_max_connections,
        acquire_seconds=settings.postgres_acquire_seconds,
        statement_seconds=settings.postgres_statement_seconds,
        statement_cache=settings.postgres_statement_cache,
    )
    replica = database
    if settings.postgres_replica_dsn is not None:
        # A replica that is away stops its reports, and nothing else.
        replica = await connect_postgres(
            settings.postgres_replica_dsn,
            max_connections=REPLICA_MAX_CONNECTIONS,
            acquire_seconds=settings.postgres_acquire_seconds,
            statement_seconds=REPLICA_STATEMENT_SECONDS,
            statement_cache=settings.postgres_statement_cache,
            name="growth-reports",
            connect_now=False,
            writes=False,
        )
    invariants = await connect_postgres(
        settings.postgres_dsn,
        max_connections=INVARIANTS_MAX_CONNECTIONS,
        acquire_seconds=settings.postgres_acquire_seconds,
        statement_seconds=SENTENCE_SECONDS,
        statement_cache=settings.postgres_statement_cache,
        name="growth-invariants",
        connect_now=False,
    )
    redis = connect_redis(
        settings.redis_url,
        max_connections=settings.redis_max_connections,
        answer_seconds=settings.redis_answer_seconds,
    )
    growth = _assemble(settings, database, replica, InvariantRounds(invariants), redis)
    try:
        yield growth
    finally:
        await growth.events.events.drain()
        await growth.flash_sale.claims.drain()
        await growth.flash_sale.draws.drain()
        await growth.group_buy.teams.drain()
        await growth.referral.relations.drain()
        await growth.coupon.takes.drain()
        await growth.checkin.check_ins.drain()
        await growth.flash_sale.loader.close()
        await growth.webhook.courier.close()
        await growth.identity.close()
        await growth.invariants.close()
        await redis.aclose()
        if replica is not database:
            await replica.close()
        await database.close()


def _assemble(
    settings: Settings, database: Database, replica: Database, invariants: InvariantRounds, redis: AnyRedis
) -> Growth:
    stores = rooms.Stores(settings, database, replica, redis)
    stock = Stock(redis, back_after_seconds=MAX_AGE_SECONDS)
    events = rooms.make_events(stores)
    shop = rooms.make_shop(stores, stock, events.events)
    flash_sale = rooms.make_flash_sale(stores, stock, shop)
    referral = rooms.make_referral(stores)
    return Growth(
        settings=settings,
        database=database,
        invariants=invariants,
        redis=redis,
        identity=Identity(
            algorithms=settings.jwt_algorithms,
            secret=settings.jwt_secret,
            jwks_url=settings.jwt_jwks_url,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            database=database,
        ),
        operators=Operators(database),
        limits=_limits(settings, redis),
        shop=shop,
        refunds_required=RefundsRequired(database),
        events=events,
        webhook=rooms.make_webhook(stores),
        rewards=rooms.Rewards(ledger=Ledger(database, replica, stores.zone.key), granting=Granting(database)),
        pack=Packs(database, stores.zone),
        coupon=rooms.make_coupon(stores),
        flash_sale=flash_sale,
        group_buy=rooms.make_group_buy(stores),
        checkin=rooms.make_checkin(stores),
        task=rooms.make_task(stores),
        referral=referral,
        commission=rooms.make_commission(stores),
        retention=rooms.make_retention(stores),
        shoppers=Shoppers(
            database,
            settings.erased_memory_days,
            renamed=[flash_sale.loader.rename_shopper],
            united=[referral.again.settle_united],
        ),
        erasures=Erasures(database, SWEPT),
    )


def _limits(settings: Settings, redis: AnyRedis) -> Limits:
    said = settings
    return Limits(
        shopper=Limiter(redis, "shopper", per_second=said.shopper_requests_per_second, burst=said.shopper_burst),
        operator=Limiter(redis, "operator", per_second=said.operator_requests_per_second, burst=said.operator_burst),
        shopper_here=Share("shopper", per_second=said.shopper_requests_per_second, burst=said.shopper_burst),
        address=Share("address", per_second=said.address_requests_per_second, burst=said.address_burst),
    )


async def stop_task(task: asyncio.Task[None], seconds: float) -> None:
    """Give a task that was told to stop its time; then cancel it."""
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
