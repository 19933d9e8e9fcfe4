"""Limits: how often one caller may call. GCRA.

A `Limiter` counts over all replicas, in Redis, by Redis' clock. Concurrent takes of one process travel in one script
call (see `coalesce`). Whoever was refused is refused from memory until the wait is over, so that hammering costs the
hammerer more than us. Redis gone means no limit: a shop that is open to a few too many beats one that is closed. Where
somebody might guess what is secret, each process goes on counting by itself meanwhile.

A `Share` counts at one process alone, in its memory: for what is asked too often, or by too many, to ask Redis.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from heapq import nlargest
from operator import itemgetter
from zlib import crc32

import structlog
from msgspec import Struct
from prometheus_client import Counter
from redis.asyncio.cluster import RedisCluster

from growth.plumbing.http.problems import TOO_MANY
from growth.plumbing.redis.client import OUTSIDE_FAILING, AnyRedis
from growth.plumbing.redis.lua import Script
from growth.plumbing.work.coalesce import Coalescer
from growth.vocabulary.refusals import Refusal, Unavailable

log = structlog.get_logger("limits")

MAX_BATCH = 256
MAX_QUEUE = 8192
MAX_WAIT_SECONDS = 0.25
"""What one script call may take. A limit is not worth more."""
PAUSE_SECONDS = 1.0
"""After Redis did not answer, how long everybody passes unasked."""
MAX_REFUSED_REMEMBERED = 65_536
MAX_COUNTED_HERE = 65_536
"""Callers that one process counts by itself while Redis is away."""
ROUNDING = 1e-6
"""Of the time from one request to the next: less of it is what rounding makes."""
MAX_SHARES = 100_000
"""Callers that a `Share` remembers, twice at most what it keeps. About 20 MB, where the text is no one else's."""
FEW_SHARES = 1_024
CLUSTER_SHARDS = 16
"""Hash tags, so slots, that one limit is spread over in a Cluster. One server needs one, and gathers better."""

_skipped = Counter("growth_limits_skipped", "Requests let pass because Redis did not answer.", ["limit"])
_refused = Counter("growth_limits_refused", "Requests refused.", ["limit"])

_gcra = Script.beside(__file__, "gcra.lua")


class LimitAnswer(Struct, frozen=True):
    """What one request got."""

    allowed: bool
    remaining: int
    """Requests that could follow at once."""
    retry_after_seconds: float = 0.0
    """How long a refused caller must wait."""
    whole_after_seconds: float = 0.0
    """When the full burst is there again."""


class TooManyRequests(Refusal):
    """The 429, with what its headers say."""

    def __init__(self, headers: dict[str, str], **members: object) -> None:
        super().__init__(TOO_MANY, "", **members)
        self.headers = headers


def headers(name: str, *, per_second: float, burst: int, verdict: LimitAnswer) -> dict[str, str]:
    """Return `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), and Retry-After."""
    if not per_second:
        return {}
    window = math.ceil(burst / per_second)
    until = max(verdict.whole_after_seconds, verdict.retry_after_seconds)
    shown = {
        "RateLimit-Policy": f'"{name}";q={burst};w={window}',
        "RateLimit": f'"{name}";r={verdict.remaining};t={math.ceil(until)}',
    }
    if not verdict.allowed:
        shown["Retry-After"] = str(max(1, math.ceil(verdict.retry_after_seconds)))
    return shown


