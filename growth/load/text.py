"""What each plot shows, in words made from the figures: the page is read before it is looked at."""

from growth.load.formatting import counted, duration, milliseconds
from growth.load.recorder import Latencies
from growth.load.report import RateStep, SpikeReport

BACKWARDS_SECONDS = 0.5


def headline(report: SpikeReport) -> str:
    """Say how it went."""
    if report.broken:
        return f"{counted(len(report.broken), 'law')} broken: {report.broken[0].sentence} — it did not."
    units = counted(report.options.units, "unit")
    sold = report.seconds_to_sell_out
    story = f"{units} sold out in {duration(sold)}" if sold is not None else f"{units} on sale, not sold out"
    if not report.is_measured:
        return f"{story}, and every law held. But the service did not keep up with the crowd."
    return f"{story}, and every law held."


def rates(report: SpikeReport) -> str:
    """Say what was offered and what was answered."""
    after = _after_opening(report)
    kept = report.answered / max(report.offered, 1)
    return (
        f"The line is what the crowd asked for, on a schedule that waits for nobody; the area is what the service "
        f"answered. The crowd went from nothing to {report.rate:,.0f} requests a second within half a second of the "
        f"opening. {report.answered:,} of {report.offered:,} requests were answered ({kept:.2%}), "
        f"{after:,.0f} a second from the opening on. Where the line leaves the area, people were waiting."
    )


def _after_opening(report: SpikeReport) -> float:
    timeline = report.recording.timeline
    first = round(report.opens_at / timeline.slot_seconds)
    came = [sum(values[first:]) for values in timeline.outcomes.values()]
    return sum(came) / max(report.phases[-1].end - report.opens_at, 0.001)


def outcomes(report: SpikeReport) -> str:
    """Say what came of it."""
    told = []
    if report.seconds_to_sell_out is not None:
        told.append(f"The last unit was won {duration(report.seconds_to_sell_out)} after the opening.")
    else:
        told.append("The sale did not sell out in this time.")
    if report.returned_at is not None and report.sold_out_again_at is not None:
        again = duration(report.sold_out_again_at - report.returned_at)
        how = "given back" if report.options.let_go == "release" else "not paid in time"
        told.append(f"Later units {how} were on sale once more, and gone {again} after the first of them came back.")
    told.append(
        f"In all {counted(report.wins, 'claim')} won, {report.released:,} given back, {report.paid:,} paid. Wins are "
        f"few among so many answers: look for them right at the opening."
    )
    return " ".join(told)


def by_outcome(report: SpikeReport) -> str:
    """Say how quick each kind of answer was."""
    found = report.recording.outcomes
    told = [
        f"{name.replace('_', ' ')}: half within {milliseconds(o.p50_us)} ms, "
        f"99 of 100 within {milliseconds(o.p99_us)} ms"
        for name in ("won", "sold_out", "page")
        if (o := found.get(name))
    ]
    return (
        "Latency counts from the moment a request was due, so a stall is charged to everybody who came meanwhile. "
        "Dots, from large to small: p50, p90, p99, p99.9; the bar at the end is the slowest of all. "
        + "; ".join(told).capitalize()
        + "."
    )


def over_time(report: SpikeReport) -> str:
    """Say when it was slow."""
    timeline = report.recording.timeline
    worst = max(range(len(timeline.p99_us)), key=timeline.p99_us.__getitem__, default=0)
    at = worst * timeline.slot_seconds - report.opens_at
    where = (
        "at the opening"
        if abs(at) < BACKWARDS_SECONDS
        else f"{abs(at):.1f} s {'after' if at > 0 else 'before'} the opening"
    )
    floor = report.floor
    return (
        f"Each point is what people who came in that tenth of a second had to wait. The worst was {where}: "
        f"p99 {milliseconds(timeline.p99_us[worst])} ms. The generator itself, against a server that does nothing, has "
        f"p50 {milliseconds(floor.p50_us)} ms and p99 {milliseconds(floor.p99_us)} ms at "
        f"{report.rate:,.0f} requests a second: nothing below that can be seen here."
    )


def cpu(report: SpikeReport) -> str:
    """Say who paid."""
    whole = report.cpu[0].milliseconds
    server = whole.get("server")
    begin = f"The server's process spent {server:.0f} µs of CPU on a request. " if server is not None else ""
    return (
        f"{begin}Each bar is the CPU time of all processes for 1,000 requests, so 1 ms here is 1 µs a request. "
        "The generator is part of the picture only to show that it was not the bottleneck. Everything else on this "
        f"machine, the kernel's network included, kept {report.others_cores:.2f} of {report.machine.cores} cores busy."
    )


def staircase(steps: list[RateStep]) -> str:
    """Say where it bends."""
    fell = [step for step in steps if not step.kept_up]
    end = (
        f"At {fell[0].share_of_knee:.0%} the service fell behind; the step was ended there and its dots are hollow."
        if fell
        else "The service kept up at every step."
    )
    return f"Rates in per cent of the knee, the highest rate the service kept up with in the calibration. {end}"


def laws(report: SpikeReport) -> str:
    """Say what was judged."""
    untold = sum(law.held is None for law in report.laws)
    more = f" {counted(untold, 'law')} could not be judged, for the service does not tell." if untold else ""
    return f"Judged after the run from the generator's own record of answers, then from the service's books.{more}"


def setup(report: SpikeReport) -> str:
    """Say how it was measured."""
    options, machine, alone = report.options, report.machine, report.alone
    core = "no core of its own" if machine.generators_core is None else f"core {machine.generators_core} for itself"
    knee = (
        f" The rate is {report.rate / report.knee.per_second:.0%} of the knee, {report.knee.per_second:,.0f} a second,"
        f" found in {len(report.knee.trials)} trials."
        if report.knee
        else ""
    )
    return (
        f"{machine.processor}, {counted(machine.cores, 'core')}, {machine.system}, Python {machine.python}. "
        f"The generator is one process with {core} and {options.connections} connections; alone, against a server that "
        f"answers 204, it does {alone.per_second:,.0f} requests a second. {options.shoppers:,} shoppers with a token "
        f"each; of the requests after the opening {report.mix.page:.0%} poll the page, {report.mix.retry:.1%} repeat a "
        f"claim with its key, {report.mix.over_limit:.0%} want more than the limit, "
        f"{report.mix.bad_token:.0%} have bad tokens.{knee} Seed {options.seed}."
    )


def slowest(found: dict[str, Latencies], name: str) -> str:
    """Return the p99 of an outcome, or a dash."""
    return f"{milliseconds(found[name].p99_us)} ms" if name in found else "—"
