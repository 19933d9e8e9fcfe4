"""The generator's process: takes orders on stdin, reports on stdout, and does nothing else on its core."""

import asyncio
import gc
import os
import random
import resource
import sys
from time import monotonic

import msgspec

from growth.load.arrivals import due_offsets, flat, total_seconds
from growth.load.crowd import LoadCrowd
from growth.load.engine import Engine
from growth.load.histogram import Histogram
from growth.load.http_client import HEAD_END, Job, ServiceEndpoint
from growth.load.messages import (
    Failed,
    Hammer,
    Hammered,
    LetGo,
    Play,
    Played,
    Progress,
    Quit,
    Ready,
    Report,
    Setup,
)
from growth.load.recorder import Recorder, latencies
from growth.load.tokens import bad_tokens, shopper_token
from growth.vocabulary import clock

REPORT_SECONDS = 0.1
P99_EVERY = 5
"""Reports between two looks at the percentiles, which cost a millisecond."""
MAX_LINE_BYTES = 64 << 20
BAD_TOKENS = 64

AnyOrder = Setup | Play | LetGo | Hammer | Quit


def cpu_seconds() -> float:
    """Return the CPU time this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Generator:
    """Does what it is ordered, one run at a time."""

    def __init__(self, orders: asyncio.StreamReader) -> None:
        self._orders = orders
        self._decoder = msgspec.json.Decoder(AnyOrder)
        self._setup: Setup | None = None
        self._users: list[str] = []
        self._tokens: list[bytes] = []
        self._bad_tokens: list[bytes] = []
        self._runs = 0

    async def _next_order(self) -> AnyOrder:
        line = await self._orders.readline()
        return self._decoder.decode(line) if line else Quit()

    async def run(self) -> None:
        """Take orders until told to quit, or until the conductor is gone."""
        while True:
            order = await self._next_order()
            try:
                match order:
                    case Setup():
                        tell(self._set_up(order))
                    case Play():
                        tell(await self._play(order))
                    case Hammer():
                        tell(await _hammer(order))
                    case LetGo():
                        pass  # the run it belonged to is over
                    case Quit():
                        return
            except OSError as error:
                tell(Failed(f"the service does not answer: {error}"))

    def _set_up(self, setup: Setup) -> Ready:
        if setup.core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {setup.core})
        now = clock.now()
        self._setup = setup
        self._users = [f"{setup.run_id}.{number}" for number in range(setup.shoppers)]
        self._tokens = [
            shopper_token(setup.jwt_secret, user, now, setup.jwt_issuer, setup.jwt_audience) for user in self._users
        ]
        self._bad_tokens = bad_tokens(setup.jwt_secret, now, BAD_TOKENS)
        # Nothing that runs makes cycles, so the collector would only stop the clock.
        gc.collect()
        gc.freeze()
        gc.disable()
        return Ready(os.getpid(), setup.core, type(asyncio.get_running_loop()).__module__.partition(".")[0])

    async def _play(self, play: Play) -> Played:
        setup = self._setup
        assert setup is not None, "set up first"
        self._runs += 1
        dice = random.Random(f"{setup.seed}.{self._runs}")
        seconds = play.closed_seconds or total_seconds(play.stretches)
        endpoint = ServiceEndpoint(play.base_url or setup.base_url)
        recorder = Recorder(play.start_at, seconds)
        crowd = LoadCrowd(play, endpoint, recorder, self._users, self._tokens, self._bad_tokens, dice)
        engine = Engine(endpoint, setup.connections, crowd)
        await engine.open()
        cpu_before = cpu_seconds()
        beside = [
            asyncio.create_task(self._report(engine, crowd), name="load:report"),
            asyncio.create_task(self._listen(engine, crowd), name="load:listen"),
        ]
        try:
            await asyncio.sleep(max(0.0, play.start_at - monotonic()))
            if play.closed_seconds:
                await engine.play_closed(seconds)
                kept_up = True
            else:
                dues = due_offsets(play.stretches, dice)
                kept_up = await engine.play_open(dues, play.start_at, play.start_at + seconds, give_up=play.give_up)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await engine.close()
        return Played(
            offered=engine.offered,
            answered=engine.answered_count,
            answered_in_time=engine.answered_in_time,
            seconds=engine.played_seconds,
            kept_up=kept_up,
            recording=recorder.recording(),
            wins=list(crowd.wins.values()),
            books=crowd.books,
            first_sold_out_at=crowd.first_sold_out_at,
            generator_cpu_seconds=cpu_seconds() - cpu_before,
        )

    async def _report(self, engine: Engine, crowd: LoadCrowd) -> None:
        p99_us = turn = 0
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            if turn % P99_EVERY == 0:
                p99_us = crowd.recorder.everything().percentile(99)
            turn += 1
            wins, crowd.fresh_wins = crowd.fresh_wins, []
            tell(
                Progress(
                    at=monotonic(),
                    offered=engine.offered,
                    answered=engine.answered_count,
                    outcomes=crowd.recorder.counts(),
                    p99_us=p99_us,
                    wins=wins,
                    first_sold_out_at=crowd.first_sold_out_at,
                )
            )

    async def _listen(self, engine: Engine, crowd: LoadCrowd) -> None:
        """Take orders that belong to the run under way."""
        while True:
            order = await self._next_order()
            match order:
                case LetGo():
                    engine.add(crowd.let_go(order.claim_ids, monotonic(), order.seconds))
                case _:
                    # The conductor is gone or gave up: nobody will read the answers.
                    os._exit(0)


class _Nail:
    """The source of one request over and over."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self.statuses: dict[int, int] = {}
        self.histogram = Histogram()

    def next_job(self, due: float) -> Job:
        """Return the request."""
        return Job(due, 0, self._payload)

    def settle(self, job: Job, status: int, _answer: bytes, now: float) -> None:
        """Count the answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.histogram.record(int((now - job.due) * 1e6))


async def _hammer(hammer: Hammer) -> Hammered:
    endpoint = ServiceEndpoint(hammer.url)
    path = "/" + hammer.url.split("://", 1)[1].partition("/")[2]
    head = f"{hammer.method} {path} HTTP/1.1\r\nHost: {endpoint.authority.decode()}\r\n"
    body = hammer.body.encode()
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    nail = _Nail(head.encode() + HEAD_END[2:] + body)
    engine = Engine(endpoint, hammer.connections, nail)
    await engine.open()
    cpu_before = cpu_seconds()
    try:
        if hammer.per_second:
            start_at = monotonic()
            dues = due_offsets([flat(hammer.seconds, hammer.per_second)], random.Random(1))
            await engine.play_open(dues, start_at, start_at + hammer.seconds)
        else:
            await engine.play_closed(hammer.seconds)
    finally:
        await engine.close()
    return Hammered(
        per_second=engine.answered_in_time / engine.played_seconds,
        statuses=nail.statuses,
        latencies=latencies(nail.histogram),
        generator_cpu_seconds=cpu_seconds() - cpu_before,
    )


def tell(report: Report) -> None:
    """Write one line to the conductor. The pipe is wide enough for what it reads ten times a second."""
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


async def _main() -> None:
    orders = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    await Generator(orders).run()


def main() -> None:
    """Run until told to quit."""
    try:
        import uvloop  # noqa: PLC0415 - a faster loop if there is one
    except ImportError:
        asyncio.run(_main())
    else:
        uvloop.run(_main())


if __name__ == "__main__":
    main()