class Share:
    """One limit of this process: `per_second` requests on average for each key, `burst` at once; 0 is no limit.

    What it keeps is bounded: a key whose share is whole again is forgotten, in one sweep for many.
    """

    def __init__(self, name: str, *, per_second: float, burst: int) -> None:
        assert per_second >= 0
        assert burst >= 1
        self.name = name
        self.per_second = per_second
        self.burst = burst
        self._gap = 1 / per_second if per_second else 0.0
        # A request may come as soon as no more than this is owed.
        self._span = self._gap * burst * (1 + 1e-9)
        # key -> when its share is whole, on this process' clock
        self._whole_at: dict[str, float] = {}
        self._sweep_at = FEW_SHARES
        self._count_refused = _refused.labels(name)

    def __len__(self) -> int:
        return len(self._whole_at)

    def wait(self, key: str) -> float:
        """Take one request from the share of `key`. Returns 0, or if there is none the seconds until there is."""
        if not self._gap:
            return 0.0
        now = time.monotonic()
        whole_at = self._whole_at.get(key, now)
        after = (whole_at if whole_at > now else now) + self._gap  # noqa: FURB136 - a call would cost as much as all else
        early = after - now - self._span
        if early > 0:
            self._count_refused.inc()
            return early
        self._whole_at[key] = after
        if len(self._whole_at) >= self._sweep_at:
            self._sweep(now)
        return 0.0

    def take(self, key: str) -> None:
        """Take one request from the share of `key`. Raises `TooManyRequests` (429) when there is none."""
        wait = self.wait(key)
        if wait:
            raise self.refusal(wait)

    def refusal(self, wait: float) -> TooManyRequests:
        """Return what is told to somebody who must wait."""
        verdict = LimitAnswer(allowed=False, remaining=0, retry_after_seconds=wait, whole_after_seconds=self._span)
        said = headers(self.name, per_second=self.per_second, burst=self.burst, verdict=verdict)
        return TooManyRequests(said, limit=self.name, retry_after_seconds=round(wait, 3))

    def _sweep(self, now: float) -> None:
        self._whole_at = {key: at for key, at in self._whole_at.items() if at > now}
        if len(self._whole_at) > MAX_SHARES // 2:
            # Who owes most is remembered: somebody with many addresses does not free the others by that.
            owing = nlargest(MAX_SHARES // 4, self._whole_at.items(), key=itemgetter(1))
            self._whole_at = dict(owing)
        self._sweep_at = max(FEW_SHARES, 2 * len(self._whole_at))


class Limiter:
    """One limit: `per_second` requests on average for each key, `burst` at once. `per_second` 0 is no limit.

    `guards_secrets`: while Redis does not answer, each process holds callers to the limit by its own count.
    """

    def __init__(
        self, redis: AnyRedis, name: str, *, per_second: float, burst: int, guards_secrets: bool = False
    ) -> None:
        assert per_second >= 0
        assert burst >= 1
        self.name = name
        self.per_second = per_second
        self.burst = burst
        self._redis = redis
        self._gap_microseconds = max(1, round(1_000_000 / per_second)) if per_second else 0
        self._open = LimitAnswer(allowed=True, remaining=burst)
        self._skip_until = 0.0
        # key -> when the wait is over, on this process' clock
        self._refused: dict[str, float] = {}
        self._guards_secrets = guards_secrets
        # key -> when its next request would be due at the even pace, on this process' clock
        self._due: dict[str, float] = {}
        self._count_refused = _refused.labels(name)
        self._count_skipped = _skipped.labels(name)
        shards = CLUSTER_SHARDS if isinstance(redis, RedisCluster) else 1
        self._shards = [
            Coalescer(f"limits:{name}:{shard}", self._run, max_batch=MAX_BATCH, max_queue=MAX_QUEUE)
            for shard in range(shards)
        ]

    async def ask(self, key: str, units: int = 1) -> LimitAnswer:
        """Take `units` requests from the share of `key`, all or none, and say how that went.

        Never raises, never waits long. More than `burst` units could never be taken.
        """
        assert units <= self.burst or not self.per_second
        if not self.per_second:
            return self._open
        now = time.monotonic()
        until = self._refused.get(key)
        if until is not None:
            if until > now:
                self._count_refused.inc()
                return LimitAnswer(allowed=False, remaining=0, retry_after_seconds=until - now, whole_after_seconds=0.0)
            del self._refused[key]
        if now < self._skip_until:
            return self._unasked(key, units, now)
        try:
            shard = self._shards[crc32(key.encode()) % len(self._shards)]
            verdict = await shard((self._redis_key(key), units))
        except Unavailable:
            return self._unasked(key, units, now)
        if not verdict.allowed:
            self._remember(key, now + verdict.retry_after_seconds)
            self._count_refused.inc()
        return verdict

    def _unasked(self, key: str, units: int, now: float) -> LimitAnswer:
        """Decide without Redis."""
        if not self._guards_secrets:
            self._count_skipped.inc()
            return self._open
        gap = 1 / self.per_second
        due = max(now, self._due.pop(key, now))
        wait = due - now + (units - self.burst) * gap
        # Clocks count with so many digits: what rounding makes of nothing is no wait.
        is_allowed = wait <= gap * ROUNDING
        if is_allowed:
            due += units * gap
        # The latest stands last, so that whoever is dropped has not come for longest.
        self._due[key] = due
        if len(self._due) > MAX_COUNTED_HERE:
            del self._due[next(iter(self._due))]
        if not is_allowed:
            self._count_refused.inc()
            return LimitAnswer(allowed=False, remaining=0, retry_after_seconds=wait, whole_after_seconds=due - now)
        return LimitAnswer(allowed=True, remaining=math.floor(ROUNDING - wait / gap), whole_after_seconds=due - now)

    async def take(self, key: str, units: int = 1) -> LimitAnswer:
        """Take `units` requests from the share of `key`. Raises `TooManyRequests` (429) when it has not so many."""
        verdict = await self.ask(key, units)
        if not verdict.allowed:
            raise TooManyRequests(
                self.headers(verdict), limit=self.name, retry_after_seconds=round(verdict.retry_after_seconds, 3)
            )
        return verdict

    def headers(self, verdict: LimitAnswer) -> dict[str, str]:
        """Return what headers say of a verdict."""
        return headers(self.name, per_second=self.per_second, burst=self.burst, verdict=verdict)

    def _redis_key(self, key: str) -> str:
        if len(self._shards) == 1:
            return f"limits:{self.name}:{key}"
        # The tag comes first: a brace within the caller's part then means nothing.
        return f"{{limits:{self.name}:{crc32(key.encode()) % len(self._shards)}}}:{key}"

    def _remember(self, key: str, until: float) -> None:
        if len(self._refused) >= MAX_REFUSED_REMEMBERED:
            # All of them: whoever still hammers is back after one look at Redis.
            self._refused.clear()
        self._refused[key] = until

    async def _run(self, takes: list[tuple[str, int]]) -> Sequence[LimitAnswer]:
        keys, units = zip(*takes, strict=True)
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                reply = await _gcra(self._redis, keys, [self._gap_microseconds, self.burst, *units])
        except OUTSIDE_FAILING as error:
            if time.monotonic() >= self._skip_until:
                log.warning("limits.skipped", limit=self.name, error=repr(error))
            self._skip_until = time.monotonic() + PAUSE_SECONDS
            raise Unavailable("Redis did not answer") from error
        return [
            LimitAnswer(
                allowed=reply[at] >= 0,
                remaining=max(0, reply[at]),
                retry_after_seconds=reply[at + 1] / 1_000_000,
                whole_after_seconds=reply[at + 2] / 1_000_000,
            )
            for at in range(0, len(reply), 3)
        ]
