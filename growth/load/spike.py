"""A sale from before its opening to its second sell-out, under load: played, measured, judged."""

import asyncio
import os
import platform
import random
import secrets
from datetime import timedelta
from time import monotonic, time

from growth.load import calibrate, steps
from growth.load.arrivals import Stretch, flat, total_seconds
from growth.load.conductor import GeneratorProcess, LoadError
from growth.load.laws import Evidence, judge
from growth.load.messages import Play, Played, Ready, Setup, Shares
from growth.load.plot import RAMP_SECONDS, Plot
from growth.load.processes import CpuSample, Processes, available, cores, generators_core, others_cores, used_between
from growth.load.recorder import Latencies
from growth.load.report import Machine, Phase, PhaseCpu, SpikeOptions, SpikeReport
from growth.load.screen import Screen
from growth.load.service import ClaimSeen, SalePlan, Service, ServiceStats, ServiceTarget
from growth.vocabulary import clock

BEFORE_SHARE = 0.25
"""Of the full rate, before the opening."""
LULL_SECONDS = 0.2
"""Everybody holds their breath just before the opening, so that the rate really rises from nothing."""
RATE_OF_KNEE = 0.75
"""Of the knee, if no rate is given: latencies at the knee are those of a queue, not of a service."""
PREPARING_SECONDS = 1.5
"""From making the sale to the first request."""
CPU_EVERY_SECONDS = 0.5
CPU_PHASE_SECONDS = 1.0
"""CPU times come in steps of 10 ms: phases shorter than this are not told apart."""
STRAGGLING_SECONDS = 0.3
"""Answers that come later than this after the end of the schedule are a phase of their own."""
MAX_CLAIMS_LOOKED_UP = 500
LOOKED_UP_AT_ONCE = 16
BOOKS_SECONDS = 5.0
"""How long the service's books may take to say what its answers said."""
RELEASE_HOLD_SECONDS, LAPSE_HOLD_SECONDS = 1800, 30


async def spike(target: ServiceTarget, options: SpikeOptions, screen: Screen) -> SpikeReport:
    """Play a sale against `target`; raises LoadError if that cannot be done."""
    run_id = f"load-{secrets.token_hex(4)}"
    async with Service(target) as service, GeneratorProcess() as generator:
        await service.reach()
        processes = Processes(target.pids)
        core = generators_core()
        if options.pin_service and core is not None:
            processes.pin(set(cores()) - {core})
        processes.add("generator", generator.pid)
        screen.stage("The crowd gathers: signing tokens, measuring the generator alone …")
        setup = Setup(
            base_url=target.base_url,
            jwt_secret=target.jwt_secret,
            jwt_issuer=target.jwt_issuer,
            jwt_audience=target.jwt_audience,
            shoppers=options.shoppers,
            connections=options.connections,
            run_id=run_id,
            seed=options.seed,
            core=core,
        )
        ready = await generator.set_up(setup)
        servers_core = None if core is None else cores()[0]
        alone = await calibrate.measure_alone(generator, options.connections, servers_core)
        knee = None
        if options.rate is None or options.steps:
            ceiling = alone.per_second * calibrate.OF_ALONE
            knee = await calibrate.find_knee(service, generator, run_id, ceiling, screen)
        rate = options.rate or (knee.per_second * RATE_OF_KNEE if knee else 0.0)
        floor = await calibrate.measure_floor(generator, options.connections, servers_core, rate)
        run = _Run(service, generator, processes, options, rate, run_id, screen)
        report = await run.play(ready, alone, floor, knee)
        if knee is not None and options.steps:
            report.steps = await steps.climb(service, generator, processes, options, knee.per_second, run_id, screen)
        return report


