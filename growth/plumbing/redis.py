"""Redis admits. One bounded pool to a standalone server or a Cluster, chosen by URL; every wait has an end.

`redis://` and `rediss://` (TLS) name one server; `redis+cluster://` and `rediss+cluster://` name any node of a Cluster.
"""

import asyncio
from typing import Any, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from growth.vocabulary.refusals import Unavailable

AnyRedis: TypeAlias = "Redis | RedisCluster"

CLUSTER_SUFFIX = "+cluster"

# A Cluster that has lost a node says so by an exception that is no RedisError.
OUTSIDE_FAILING = (RedisError, RedisClusterException, OSError, TimeoutError)

__all__ = [
    "OUTSIDE_FAILING",
    "AnyRedis",
    "RedisConnectionError",
    "RedisError",
    "RedisTimeoutError",
    "ResponseError",
    "connect_redis",
    "unavailable",
]


class BoundedCluster(RedisCluster):
    """Waits its turn where the client itself raises as soon as a node's connections are all in use."""

    _turns: asyncio.Semaphore | None = None

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command within the client's bounds. Raises TimeoutError if no connection came free in time."""
        turns = self._turns
        if turns is None:
            turns = self._turns = asyncio.Semaphore(self.connection_kwargs["max_connections"])
        async with asyncio.timeout(self.connection_kwargs["socket_timeout"]):
            await turns.acquire()
        try:
            return await super().execute_command(*args, **kwargs)
        except (AttributeError, RuntimeError) as error:
            # The client, looking for the nodes anew, closes connections that others are about to write to (redis-py 8):
            # it has no writer any more, or uvloop says of the transport that its handler is closed.
            raise RedisConnectionError("the connection was closed on the way") from error
        finally:
            turns.release()


def connect_redis(url: str, *, max_connections: int, answer_seconds: float) -> AnyRedis:
    """Return a client; it connects when first used.

    No command is retried here: a script that timed out may have run, and only its caller knows what that means.
    """
    scheme, _, rest = url.partition("://")
    if scheme.endswith(CLUSTER_SUFFIX):
        return BoundedCluster.from_url(
            f"{scheme.removesuffix(CLUSTER_SUFFIX)}://{rest}",
            socket_timeout=answer_seconds,
            socket_connect_timeout=answer_seconds,
            max_connections=max_connections,
        )
    # from_pool: a client that is only handed a pool does not close it.
    return Redis.from_pool(
        BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=answer_seconds,
            socket_timeout=answer_seconds,
            socket_connect_timeout=answer_seconds,
            retry=Retry(NoBackoff(), 0),
        )
    )


def unavailable(error: BaseException) -> Unavailable:
    """Say `error` of a Redis client as the service says it."""
    problem = Unavailable("Redis did not answer")
    problem.__cause__ = error
    return problem
