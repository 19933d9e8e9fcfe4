"""Settings → pools → stores → rooms: one plain object."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from msgspec import Struct

from growth.house import ROOMS, WALK
from growth.kit.room import Rooms, Stores, furnished
from growth.pipes import pipes
from growth.plumbing.http.identity import Identity
from growth.plumbing.http.limits import Limiter, Share
from growth.plumbing.http.operators import Operators
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.redis.client import AnyRedis, connect_redis
from growth.plumbing.settings import Settings
from growth.plumbing.watch.invariant_rounds import SENTENCE_SECONDS, InvariantRounds

T = TypeVar("T")

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
    redis: AnyRedis
    invariants: InvariantRounds
    identity: Identity
    operators: Operators
    limits: Limits
    rooms: Rooms

    def of(self, kind: type[T]) -> T:
        """Return a room's service, by its type."""
        return self.rooms.of(kind)


@asynccontextmanager
async def assembled(settings: Settings, *, connect_now: bool = True) -> AsyncIterator[Growth]:
    """Connect and assemble; on leaving, let what is under way end and close the pools.

    With `connect_now` false the stores need not be there, as long as nothing is asked of them.
    """
    database = await connect_postgres(
        settings.postgres_dsn,
        max_connections=settings.postgres_max_connections,
        acquire_seconds=settings.postgres_acquire_seconds,
        statement_seconds=settings.postgres_statement_seconds,
        statement_cache=settings.postgres_statement_cache,
        connect_now=connect_now,
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
    growth = assemble(Stores(settings, database, replica, redis), InvariantRounds(invariants))
    try:
        yield growth
    finally:
        for room in growth.rooms:
            for drain in room.drain:
                await drain()
        for room in growth.rooms:
            for close in room.close:
                await close()
        await growth.identity.close()
        await growth.invariants.close()
        await redis.aclose()
        if replica is not database:
            await replica.close()
        await database.close()


def assemble(stores: Stores, invariants: InvariantRounds) -> Growth:
    """Make everything, of stores that need not be there yet."""
    settings, database = stores.settings, stores.database
    makers = [lambda stores, _below: pipes(stores, invariants), *ROOMS]
    return Growth(
        settings=settings,
        database=database,
        redis=stores.redis,
        invariants=invariants,
        identity=Identity(
            algorithms=settings.jwt_algorithms,
            secret=settings.jwt_secret,
            jwks_url=settings.jwt_jwks_url,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            database=database,
        ),
        operators=Operators(database),
        limits=_limits(settings, stores.redis),
        rooms=furnished(makers, stores, WALK),
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
