"""One hot row, written in two ways: a transaction for each claim, and one for all that came meanwhile."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Self

import asyncpg

from growth.plumbing.work.coalesce import Coalescer

CONNECTIONS = 10
"""As many as the service has by default."""
CALLERS = 256
MAX_BATCH = 64
UNITS = 2_000_000_000

SCHEMA = """
    CREATE SCHEMA load_bench;
    CREATE TABLE load_bench.sales (sale_id int PRIMARY KEY, units_total bigint NOT NULL, taken bigint NOT NULL);
    CREATE TABLE load_bench.claims (
        claim_id uuid PRIMARY KEY, sale_id int NOT NULL, user_id text COLLATE "C" NOT NULL, units int NOT NULL
    );
"""
WRITE = """
    WITH room AS (
        UPDATE load_bench.sales
        SET taken = taken + $3
        WHERE sale_id = 1
        AND taken + $3 <= units_total
        RETURNING sale_id
    )
    INSERT INTO load_bench.claims (claim_id, sale_id, user_id, units)
    SELECT claim.claim_id, room.sale_id, claim.user_id, 1
    FROM room
    CROSS JOIN unnest($1::uuid[], $2::text[]) AS claim (claim_id, user_id)
"""

Write = Callable[[str], Awaitable[object]]


class HotRow:
    """A sale and its claims in a schema of their own: `async with HotRow(dsn) as row`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        """Make the tables."""
        self._pool = await asyncpg.create_pool(self._dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
        await self._pool.execute("DROP SCHEMA IF EXISTS load_bench CASCADE")
        await self._pool.execute(SCHEMA)
        await self._pool.execute("INSERT INTO load_bench.sales VALUES (1, $1, 0)", UNITS)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drop them."""
        assert self._pool is not None
        await self._pool.execute("DROP SCHEMA load_bench CASCADE")
        await self._pool.close()

    async def _write(self, users: Sequence[str]) -> Sequence[None]:
        assert self._pool is not None
        await self._pool.execute(WRITE, [uuid.uuid4() for _ in users], list(users), len(users))
        return [None] * len(users)

    async def each_alone(self, seconds: float) -> float:
        """Return claims a second with a transaction for each."""

        async def write(user: str) -> object:
            return await self._write([user])

        return await _rate(write, CONNECTIONS, seconds)

    async def together(self, seconds: float) -> float:
        """Return claims a second with a transaction for all that gathered while the last one ran."""
        coalescer: Coalescer[str, None] = Coalescer("bench", self._write, max_batch=MAX_BATCH, max_queue=CALLERS)
        return await _rate(coalescer, CALLERS, seconds)


async def _rate(write: Write, callers: int, seconds: float) -> float:
    until = monotonic() + seconds
    written = 0

    async def call(number: int) -> None:
        nonlocal written
        while monotonic() < until:
            await write(f"shopper.{number}")
            written += 1

    begin = monotonic()
    await asyncio.gather(*(call(number) for number in range(callers)))
    return written / (monotonic() - begin)
