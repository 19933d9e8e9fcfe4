"""A staircase of rates around the knee: what latency does before, at and past what the service can take."""

from time import monotonic

from growth.load.arrivals import flat
from growth.load.calibrate import open_sale
from growth.load.conductor import GeneratorProcess
from growth.load.messages import Play
from growth.load.processes import Processes, used_between
from growth.load.report import RateStep, SpikeOptions
from growth.load.screen import Screen
from growth.load.service import SalePlan, Service

SHARES = (0.25, 0.5, 0.75, 1.0, 1.25)


async def climb(
    service: Service,
    generator: GeneratorProcess,
    processes: Processes,
    options: SpikeOptions,
    knee_per_second: float,
    run_id: str,
    screen: Screen,
) -> list[RateStep]:
    """Play a sale of its own at each rate, from its opening on. A step ends as soon as the service falls behind."""
    steps = []
    for share in SHARES:
        rate = knee_per_second * share
        screen.stage(f"{share:.0%} of the knee: {rate:,.0f} requests a second …")
        plan = SalePlan(
            title="Load",
            sku=f"{run_id}-{share * 100:.0f}",
            units_total=options.units,
            max_per_shopper=options.max_per_shopper,
        )
        sale_id, opens_at = await open_sale(service, plan)
        play = Play(
            sale_id=sale_id,
            units_total=options.units,
            max_per_shopper=options.max_per_shopper,
            opens_at=opens_at,
            start_at=max(opens_at, monotonic() + 0.1),
            stretches=[flat(options.step_seconds, rate)],
            give_up=True,
        )
        before = processes.sample()
        played = await generator.play_through(play)
        after = processes.sample()
        used = used_between([before, after], before.at, after.at)
        recording = played.recording
        steps.append(
            RateStep(
                share_of_knee=share,
                offered_per_second=rate,
                answered_per_second=played.answered_in_time / played.seconds,
                kept_up=played.kept_up,
                all=recording.all,
                outcomes=recording.outcomes,
                milliseconds={name: seconds * 1e6 / max(played.answered, 1) for name, seconds in used.items()},
            )
        )
        await service.end_sale(sale_id)
    return steps
