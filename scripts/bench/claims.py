"""What a claim costs, beside the least that the same server can do. Ratios, with their spread."""

import asyncio
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
import rich_click as click
from msgspec import Struct, field
from rich.console import Console
from rich.table import Table

from growth.load.calibrate import Alone, measure_alone
from growth.load.conductor import GeneratorProcess, LoadError
from growth.load.formatting import short
from growth.load.service import Service
from scripts.bench.claim_cases import CONNECTIONS, Ceiling, ClaimBench, HolderGrowth, HolderWindow, RoundSales
from scripts.bench.hot_row import HotRow
from scripts.bench.stack import Stack, running_stack

MORE_SHOPPERS = 1.3
"""Than holders: the last window goes past the mark."""
GOALS = (
    ("won", "bare Litestar POST", 1.6),
    ("won", "bare ASGI POST", 0.0),
    ("sold out", "bare ASGI POST", 0.6),
    ("not open", "bare ASGI POST", 0.6),
    ("page", "bare ASGI GET", 0.5),
)
"""What is measured, beside what, and the ratio of requests a second to reach."""
BUSY_CORES = 0.4
STORES = ("server", "worker", "redis", "postgres")
FILE_WIDTH = 140
"""Characters in a line when nobody looks on."""
WON_CPU_US, HOT_ROW_RATIO, READY_SECONDS, SERVER_MIB, FLAT = 75.0, 20.0, 3.0, 150.0, 1.15


class Spread(Struct, frozen=True):
    """Median, least and most of several runs."""

    middle: float
    least: float
    most: float

    def shown(self, digits: int) -> str:
        """Return `1.72 (1.70 to 1.75)`."""
        return f"{self.middle:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


class BenchResults(Struct, kw_only=True):
    """All that was measured."""

    alone: Alone
    ready_seconds: float
    rounds: list[dict[str, Ceiling]]
    each_alone: list[float]
    together: list[float]
    growth: list[HolderGrowth] = field(default_factory=list)


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(median(values), min(values), max(values))


async def bench(runs: int, seconds: float, holders: int, console: Console) -> BenchResults:
    """Start everything, measure, end everything."""
    async with running_stack() as stack, Service(stack.target) as service:
        servers_core, generators_core = stack.pin()
        run_id = f"bench-{secrets.token_hex(3)}"
        async with GeneratorProcess() as generator:
            measured = ClaimBench(stack, service, generator, run_id)
            await measured.set_up(generators_core)
            alone = await measure_alone(generator, CONNECTIONS, servers_core)
            rounds = await _rounds(measured, runs, seconds, console)
        results = BenchResults(
            alone=alone, ready_seconds=stack.ready_seconds, rounds=rounds, each_alone=[], together=[]
        )
        async with HotRow(stack.postgres_dsn) as row:
            for number in range(runs):
                console.print(f"Hot row, {number + 1} of {runs} …")
                results.each_alone.append(await row.each_alone(seconds))
                results.together.append(await row.together(seconds))
        if holders:
            results.growth = await _growth(stack, service, generators_core, run_id, holders, runs, console)
        return results


async def _rounds(measured: ClaimBench, runs: int, seconds: float, console: Console) -> list[dict[str, Ceiling]]:
    sold_out = await measured.make(1)
    not_open = await measured.make(1, open_now=False)
    console.print("Warming up …")
    await measured.warm_up(RoundSales("", sold_out, not_open))
    rounds = []
    for number in range(runs):
        console.print(f"Round {number + 1} of {runs} …")
        won = await measured.make(1_000_000)
        rounds.append(await measured.round(RoundSales(won, sold_out, not_open), seconds))
        # A sale that is over must not cost those that follow.
        await measured.end(won)
    return rounds


async def _growth(
    stack: Stack, service: Service, core: int | None, run_id: str, holders: int, runs: int, console: Console
) -> list[HolderGrowth]:
    found = []
    async with GeneratorProcess() as generator:
        measured = ClaimBench(stack, service, generator, f"{run_id}-g")
        # A claim in a long window must never meet a shopper who has one.
        await measured.set_up(core, round(holders * MORE_SHOPPERS) + 50_000)
        # A million holders take minutes: once is enough, for each window is a figure of its own.
        for number in range(runs if holders <= 100_000 else 1):  # noqa: PLR2004
            console.print(f"Growing to {holders:,} holders, {number + 1} …")
            found.append(await measured.growth(holders))
    return found


