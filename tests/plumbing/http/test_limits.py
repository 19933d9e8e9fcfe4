"""One caller gets its share and no more, over all replicas, by Redis' clock; and Redis gone shuts nobody out."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from zlib import crc32

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from structlog.testing import capture_logs

from growth.embedded import EmbeddedServers
from growth.plumbing.http import limits
from growth.plumbing.http.limits import Limiter, TooManyRequests
from growth.plumbing.redis.client import AnyRedis, connect_redis
from growth.plumbing.redis.lua import Script

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[AnyRedis]:
    client = connect_redis(redis_url, max_connections=8, answer_seconds=60)
    yield client
    # The pool was given to the client, which therefore does not close it.
    assert isinstance(client, Redis)
    await client.aclose(close_connection_pool=True)


def _limiter(redis: AnyRedis, *, per_second: float = 0.01, burst: int = 5, name: str = "shopper") -> Limiter:
    return Limiter(redis, name, per_second=per_second, burst=burst)


def _skipped(name: str) -> float:
    return REGISTRY.get_sample_value("growth_limits_skipped_total", {"limit": name}) or 0.0


async def test_a_burst_passes_and_the_next_request_is_refused_with_the_time_to_wait(redis: AnyRedis) -> None:
    limiter = _limiter(redis, per_second=1, burst=5)
    assert [(await limiter.take("u-1")).remaining for _ in range(5)] == [4, 3, 2, 1, 0]

    with pytest.raises(TooManyRequests) as refused:
        await limiter.take("u-1")

    assert refused.value.kind.status == 429
    assert 0 < refused.value.members["retry_after_seconds"] <= 1  # type: ignore[operator]
    assert refused.value.headers["Retry-After"] == "1"
    assert refused.value.headers["RateLimit-Policy"] == '"shopper";q=5;w=5'
    assert re.fullmatch(r'"shopper";r=0;t=[1-5]', refused.value.headers["RateLimit"])


async def test_several_units_are_taken_all_or_none(redis: AnyRedis) -> None:
    limiter = _limiter(redis, per_second=0.001, burst=10)
    assert (await limiter.take("u-1", 7)).remaining == 3
    verdict = await limiter.ask("u-2", 10)
    assert (verdict.allowed, verdict.remaining) == (True, 0)
    refused = await _limiter(redis, per_second=0.001, burst=10).ask("u-1", 4)
    assert (refused.allowed, round(refused.retry_after_seconds)) == (False, 1000)
    # Another process, which remembers no refusal.
    assert (await _limiter(redis, per_second=0.001, burst=10).ask("u-1", 3)).remaining == 0


async def test_of_64_takes_of_several_units_as_many_pass_as_fit(redis: AnyRedis) -> None:
    replicas = [_limiter(redis, per_second=0.001, burst=100) for _ in range(64)]
    verdicts = await asyncio.gather(*(replica.ask("u-1", 7) for replica in replicas))
    assert sum(verdict.allowed for verdict in verdicts) == 14


async def test_callers_and_limits_do_not_share(redis: AnyRedis) -> None:
    first, second = _limiter(redis, burst=1, name="one"), _limiter(redis, burst=1, name="two")
    for limiter in (first, second):
        for key in ("u-1", "u-2"):
            assert (await limiter.ask(key)).allowed
            assert not (await limiter.ask(key)).allowed


async def test_the_share_grows_back_at_the_steady_rate(redis: AnyRedis) -> None:
    limiter = _limiter(redis, per_second=0.5, burst=2)
    for _ in range(2):
        assert (await limiter.ask("u-1")).allowed
    verdict = await limiter.ask("u-1")
    assert not verdict.allowed
    # The wait is what the limiter itself asks for.
    await asyncio.sleep(verdict.retry_after_seconds + 0.002)
    assert (await limiter.ask("u-1")).allowed
    assert not (await limiter.ask("u-1")).allowed


@pytest.mark.parametrize("round_", range(5))
async def test_many_replicas_at_once_let_exactly_the_burst_through(redis: AnyRedis, round_: int) -> None:
    replicas = [_limiter(redis, per_second=0.01, burst=10) for _ in range(8)]
    verdicts = await asyncio.gather(*(replica.ask("u-1") for replica in replicas for _ in range(16)))
    assert sum(verdict.allowed for verdict in verdicts) == 10


async def test_without_the_script_as_guard_many_replicas_let_more_through(redis: AnyRedis) -> None:
    """Negative control: the same rule, read and then written, lets too many through."""
    passed = 0

    async def read_then_write() -> None:
        nonlocal passed
        taken = int(await redis.get("control") or 0)
        if taken < 10:
            await redis.set("control", taken + 1)
            passed += 1

    await asyncio.gather(*(read_then_write() for _ in range(64)))
    assert passed > 10


async def test_concurrent_takes_travel_together(redis: AnyRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    script = limits._gcra

    async def counted(client: AnyRedis, keys: list[str], args: list[int]) -> object:
        calls.append(len(keys))
        return await script(client, keys, args)

    monkeypatch.setattr(limits, "_gcra", counted)
    limiter = _limiter(redis)
    verdicts = await asyncio.gather(*(limiter.ask(f"u-{number}") for number in range(200)))
    assert all(verdict.allowed and verdict.remaining == 4 for verdict in verdicts)
    assert len(calls) <= 3
    assert sum(calls) == 200


async def test_a_refused_caller_is_refused_from_memory(redis: AnyRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = _limiter(redis, per_second=0.01, burst=1)
    await limiter.ask("u-1")
    assert not (await limiter.ask("u-1")).allowed

    async def never(*_: object) -> object:
        pytest.fail("Redis was asked again")

    monkeypatch.setattr(limits, "_gcra", never)
    for _ in range(100):
        verdict = await limiter.ask("u-1")
        assert not verdict.allowed
        assert verdict.retry_after_seconds > 90


async def test_memory_of_refused_callers_is_bounded(redis: AnyRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFUSED_REMEMBERED", 10)
    limiter = _limiter(redis, per_second=0.01, burst=1)
    for number in range(50):
        await limiter.ask(f"u-{number}")
        assert not (await limiter.ask(f"u-{number}")).allowed
        assert len(limiter._refused) <= 10
    # Whoever was forgotten is refused by Redis all the same.
    assert not (await limiter.ask("u-0")).allowed


async def test_nothing_is_asked_where_there_is_no_limit() -> None:
    redis = connect_redis("redis://127.0.0.1:1/0", max_connections=1, answer_seconds=1)
    limiter = _limiter(redis, per_second=0)
    assert (await limiter.take("u-1")).allowed
    assert limiter.headers(await limiter.ask("u-1")) == {}
    assert _skipped("shopper") == 0


async def test_redis_gone_lets_everybody_pass_and_counts_them() -> None:
    redis = connect_redis("redis://127.0.0.1:1/0", max_connections=1, answer_seconds=1)
    limiter = _limiter(redis, burst=1, name="gone")
    with capture_logs() as lines:
        for _ in range(10):
            assert (await limiter.take("u-1")).allowed
    assert _skipped("gone") == 10
    # One line a pause, not one a request.
    assert [line["event"] for line in lines] == ["limits.skipped"]


async def test_redis_frozen_holds_nobody_up(
    redis: AnyRedis, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_WAIT_SECONDS", 0.25)
    limiter = _limiter(redis, burst=3, name="frozen")
    assert (await limiter.ask("u-1")).remaining == 2
    servers.valkey.freeze()
    try:
        # All are answered while it is frozen, and it stays so until they are.
        verdicts = await asyncio.gather(*(limiter.ask("u-1") for _ in range(300)))
    finally:
        servers.valkey.thaw()
    assert all(verdict.allowed for verdict in verdicts)

    # Once it is back, answers belong to the questions that were asked.
    limiter._skip_until = 0.0
    assert (await limiter.ask("u-2")).remaining == 2


async def test_keys_go_away_by_themselves(redis: AnyRedis) -> None:
    limiter = _limiter(redis, per_second=0.001, burst=5)
    await limiter.ask("u-1")
    assert 0 < await redis.pttl("limits:shopper:u-1") <= 1_000_000


async def test_a_clock_that_jumped_back_locks_nobody_out(redis: AnyRedis) -> None:
    limiter = _limiter(redis, per_second=50, burst=5)
    await redis.set("limits:shopper:u-1", (int(time.time()) + 10_000_000) * 1_000_000)
    verdict = await limiter.ask("u-1")
    assert not verdict.allowed
    assert verdict.retry_after_seconds <= 0.02
    await asyncio.sleep(verdict.retry_after_seconds + 0.002)
    assert (await limiter.ask("u-1")).allowed


@pytest.mark.parametrize("garbage", ["", "x", "-1", "nan", "-nan", "inf", "1e400"])
async def test_a_key_that_holds_something_else_is_no_reason_to_fail(redis: AnyRedis, garbage: str) -> None:
    await redis.set("limits:shopper:u-1", garbage)
    await _limiter(redis, name="shopper").ask("u-1")
    stored = await redis.get("limits:shopper:u-1")
    assert isinstance(stored, bytes)
    assert re.fullmatch(rb"\d{16}", stored)


async def test_times_are_kept_to_the_microsecond(redis: AnyRedis) -> None:
    await Script.beside(limits.__file__, "gcra.lua")(redis, ["k"], [1_000_000, 1])
    stored = await redis.get("k")
    assert isinstance(stored, bytes)
    assert re.fullmatch(rb"\d{16}", stored), "Lua shortens large numbers unless told not to"


@pytest.mark.parametrize("key", ["u{1}", "a:b|c", "用户", "x" * 500, "{", "}{", "u\n1"])
async def test_any_text_is_a_key_of_its_own(redis: AnyRedis, key: str) -> None:
    limiter = _limiter(redis, burst=1)
    assert (await limiter.ask(key)).allowed
    assert not (await limiter.ask(key)).allowed
    assert (await limiter.ask(key + "x")).allowed


def test_in_a_cluster_all_keys_of_one_call_share_a_hash_tag() -> None:
    limiter = Limiter(
        connect_redis("redis://127.0.0.1:1", max_connections=1, answer_seconds=1), "l", per_second=1, burst=1
    )
    limiter._shards = limiter._shards * limits.CLUSTER_SHARDS
    tags: dict[int, set[str]] = {}
    for number in range(500):
        key = f"}}u{{{number}"
        redis_key = limiter._redis_key(key)
        tag = redis_key[redis_key.index("{") + 1 : redis_key.index("}")]
        tags.setdefault(crc32(key.encode()) % limits.CLUSTER_SHARDS, set()).add(tag)
    assert len(tags) == limits.CLUSTER_SHARDS
    assert all(len(found) == 1 for found in tags.values())


def test_the_script_lists_what_it_takes_and_gives() -> None:
    text = Path(limits.__file__).with_name("gcra.lua").read_text(encoding="utf-8")
    assert text.startswith("-- gcra.lua: ")
    assert "-- KEYS 1" in text
    assert "-- REPLY " in text


# --- Redis away, where somebody might guess what is secret -----------------------------------------------------------


def _nowhere(*, guards_secrets: bool) -> Limiter:
    away = connect_redis("redis://127.0.0.1:1/0", max_connections=1, answer_seconds=0.2)
    return Limiter(away, "guesses", per_second=0.001, burst=10, guards_secrets=guards_secrets)


async def test_without_redis_guesses_are_counted_by_the_process_itself() -> None:
    limiter = _nowhere(guards_secrets=True)
    verdicts = [await limiter.ask("u-1") for _ in range(300)]
    assert [one.allowed for one in verdicts] == [True] * 10 + [False] * 290
    assert [one.remaining for one in verdicts[:10]] == list(range(9, -1, -1))
    assert 0 < verdicts[10].retry_after_seconds <= 1000
    assert (await limiter.ask("u-2")).allowed
    with pytest.raises(TooManyRequests):
        await limiter.take("u-1")


@pytest.mark.parametrize("uptime", [0.1, 1 / 3, 12_345.678_9, 1e6 + 0.1, 4e7 + 1 / 3])
@pytest.mark.parametrize("units", [1, 2, 5, 10])
async def test_a_whole_share_can_be_taken_whatever_the_clock_says(
    monkeypatch: pytest.MonkeyPatch, uptime: float, units: int
) -> None:
    limiter = _nowhere(guards_secrets=True)
    await limiter.ask("who finds that redis is away")
    monkeypatch.setattr("growth.plumbing.http.limits.time.monotonic", lambda: uptime)
    limiter._skip_until = uptime + 1
    for number in range(10 // units):
        verdict = await limiter.ask("u-1", units)
        assert (verdict.allowed, verdict.remaining) == (True, 10 - units * (number + 1))
    assert not (await limiter.ask("u-1")).allowed


async def test_without_a_count_of_its_own_a_process_lets_every_guess_pass() -> None:
    limiter = _nowhere(guards_secrets=False)
    assert all([(await limiter.ask("u-1")).allowed for _ in range(300)])


async def test_of_callers_counted_without_redis_who_has_not_come_for_longest_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_COUNTED_HERE", 2)
    limiter = _nowhere(guards_secrets=True)
    for key in ("u-1", "u-2", "u-1", "u-3"):
        await limiter.ask(key, 10)
    assert [(await limiter.ask(key)).allowed for key in ("u-3", "u-1", "u-2")] == [False, False, True]
