"""What one thing takes, measured again and again: until it is answered, and in CPU of the server and of Postgres."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import cycle
from time import monotonic

from msgspec import Struct

from growth.load.processes import Processes
from growth.load.tokens import shopper_token
from growth.vocabulary import clock
from scripts.bench.kit import Requests, play, request
from scripts.bench.stack import Stack

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
        secret = self.stack.target.jwt_secret
        payloads = cycle([request("GET", path, shopper_token(secret, user, now)) for user in users])
        found = Measured(p50_ms=[], p99_ms=[], cpu_us={})
        # Of few shoppers, as fast as they may.
        per_second = 0 if len(users) >= SEEN else min(OF_ONE_PER_SECOND * len(users), OF_FEW_PER_SECOND)
        for run in range((runs or self._runs) + 1):
            source, seconds = Requests(payloads), PLAY_SECONDS if run else WARM_SECONDS
            played = await play(
                *(self.stack.serve.url, source, seconds),
                connections=CONNECTIONS,
                per_second=per_second,
                watched=self.watched,
            )
            assert source.statuses.keys() == {200}, (source.statuses, source.failure)
            if run:
                self._note(found, source.seconds, len(source.seconds), played.cpu_seconds)
        return found

    @staticmethod
    def _note(found: Measured, seconds: Sequence[float], things: int, cpu_seconds: Mapping[str, float]) -> None:
        found.p50_ms.append(1000 * _share(seconds, 0.5))
        found.p99_ms.append(1000 * _share(seconds, 0.99))
        for process, used in cpu_seconds.items():
            found.cpu_us.setdefault(process, []).append(used / max(1, things) * 1e6)

    async def timed(self, act: Callable[[], Awaitable[object]], times: int) -> Measured:
        """Do something `times` in each run, one after the other."""
        found = Measured(p50_ms=[], p99_ms=[], cpu_us={})
        await act()
        for _ in range(self._runs):
            before, seconds = self.watched.sample().seconds, []
            for _ in range(times):
                begin = monotonic()
                await act()
                seconds.append(monotonic() - begin)
            after = self.watched.sample().seconds
            self._note(found, seconds, times, {name: used - before[name] for name, used in after.items()})
        return found