class _Run:
    """One sale, from making it to its books."""

    def __init__(
        self,
        service: Service,
        generator: GeneratorProcess,
        processes: Processes,
        options: SpikeOptions,
        rate: float,
        run_id: str,
        screen: Screen,
    ) -> None:
        self._service = service
        self._generator = generator
        self._processes = processes
        self._options = options
        self._rate = rate
        self._screen = screen
        self._sku = f"{run_id}-sale"

    async def play(
        self, ready: Ready, alone: calibrate.Alone, floor: Latencies, knee: calibrate.Knee | None
    ) -> SpikeReport:
        self._screen.stage("Making the sale …")
        play = await self._make()
        plot = Plot(self._service, self._generator, play, self._options, self._sku)
        played, samples = await self._follow(play, plot)
        end = play.start_at + total_seconds(play.stretches)
        phases = plot.phases(end)
        timeline = played.recording.timeline
        over = len(timeline.offered) * timeline.slot_seconds
        if over > phases[-1].end + STRAGGLING_SECONDS:
            phases.append(Phase("the last answers", phases[-1].end, over))
        self._screen.stage("Comparing books …")
        evidence = await self._evidence(play, played, plot)
        await self._service.end_sale(play.sale_id)
        start = play.start_at
        return SpikeReport(
            made_at=clock.now(),
            options=self._options,
            machine=_machine(ready),
            base_url=self._service.target.base_url,
            rate=self._rate,
            alone=alone,
            floor=floor,
            knee=knee,
            mix=play.mix,
            phases=phases,
            opens_at=play.opens_at - start,
            sold_out_at=_since(plot.sold_out_at, start),
            returned_at=_since(plot.returned_at, start),
            sold_out_again_at=_since(plot.sold_out_again_at, start),
            offered=played.offered,
            answered=played.answered,
            wins=len(played.wins),
            released=sum(win.released for win in played.wins),
            paid=len(plot.paid),
            recording=played.recording,
            others_cores=others_cores(samples),
            cpu=_cpu(phases, played, samples, start),
            laws=judge(evidence),
        )

    async def _make(self) -> Play:
        """Make the sale; returns what the generator shall play before it, with clocks compared."""
        options = self._options
        opens_at = clock.now() + timedelta(seconds=options.before_seconds + PREPARING_SECONDS)
        plan = SalePlan(
            title="Load",
            sku=self._sku,
            units_total=options.units,
            max_per_shopper=options.max_per_shopper,
            hold_seconds=RELEASE_HOLD_SECONDS if options.let_go == "release" else LAPSE_HOLD_SECONDS,
        )
        sale_id = await self._service.make_sale(plan, opens_at)
        ahead, wrong_by = await self._service.clock_ahead(sale_id)
        opens = monotonic() + (opens_at.timestamp() - ahead - time())
        start_at = opens - options.before_seconds
        if start_at < monotonic():
            raise LoadError("Making the sale took too long for it to open on time: is the service overloaded already?")
        return Play(
            sale_id=sale_id,
            units_total=options.units,
            max_per_shopper=options.max_per_shopper,
            opens_at=opens,
            early_by=wrong_by,
            start_at=start_at,
            stretches=[
                flat(options.before_seconds - LULL_SECONDS, self._rate * BEFORE_SHARE),
                flat(LULL_SECONDS, 0.0),
                Stretch(RAMP_SECONDS, 0.0, self._rate),
                flat(options.seconds - RAMP_SECONDS, self._rate),
            ],
            lapse_seconds=LAPSE_HOLD_SECONDS if options.let_go == "lapse" else 0.0,
            mix=Shares(),
        )

    async def _follow(self, play: Play, plot: Plot) -> tuple[Played, list[CpuSample]]:
        samples: list[CpuSample] = []
        watcher = asyncio.create_task(_watch(self._processes, samples), name="load:cpu")
        seconds = total_seconds(play.stretches)
        played = None
        try:
            async for report in self._generator.play(play):
                if isinstance(report, Played):
                    played = report
                else:
                    await plot.follow(report)
                    self._screen.progress(plot.phase(max(report.at, play.start_at)), report, seconds, play.start_at)
            await plot.finish()
        finally:
            watcher.cancel()
        samples.append(self._processes.sample())
        assert played is not None
        return played, samples

    async def _evidence(self, play: Play, played: Played, plot: Plot) -> Evidence:
        dice = random.Random(self._options.seed)
        looked_up = dice.sample(played.wins, min(len(played.wins), MAX_CLAIMS_LOOKED_UP))
        seen: dict[str, ClaimSeen | None] = {}
        for first in range(0, len(looked_up), LOOKED_UP_AT_ONCE):
            some = looked_up[first : first + LOOKED_UP_AT_ONCE]
            found = await asyncio.gather(*(self._service.claim(win) for win in some))
            seen.update(zip((win.claim_id for win in some), found, strict=True))
        return Evidence(
            play=play,
            played=played,
            paid_claims=plot.paid,
            unapplied=plot.unapplied,
            seen=seen,
            stats=await self._settled_stats(play),
            invariants=await self._service.invariants(),
        )

    async def _settled_stats(self, play: Play) -> ServiceStats | None:
        """Return the service's figures once they say what they should, or those of `BOOKS_SECONDS` later."""
        until = monotonic() + BOOKS_SECONDS
        while True:
            stats = await self._service.stats(play.sale_id)
            if stats is None or monotonic() > until:
                return stats
            if (stats.taken or 0) >= play.units_total and stats.stores_agree is not False:
                return stats
            await asyncio.sleep(0.25)


async def _watch(processes: Processes, samples: list[CpuSample]) -> None:
    while True:
        samples.append(processes.sample())
        await asyncio.sleep(CPU_EVERY_SECONDS)


def _since(at: float | None, start: float) -> float | None:
    return None if at is None else at - start


def _cpu(phases: list[Phase], played: Played, samples: list[CpuSample], start: float) -> list[PhaseCpu]:
    """Return who paid for the whole of it, and for each phase that is long enough to tell."""
    if not available():
        return []
    timeline = played.recording.timeline
    spans = [phase for phase in phases if phase.end - phase.begin >= CPU_PHASE_SECONDS]
    costs = []
    for phase in [Phase("the whole sale", 0.0, phases[-1].end), *spans]:
        first, last = round(phase.begin / timeline.slot_seconds), round(phase.end / timeline.slot_seconds)
        requests = sum(sum(came[first:last]) for came in timeline.outcomes.values())
        used = used_between(samples, start + phase.begin, start + phase.end)
        if requests:
            per_thousand = {name: seconds * 1e6 / requests for name, seconds in used.items()}
            costs.append(PhaseCpu(phase.name, requests, per_thousand))
    return costs


def _machine(ready: Ready) -> Machine:
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a page of the kernel, not a file
            processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return Machine(
        processor,
        os.cpu_count() or 1,
        f"{platform.system()} {platform.release()}",
        platform.python_version(),
        ready.core,
        ready.loop,
    )
