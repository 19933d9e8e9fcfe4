"""Plays a scene open loop: requests are due on a schedule, and latency counts from when they were."""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from time import monotonic

import msgspec
from msgspec import Struct

from growth.load.arrivals import due_offsets, flat
from growth.load.engine import KEPT_UP, Engine
from growth.load.histogram import Histogram, percentile_of
from growth.load.http_client import HEAD_END, Job, ServiceEndpoint
from growth.load.laws import Law
from growth.load.processes import Processes
from growth.load.scene.mixes import Scene, SceneRequest
from growth.load.service import Service, ServiceTarget
from growth.load.tokens import shopper_token
from growth.vocabulary import clock

BUG, SHED = 500, 503
SETTLE_SECONDS = 1.0
SAMPLE_SECONDS = 5.0
MAX_GROWTH = 1.10
"""Memory at the end beside that a third of the way in: more has no end in sight."""
FEW_SAMPLES = 12
"""Below that many, a trend is noise."""
MAX_SHED_SHARE = 0.001


class Figures(Struct, kw_only=True):
    """Answers of one kind."""

    kind: str
    count: int
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    max_us: int
    statuses: dict[str, int]


class Sample(Struct, frozen=True):
    """What the service's processes held at one moment."""

    at: float
    """Seconds since the start."""
    resident_kib: dict[str, int]
    descriptors: dict[str, int]
    """Open files, which connections are."""


class SceneReport(Struct, kw_only=True):
    """A scene as it was played."""

    name: str
    rate: float
    seconds: float
    offered: int
    answered_per_second: float
    figures: list[Figures]
    cpu_us_a_request: dict[str, float]
    samples: list[Sample]
    laws: list[Law]


class _SceneJob(Job):
    __slots__ = ("asked",)

    def __init__(self, due: float, payload: bytes, asked: SceneRequest) -> None:
        super().__init__(due, 0, payload, asked.shopper)
        self.asked = asked


class _Crowd:
    """Makes the requests of a mix, and keeps what came of them."""

    def __init__(self, target: ServiceTarget, mix: Scene, shoppers: int, seed: int) -> None:
        self._target = target
        self._endpoint = ServiceEndpoint(target.base_url)
        self._mix = mix
        self._shoppers = shoppers
        self._dice = random.Random(seed)
        self._tokens: dict[int, bytes] = {}
        self._run = f"load{seed}"
        self.latencies: dict[str, Histogram] = {}
        self.statuses: dict[str, Counter[str]] = {}

    def sign(self, count: int) -> None:
        """Sign tokens ahead, so that signing is no part of what is measured."""
        for shopper in range(count):
            self._token(shopper)

    def _token(self, shopper: int) -> bytes:
        token = self._tokens.get(shopper)
        if token is None:
            told = self._target
            name = f"{self._run}.{shopper}"
            token = shopper_token(told.jwt_secret, name, clock.now(), told.jwt_issuer, told.jwt_audience)
            self._tokens[shopper] = token
        return token

    def next_job(self, due: float) -> Job:
        """Return the request that is due."""
        asked = self._mix.ask(self._dice, self._dice.randrange(self._shoppers))
        lines = [
            f"{asked.method} {self._endpoint.prefix.decode()}{asked.path} HTTP/1.1".encode(),
            b"Host: " + self._endpoint.authority,
            b"Authorization: Bearer " + self._token(asked.shopper),
        ]
        if asked.key:
            lines.append(f"Idempotency-Key: {asked.key}".encode())
        if asked.body:
            lines.append(b"Content-Type: application/json")
        if asked.method != "GET":
            lines.append(b"Content-Length: %d" % len(asked.body))
        return _SceneJob(due, b"\r\n".join(lines) + HEAD_END + asked.body, asked)

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:
        """Take an answer."""
        assert isinstance(job, _SceneJob)
        asked = job.asked
        self.latencies.setdefault(asked.kind, Histogram()).record(int((now - job.due) * 1e6))
        body = answer.partition(HEAD_END)[2]
        name = str(status) if status else f"no answer: {answer.decode(errors='replace')}"
        self.statuses.setdefault(asked.kind, Counter())[name] += 1
        if status:
            self._mix.hear(asked, status, body)

    def figures(self) -> list[Figures]:
        """Return what came of each kind of request."""
        told = []
        for kind, seen in sorted(self.latencies.items()):
            counts = [(bucket, count) for bucket, count in enumerate(seen.counts) if count]
            p50, p90, p99, p999 = (percentile_of(counts, seen.total, percent) for percent in (50, 90, 99, 99.9))
            told.append(
                Figures(
                    kind=kind,
                    count=seen.total,
                    p50_us=p50,
                    p90_us=p90,
                    p99_us=p99,
                    p999_us=p999,
                    max_us=seen.maximum_us,
                    statuses=dict(self.statuses[kind]),
                )
            )
        return told


