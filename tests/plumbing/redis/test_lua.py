"""Scripts run by their hash, survive a server that forgot them, and each answer goes to its own question."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from growth.embedded import EmbeddedServers
from growth.plumbing.redis.client import (
    OUTSIDE_FAILING,
    AnyRedis,
    RedisConnectionError,
    RedisTimeoutError,
    ResponseError,
    connect_redis,
    unavailable,
)
from growth.plumbing.redis.lua import Argument, Script
from growth.vocabulary.refusals import Unavailable
from tests.patience import PATIENCE_SECONDS, until

pytestmark = pytest.mark.anyio

ANSWER_SECONDS = 1.0

COUNT = """-- count.lua: adds to a counter.
-- KEYS 1 counter (string)
-- ARGV 1 how much
-- REPLY the sum
return redis.call('INCRBY', KEYS[1], ARGV[1])
"""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[AnyRedis]:
    client = connect_redis(redis_url, max_connections=4, answer_seconds=PATIENCE_SECONDS)
    yield client
    await client.aclose()


@pytest.fixture
async def hasty(redis_url: str) -> AsyncIterator[AnyRedis]:
    """A client that waits for no answer for long."""
    client = connect_redis(redis_url, max_connections=4, answer_seconds=ANSWER_SECONDS)
    yield client
    await client.aclose()


@contextmanager
def frozen(servers: EmbeddedServers) -> Iterator[None]:
    """Nothing answers within the block, however long it takes."""
    servers.valkey.freeze()
    try:
        yield
    finally:
        servers.valkey.thaw()


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Redis]:
    """A connection of somebody else, with patience."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def count(tmp_path: Path) -> Script:
    (tmp_path / "count.lua").write_text(COUNT)
    return Script(tmp_path / "count.lua")


async def _call(client: AnyRedis, *command: Argument) -> Any:
    return await client.execute_command(*command)


async def _sent(other: Redis) -> dict[str, int]:
    stats = await other.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha")}


async def test_a_script_is_sent_once_and_then_called_by_its_hash(redis: AnyRedis, other: Redis, count: Script) -> None:
    before = await _sent(other)
    for expected in range(1, 6):
        assert await count(redis, ["{a}counter"], [1]) == expected
    after = await _sent(other)
    assert after["eval"] - before["eval"] == 1
    assert await other.script_exists(count.hash) == [True]


async def test_a_server_that_forgot_the_script_is_told_again(redis: AnyRedis, other: Redis, count: Script) -> None:
    for expected in range(1, 6):
        await other.script_flush()
        assert await count(redis, ["{a}counter"], [1]) == expected


async def test_a_flush_among_many_callers_loses_no_call_and_repeats_none(
    redis: AnyRedis, other: Redis, count: Script
) -> None:
    async def call() -> None:
        for _ in range(25):
            await count(redis, ["{a}counter"], [1])

    async def flush() -> None:
        for _ in range(20):
            await other.script_flush()
            await asyncio.sleep(0.001)

    await asyncio.gather(flush(), *(call() for _ in range(4)))
    assert await other.get("{a}counter") == b"100"


async def test_a_script_that_fails_is_not_run_again(redis: AnyRedis, other: Redis, tmp_path: Path) -> None:
    (tmp_path / "fails.lua").write_text("redis.call('INCR', KEYS[1]) return redis.call('LPUSH', KEYS[1], 1)")
    fails = Script(tmp_path / "fails.lua")
    for expected in (b"1", b"2"):
        with pytest.raises(ResponseError):
            await fails(redis, ["{a}counter"], [])
        assert await other.get("{a}counter") == expected


async def test_a_script_is_found_beside_its_module(tmp_path: Path) -> None:
    (tmp_path / "count.lua").write_text(COUNT)
    script = Script.beside(str(tmp_path / "stock.py"), "count.lua")
    assert script.text == COUNT


async def test_arguments_of_every_kind_arrive_as_they_are(redis: AnyRedis, tmp_path: Path) -> None:
    (tmp_path / "echo.lua").write_text("return ARGV")
    echo = Script(tmp_path / "echo.lua")
    arguments: list[Argument] = ['it\'s "quoted" \r\n {x} ü', b"\x00\xff", 2**53 + 1, 0.5, ""]
    assert await echo(redis, ["{a}"], arguments) == [
        'it\'s "quoted" \r\n {x} ü'.encode(),
        b"\x00\xff",
        b"9007199254740993",
        b"0.5",
        b"",
    ]


