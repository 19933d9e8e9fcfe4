"""Before the sale: what the generator can do alone, and how much the service can take."""

from datetime import timedelta
from time import monotonic, time

from msgspec import Struct

from growth.load.arrivals import flat
from growth.load.conductor import GeneratorProcess, null_server
from growth.load.messages import Hammer, Play
from growth.load.recorder import Latencies
from growth.load.screen import Screen
from growth.load.service import SalePlan, Service
from growth.vocabulary import clock

ALONE_SECONDS = 1.5
TRIAL_SECONDS = 1.5
FIRST_TRIAL_PER_SECOND = 500.0
KNEE_P99_US = 100_000
"""A service that answers slower than this to one in a hundred has not kept up, whatever it answered in the end."""
BISECTIONS = 3
OF_ALONE = 0.8
"""Of what the generator can do alone it is asked for no more than this: it must not be what is measured."""
OPENS_IN_SECONDS = 1.0


class Alone(Struct, frozen=True):
    """What the generator does against a server that says 204: a lower bound, for that server is Python as well."""

    per_second: float
    """Closed loop."""
    cpu_us: float
    """The generator's CPU for one request."""


class Trial(Struct, frozen=True):
    """One step on the way to the knee."""

    per_second: float
    answered_per_second: float
    kept_up: bool
    p99_us: int


class Knee(Struct, frozen=True):
    """The highest rate that the service kept up with."""

    per_second: float
    trials: list[Trial]


async def measure_alone(generator: GeneratorProcess, connections: int, servers_core: int | None) -> Alone:
    """Measure what the generator can do against the null server."""
    async with null_server(servers_core) as url:
        found = await generator.hammer(Hammer(url=url, seconds=ALONE_SECONDS, connections=connections))
    return Alone(found.per_second, found.generator_cpu_seconds / max(found.latencies.count, 1) * 1e6)


async def measure_floor(
    generator: GeneratorProcess, connections: int, servers_core: int | None, per_second: float
) -> Latencies:
    """Measure the latencies of the null server at the rate of the sale."""
    async with null_server(servers_core) as url:
        found = await generator.hammer(
            Hammer(url=url, seconds=ALONE_SECONDS, connections=connections, per_second=per_second)
        )
    return found.latencies


async def open_sale(service: Service, plan: SalePlan) -> tuple[str, float]:
    """Make a sale that opens in a moment; returns its id and when it is open, in monotonic seconds."""
    opens_at = clock.now() + timedelta(seconds=OPENS_IN_SECONDS)
    sale_id = await service.make_sale(plan, opens_at)
    ahead, wrong_by = await service.clock_ahead(sale_id)
    return sale_id, monotonic() + (opens_at.timestamp() - ahead - time()) + wrong_by


async def find_knee(service: Service, generator: GeneratorProcess, run_id: str, ceiling: float, screen: Screen) -> Knee:
    """Double the rate until the service does not keep up, then halve the difference a few times."""
    plan = SalePlan(title="Calibration", sku=f"{run_id}-calibration", units_total=1)
    sale_id, opens_at = await open_sale(service, plan)
    trials: list[Trial] = []
    good, bad, rate = 0.0, 0.0, min(FIRST_TRIAL_PER_SECOND, ceiling)
    while True:
        screen.stage(f"Calibrating: {rate:,.0f} requests a second …")
        trial = await _try(generator, sale_id, opens_at, rate)
        trials.append(trial)
        if trial.kept_up:
            good = rate
        else:
            bad = rate
        if (good and bad and len(trials) >= _doublings(trials) + BISECTIONS) or good >= ceiling:
            break
        if bad and bad <= FIRST_TRIAL_PER_SECOND / 16:
            break
        rate = (good + bad) / 2 if bad else min(rate * 2, ceiling)
    await service.end_sale(sale_id)
    return Knee(good or rate, trials)


def _doublings(trials: list[Trial]) -> int:
    """Return how many trials it took until the first that failed."""
    return next((number for number, trial in enumerate(trials, 1) if not trial.kept_up), len(trials))


async def _try(generator: GeneratorProcess, sale_id: str, opens_at: float, rate: float) -> Trial:
    played = await generator.play_through(
        Play(
            sale_id=sale_id,
            units_total=1,
            max_per_shopper=1,
            opens_at=opens_at,
            start_at=max(opens_at, monotonic() + 0.1),
            stretches=[flat(TRIAL_SECONDS, rate)],
            give_up=True,
        )
    )
    p99_us = played.recording.all.p99_us
    return Trial(rate, played.answered_in_time / played.seconds, played.kept_up and p99_us <= KNEE_P99_US, p99_us)