def print_results(console: Console, results: BenchResults) -> bool:
    """Print everything; return whether all goals were reached."""
    reached = [*_print_ratios(console, results), *_print_singles(console, results)]
    _print_others(console, results)
    _print_cpu(console, results)
    if results.growth:
        reached.append(_print_growth(console, results.growth))
    return all(reached)


def _verdict(*, reached: bool) -> str:
    return "[green]reached[/green]" if reached else "[red]missed[/red]"


def _print_ratios(console: Console, results: BenchResults) -> list[bool]:
    table = Table(title="Closed loop, requests a second on one core of the server", title_justify="left")
    for column in ("measured", "a second", "beside", "a second", "ratio", "goal", "", "ratio by CPU"):
        table.add_column(column, justify="left" if column in {"measured", "beside", ""} else "right")
    reached = []
    for name, beside, goal in GOALS:
        ours = spread([found[name].per_second for found in results.rounds])
        theirs = spread([found[beside].per_second for found in results.rounds])
        ratio = spread([found[name].per_second / found[beside].per_second for found in results.rounds])
        good = ratio.middle >= goal
        by_cpu = spread([found[beside].cpu_us["server"] / found[name].cpu_us["server"] for found in results.rounds])
        row = (name, short(ours.middle), beside, short(theirs.middle), ratio.shown(2), f"{goal:g}" if goal else "")
        table.add_row(*row, _verdict(reached=good) if goal else "", by_cpu.shown(2))
        reached.append(good)
    console.print(table)
    return reached


def _print_others(console: Console, results: BenchResults) -> None:
    """Say whether the machine had other things to do."""
    others = spread([ceiling.others_cores for found in results.rounds for ceiling in found.values()])
    console.print(f"Everything else on the machine kept {others.shown(2)} cores busy, the kernel's network included.")
    if others.middle > BUSY_CORES:
        console.print("[yellow]That is a lot: rates have been taken from us, so look at the ratios by CPU.[/yellow]")


def _print_singles(console: Console, results: BenchResults) -> list[bool]:
    cpu = spread([found["won"].cpu_us["server"] for found in results.rounds])
    hot = spread([many / one for one, many in zip(results.each_alone, results.together, strict=True)])
    lines = (
        (f"server CPU of a claim won: {cpu.shown(0)} µs", f"≤ {WON_CPU_US:g}", cpu.middle <= WON_CPU_US),
        (
            (
                f"hot row, coalesced beside a transaction for each: {hot.shown(1)} times "
                f"({short(median(results.together))} and {short(median(results.each_alone))} claims a second)"
            ),
            f"≥ {HOT_ROW_RATIO:g}",
            hot.middle >= HOT_ROW_RATIO,
        ),
        (
            f"ready {results.ready_seconds:.2f} s after start",
            f"≤ {READY_SECONDS:g}",
            results.ready_seconds <= READY_SECONDS,
        ),
    )
    for text, goal, good in lines:
        console.print(f"{text}; goal {goal}: {_verdict(reached=good)}")
    return [good for _, _, good in lines]


def _print_cpu(console: Console, results: BenchResults) -> None:
    table = Table(title="CPU µs a request, by process", title_justify="left")
    names = list(dict.fromkeys(name for found in results.rounds[0].values() for name in found.cpu_us))
    for column in ("", *names, "p50 ms", "p99 ms"):
        table.add_column(column, justify="right" if column else "left")
    for case in results.rounds[0]:
        runs = [found[case] for found in results.rounds]
        cells = [_cpu_cell(runs, name) for name in names]
        latency = [f"{median(us) / 1000:.1f}" for us in ([r.p50_us for r in runs], [r.p99_us for r in runs])]
        table.add_row(case, *cells, *latency)
    console.print(table)
    console.print(
        f"The generator alone, against a server that says 204: {results.alone.per_second:,.0f} requests a second, "
        f"{results.alone.cpu_us:.1f} µs each.",
    )


