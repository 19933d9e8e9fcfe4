"""The figures and the verdict, for a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from growth.load.formatting import milliseconds
from growth.load.laws import Law
from growth.load.report import SpikeReport
from growth.load.scene.play import SceneReport


def print_report(console: Console, report: SpikeReport) -> None:
    """Print figures, then one PASS or FAIL line for each law."""
    table = Table(title=f"{report.answered:,} answers at {report.rate:,.0f} requests a second", title_justify="left")
    for column in ("outcome", "count", "share", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"):
        table.add_column(column, justify="left" if column == "outcome" else "right")
    for name, found in report.recording.outcomes.items():
        figures = (found.p50_us, found.p90_us, found.p99_us, found.p999_us, found.max_us)
        share = found.count / max(report.offered, 1)
        table.add_row(
            name.replace("_", " "), f"{found.count:,}", f"{share:.2%}", *(milliseconds(figure) for figure in figures)
        )
    console.print(table)
    for step in report.steps:
        console.print(
            f"{step.share_of_knee:>4.0%} of the knee: {step.offered_per_second:,.0f}/s offered, "
            f"{step.answered_per_second:,.0f}/s answered, p50 {milliseconds(step.all.p50_us)} ms, "
            f"p99 {milliseconds(step.all.p99_us)} ms{'' if step.kept_up else ' (did not keep up)'}"
        )
    if report.seconds_to_sell_out is not None:
        console.print(f"Sold out {report.seconds_to_sell_out * 1000:,.0f} ms after the opening.")
    for cost in report.cpu:
        each = ", ".join(f"{name} {value:.1f}" for name, value in cost.milliseconds.items())
        console.print(f"CPU ms per 1,000 requests, {cost.phase}: {each}", highlight=False)
    _print_laws(console, report.laws)


def print_scene(console: Console, report: SceneReport) -> None:
    """Print what came of each kind of request, then the laws."""
    table = Table(title=f"{report.offered:,} requests at {report.rate:,.0f} a second", title_justify="left")
    for column in ("request", "count", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "answers"):
        table.add_column(column, justify="left" if column in {"request", "answers"} else "right")
    for found in report.figures:
        figures = (found.p50_us, found.p90_us, found.p99_us, found.p999_us, found.max_us)
        answers = ", ".join(f"{status}: {count:,}" for status, count in sorted(found.statuses.items()))
        table.add_row(found.kind, f"{found.count:,}", *(milliseconds(figure) for figure in figures), answers)
    console.print(table)
    each = ", ".join(f"{name} {value:.0f}" for name, value in report.cpu_us_a_request.items())
    if each:
        console.print(f"CPU µs a request: {each}", highlight=False)
    _print_laws(console, report.laws)


def _print_laws(console: Console, laws: Sequence[Law]) -> None:
    for law in laws:
        verdict, style = {True: ("PASS", "green"), False: ("FAIL", "bold red"), None: ("----", "yellow")}[law.held]
        line = Text.assemble((verdict, style), "  ", (law.sentence, "bold"), f": {law.detail}")
        console.print(line, soft_wrap=True)