async def play(
    target: ServiceTarget,
    name: str,
    mix: Scene,
    *,
    rate: float,
    seconds: float,
    shoppers: int,
    connections: int,
    seed: int,
) -> SceneReport:
    """Play `mix` for `seconds` at `rate` requests a second; judge it."""
    async with Service(target) as service:
        await service.reach()
        await mix.prepare(service)
        crowd = _Crowd(target, mix, shoppers, seed)
        crowd.sign(min(shoppers, int(rate * seconds) + 1))
        engine = Engine(ServiceEndpoint(target.base_url), connections, crowd)
        processes = Processes(target.pids)
        await engine.open()
        # Its own pauses are not to be charged to the service.
        gc.collect()
        gc.freeze()
        samples: list[Sample] = []
        start = monotonic() + SETTLE_SECONDS
        watcher = asyncio.create_task(_watch(processes, samples, start), name="load:watch")
        before = processes.sample()
        try:
            kept_up = await engine.play_open(
                due_offsets([flat(seconds, rate)], random.Random(seed)), start, start + seconds
            )
        finally:
            watcher.cancel()
            gc.unfreeze()
            await engine.close()
        after = processes.sample()
        asked = max(engine.answered_count, 1)
        report = SceneReport(
            name=name,
            rate=rate,
            seconds=seconds,
            offered=engine.offered,
            answered_per_second=engine.answered_in_time / max(engine.played_seconds, 0.001),
            figures=crowd.figures(),
            cpu_us_a_request={
                who: (used - before.seconds.get(who, 0.0)) * 1e6 / asked for who, used in after.seconds.items()
            },
            samples=samples,
            laws=[],
        )
        report.laws = [*_common_laws(report, kept_up=kept_up), *mix.laws(), await _invariants(service), *_flat(samples)]
        return report


def _common_laws(report: SceneReport, *, kept_up: bool) -> list[Law]:
    totals: Counter[str] = Counter()
    for figures in report.figures:
        totals.update(figures.statuses)
    silent = sum(count for status, count in totals.items() if status.startswith("no answer"))
    shed = totals.get(str(SHED), 0)
    answered = sum(totals.values())
    return [
        Law("Every request has an answer", silent == 0, f"{answered - silent:,} of {answered:,}"),
        Law("Nobody met a bug", totals.get(str(BUG), 0) == 0, f"{totals.get(str(BUG), 0)} answers 500"),
        Law("Next to nobody was turned away", shed <= answered * MAX_SHED_SHARE, f"{shed:,} answers 503"),
        Law(
            f"The service kept up: {KEPT_UP:.0%} of what was due was answered in time",
            kept_up,
            f"{report.answered_per_second:,.0f}/s of {report.rate:,.0f}/s",
            about_measuring=True,
        ),
    ]


async def _invariants(service: Service) -> Law:
    found = await service.invariants()
    if found is None:
        return Law("Everything that must always hold does", None, "the service cannot be asked")
    told = ", ".join(violation.name for violation in found.violations) or f"{found.checked} sentences"
    return Law("Everything that must always hold does", not found.violations, told)


def _flat(samples: Sequence[Sample]) -> list[Law]:
    """Judge memory and connections, where it was long enough to tell."""
    if len(samples) < FEW_SAMPLES:
        return []
    early, late = samples[len(samples) // 3], samples[-1]
    memory = {
        name: f"{early.resident_kib[name] // 1024} → {kib // 1024} MiB"
        for name, kib in late.resident_kib.items()
        if name in early.resident_kib
    }
    grown = [
        name
        for name, kib in late.resident_kib.items()
        if name in {"server", "worker"} and kib > early.resident_kib.get(name, kib) * MAX_GROWTH
    ]
    rising = [
        name
        for name in late.descriptors
        if name in {"server", "worker"}
        and all(b.descriptors.get(name, 0) > a.descriptors.get(name, 0) for a, b in pairwise(samples[-FEW_SAMPLES:]))
    ]
    return [
        Law("Memory is flat", not grown, ", ".join(f"{name} {told}" for name, told in memory.items())),
        Law("Connections are flat", not rising, str({name: late.descriptors[name] for name in late.descriptors})),
    ]


async def _watch(processes: Processes, samples: list[Sample], start: float) -> None:
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        samples.append(_sample(processes, start))


def _sample(processes: Processes, start: float) -> Sample:
    resident: dict[str, int] = {}
    descriptors: dict[str, int] = {}
    for name, pids in processes.families().items():
        resident[name] = sum(_resident_kib(pid) for pid in pids)
        descriptors[name] = sum(_descriptors(pid) for pid in pids)
    return Sample(monotonic() - start, resident, descriptors)


def _resident_kib(pid: int) -> int:
    """Return the memory that a process has to itself; see proc_pid_smaps(5)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def _descriptors(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def encoded(report: SceneReport) -> bytes:
    """Return the report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report))