def _cpu_cell(runs: Sequence[Ceiling], name: str) -> str:
    return spread([run.cpu_us[name] for run in runs]).shown(0) if name in runs[0].cpu_us else ""


def _print_growth(console: Console, growths: Sequence[HolderGrowth]) -> bool:
    table = Table(title="A claim as holders grow, CPU µs", title_justify="left")
    for column in ("holders", "a second", *STORES, "all"):
        table.add_column(column, justify="right")
    for growth in growths:
        for fifth in _fifths(growth):
            holders = f"{short(fifth[0].holders_from)} to {short(fifth[-1].holders_to)}"
            cells = [f"{_cost(fifth, [name]):.0f}" for name in STORES]
            table.add_row(holders, short(_per_second(fifth)), *cells, f"{_cost(fifth, STORES):.0f}")
        table.add_section()
    console.print(table)
    for name in STORES:
        console.print(f"{name}, last fifth beside first: {_grown(growths, [name]).shown(2)}")
    ratio = _grown(growths, STORES)
    memory = max(growth.server_mib for growth in growths)
    flat, light = ratio.middle <= FLAT, memory <= SERVER_MIB
    console.print(f"All together, last fifth beside first: {ratio.shown(2)}; goal ≤ {FLAT:g}: {_verdict(reached=flat)}")
    console.print(f"The api process weighs {memory:.0f} MiB; goal ≤ {SERVER_MIB:g}: {_verdict(reached=light)}")
    return flat and light


def _fifths(growth: HolderGrowth) -> list[list[HolderWindow]]:
    """Return the windows in five parts of as many holders; what runs every few seconds evens out in each."""
    share = growth.windows[-1].holders_to / 5
    parts: list[list[HolderWindow]] = [[] for _ in range(5)]
    for window in growth.windows:
        parts[min(int((window.holders_from + window.holders_to) / 2 / share), 4)].append(window)
    return [part for part in parts if part]


def _cost(windows: Sequence[HolderWindow], names: Sequence[str]) -> float:
    """Return the CPU of a claim in several windows, µs."""
    claims = sum(window.holders_to - window.holders_from for window in windows)
    used = sum(window.cpu_us[name] * (window.holders_to - window.holders_from) for window in windows for name in names)
    return used / claims


def _per_second(windows: Sequence[HolderWindow]) -> float:
    # A window in which the machine stood still tells no rate.
    told = [window for window in windows if window.per_second]
    seconds = sum((window.holders_to - window.holders_from) / window.per_second for window in told)
    return sum(window.holders_to - window.holders_from for window in told) / seconds if told else 0.0


def _grown(growths: Sequence[HolderGrowth], names: Sequence[str]) -> Spread:
    """Return how the cost in the last fifth stands to that in the first."""
    parts = [_fifths(growth) for growth in growths]
    return spread([_cost(fifths[-1], names) / max(_cost(fifths[0], names), 0.001) for fifths in parts])


@click.command()
@click.option("--runs", type=click.IntRange(1, 20), default=3, show_default=True, help="Rounds; three tell the spread.")
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=3.0, show_default=True, help="Of each measurement.")
@click.option("--holders", type=click.IntRange(0, 950_000), default=100_000, show_default=True, help="0: not measured.")
@click.option("--million", is_flag=True, help="Grow to 950,000 holders: takes minutes and a gigabyte.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures.")
@click.option("--strict", is_flag=True, help="End with exit code 1 if a goal was missed.")
def main(*, runs: int, seconds: float, holders: int, million: bool, json_path: Path | None, strict: bool) -> None:
    """Measure what claims cost, beside a bare ASGI app and a bare Litestar handler on the same server."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=FILE_WIDTH)
    try:
        results = asyncio.run(bench(runs, seconds, 950_000 if million else holders, console))
    except LoadError as error:
        console.print(f"[red]bench:[/red] {error}")
        sys.exit(2)
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    if not print_results(console, results) and strict:
        sys.exit(1)
