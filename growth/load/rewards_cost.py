"""What one thing takes, measured again and again: until it is answered, and in CPU of the server and of Postgres."""

import statistics
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import cycle
from time import monotonic

from msgspec import Struct

from growth.load.bench_stack import Stack
from growth.load.engine import Engine
from growth.load.group_buy_bench import request
from growth.load.processes import Processes
from growth.load.tokens import shopper_token
from growth.load.wire import Job, ServiceEndpoint
from growth.vocabulary import clock

SEEN = 1_000
"""Different shoppers whose pages are read."""
OF_ONE_PER_SECOND, OF_FEW_PER_SECOND = 15, 200
"""Requests, where shoppers are fewer: of more, some would be refused."""
PLAY_SECONDS, WARM_SECONDS = 1.5, 0.7
CONNECTIONS = 4


class Measured(Struct, kw_only=True):
    """What one thing takes, by run: milliseconds until it is answered, and CPU microseconds of each process."""

    p50_ms: list[float]
    p99_ms: list[float]
    cpu_us: dict[str, list[float]]

    def told(self) -> str:
        """Say it in the columns of the table."""
        cpu = " ".join(f"{statistics.median(self.cpu_us.get(name, [0])):8.0f}" for name in ("server", "postgres"))
        return f"{statistics.median(self.p50_ms):8.2f} {statistics.median(self.p99_ms):8.2f} {cpu}"


class Timed:
    """A source of requests that notes how long each took."""

    def __init__(self, payloads: Iterator[bytes]) -> None:
        self._payloads = payloads
        self.seconds: list[float] = []
        self.failures: list[tuple[int, bytes]] = []

    def next_job(self, due: float) -> Job:
        """Return the next one."""
        return Job(due, 0, next(self._payloads))

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:
        """Note the answer."""
        if status == 200:  # noqa: PLR2004
            self.seconds.append(now - job.due)
        else:
            self.failures.append((status, answer))


def say(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _share(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Meter:
    """Measures what a stack does."""

    def __init__(self, stack: Stack, runs: int) -> None:
        self.stack = stack
        self.watched = Processes({name: stack.target.pids[name] for name in ("serve", "postgres")})
        self._runs = runs

    async def read(self, path: str, users: Sequence[str], runs: int | None = None) -> Measured:
        """Play closed loops of one page, of many shoppers in turn; of few, as fast as they may."""
        now = clock.now()
        secret, url = self.stack.target.jwt_secret, self.stack.target.base_url
        payloads = cycle([request("GET", path, shopper_token(secret, user, now)) for user in users])
        found = Measured(p50_ms=[], p99_ms=[], cpu_us={})
        for run in range((runs or self._runs) + 1):
            source = Timed(payloads)
            engine = Engine(ServiceEndpoint(url), CONNECTIONS, source)
            await engine.open()
            before = self.watched.sample()
            seconds = PLAY_SECONDS if run else WARM_SECONDS
            if len(users) >= SEEN:
                await engine.play_closed(seconds)
            else:
                begin, rate = monotonic(), min(OF_ONE_PER_SECOND * len(users), OF_FEW_PER_SECOND)
                dues = (number / rate for number in range(int(seconds * rate)))
                await engine.play_open(dues, begin, begin + seconds)
            after = self.watched.sample()
            await engine.close()
            assert not source.failures, source.failures[:3]
            if run:
                self._note(found, source.seconds, len(source.seconds), before.seconds, after.seconds)
        return found

    @staticmethod
    def _note(
        found: Measured, seconds: Sequence[float], things: int, before: Mapping[str, float], after: Mapping[str, float]
    ) -> None:
        found.p50_ms.append(1000 * _share(seconds, 0.5))
        found.p99_ms.append(1000 * _share(seconds, 0.99))
        for process, used in after.items():
            found.cpu_us.setdefault(process, []).append((used - before[process]) / max(1, things) * 1e6)

    async def timed(self, act: Callable[[], Awaitable[object]], times: int) -> Measured:
        """Do something `times` in each run, one after the other."""
        found = Measured(p50_ms=[], p99_ms=[], cpu_us={})
        await act()
        for _ in range(self._runs):
            before, seconds = self.watched.sample(), []
            for _ in range(times):
                begin = monotonic()
                await act()
                seconds.append(monotonic() - begin)
            self._note(found, seconds, times, before.seconds, self.watched.sample().seconds)
        return found