async def test_a_frozen_server_fails_in_bounded_time_and_later_answers_are_not_mixed_up(
    hasty: AnyRedis, other: Redis, count: Script, servers: EmbeddedServers
) -> None:
    await asyncio.gather(*(other.set(f"key-{number}", number) for number in range(8)))
    with frozen(servers):
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(OUTSIDE_FAILING) as raised:
                await count(hasty, ["{a}counter"], [1])
    assert isinstance(raised.value, RedisTimeoutError)
    await other.ping()
    answers = await asyncio.gather(*(hasty.get(f"key-{number}") for number in range(8)))
    assert answers == [str(number).encode() for number in range(8)]


async def test_a_script_that_timed_out_is_not_sent_again(
    redis: AnyRedis, hasty: AnyRedis, other: Redis, count: Script, servers: EmbeddedServers
) -> None:
    """It may have run: only the caller knows what that means. Here it has, once."""
    await count(redis, ["{a}counter"], [1])
    with frozen(servers), pytest.raises(OUTSIDE_FAILING):
        await count(hasty, ["{a}counter"], [1])
    await other.ping()
    assert await other.get("{a}counter") in {b"1", b"2"}
    await count(redis, ["{a}counter"], [0])
    assert await other.get("{a}counter") in {b"1", b"2"}


async def test_a_cancelled_caller_does_not_leave_its_answer_to_the_next(redis: AnyRedis, other: Redis) -> None:
    await asyncio.gather(*(other.set(f"key-{number}", number) for number in range(8)))
    for number in range(40):
        asked = asyncio.create_task(_call(redis, "GET", "key-1"))
        for _ in range(number % 8):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        assert await redis.get(f"key-{number % 8}") == str(number % 8).encode()


async def test_killed_connections_come_back_by_themselves(redis: AnyRedis, other: Redis, count: Script) -> None:
    await asyncio.gather(*(count(redis, ["{a}counter"], [1]) for _ in range(4)))
    await _call(other, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    failed = 0
    for _ in range(8):
        try:
            await count(redis, ["{a}counter"], [1])
        except OUTSIDE_FAILING:
            failed += 1
    assert failed <= 4, "each connection may fail once"
    assert await other.get("{a}counter") == str(12 - failed).encode()


async def test_more_callers_than_connections_wait_for_their_turn(redis: AnyRedis, count: Script) -> None:
    sums = await asyncio.gather(*(count(redis, ["{a}counter"], [1]) for _ in range(200)))
    assert sorted(sums) == list(range(1, 201))


async def test_no_free_connection_is_a_failure_in_bounded_time(hasty: AnyRedis) -> None:
    assert isinstance(hasty, Redis)
    pool = hasty.connection_pool
    taken = [await pool.get_connection() for _ in range(4)]  # type: ignore[no-untyped-call]
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(OUTSIDE_FAILING):
            await hasty.ping()
    for connection in taken:
        await pool.release(connection)
    assert await hasty.ping()


async def test_nobody_there_is_a_failure_at_once() -> None:
    redis = connect_redis("redis://127.0.0.1:1/0", max_connections=2, answer_seconds=ANSWER_SECONDS)
    with pytest.raises(RedisConnectionError) as raised:
        await redis.ping()
    problem = unavailable(raised.value)
    assert isinstance(problem, Unavailable)
    assert problem.__cause__ is raised.value
    await redis.aclose()


async def test_closing_the_client_closes_its_connections(redis_url: str, other: Redis) -> None:
    async def connected() -> int:
        return len([client for client in await other.client_list() if client["name"] == "closing"])

    redis = connect_redis(redis_url, max_connections=2, answer_seconds=PATIENCE_SECONDS)
    await _call(redis, "CLIENT", "SETNAME", "closing")
    assert await connected() == 1
    await redis.aclose()

    async def is_gone() -> bool:
        return not await connected()

    await until(is_gone, "the connection is closed")
