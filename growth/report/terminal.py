"""The report in a terminal: a heat map in colour, and the rest in lines."""

from rich.console import Console
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from growth.listeners.retention.report.answers import Effect, Funnel, PooledCell, RetentionCell, RetentionMatrix
from growth.report.gathering import Gathered
from growth.report.wording import (
    NOBODY,
    highest,
    label_of,
    landmarks,
    mix,
    name_of,
    percent,
    points,
    shade,
    short_percent,
    sparkline,
)

LIGHT, DARK = (222, 242, 236), (7, 94, 84)
INK, PAPER = "#10251f", "#f4fbf9"
INK_UNTIL = 0.5
"""Lighter shades carry dark text."""
CELL_WIDTH, HEAD_WIDTH = 6, 28
BAR_CHARACTERS = 30
INTERVAL_CHARACTERS = 41


def show(gathered: Gathered, console: Console) -> None:
    """Print all of it."""
    matrix = gathered.matrix
    if not matrix.cohorts:
        console.print("Nobody was seen in this time. `growth demo` puts a made-up shop into an empty database.")
        return
    console.print(_heat_map(matrix, console))
    for line in _curves(gathered):
        console.print(line)
    console.print()
    console.print(_effects(gathered))
    console.print(Panel(gathered.effects.warning, border_style="yellow", width=min(console.width, 100)))
    for funnel in gathered.funnels.funnels:
        for line in _funnel(funnel, gathered.funnels.within_days):
            console.print(line)
    for line in _actives(gathered):
        console.print(line)


def _heat_map(matrix: RetentionMatrix, console: Console) -> Table:
    columns = landmarks(max(matrix.cohorts[0].days), (console.width - HEAD_WIDTH) // CELL_WIDTH)
    table = Table(
        title=f"Who came back on day n, of those first seen from {matrix.from_} to {matrix.to} ({matrix.zone})",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=0,
    )
    table.add_column("first seen", min_width=15)
    table.add_column("shoppers", justify="right")
    for n in columns:
        table.add_column(f"D{n}", justify="right", min_width=CELL_WIDTH)
    top = highest(matrix)
    for row in matrix.cohorts:
        cells = [_cell(row.days[n], top, n) for n in columns]
        table.add_row(label_of(row.start, matrix.cohort), f"{row.size:,}", *cells)
    (total,) = matrix.totals
    cells = [_cell(total.days[n], top, n) for n in columns]
    table.add_section()
    table.add_row(Text("all that are ripe", style="bold"), f"{total.size:,}", *cells)
    table.caption = "·  not over yet for everybody: no number rather than a low one"
    table.caption_justify = "left"
    return table


def _cell(cell: RetentionCell | PooledCell | None, top: float, n: int) -> Text:
    if cell is None:
        return Text("·", style="dim")
    rate = cell.rate
    if n == 0:
        return Text(short_percent(rate), style="dim")
    share = shade(rate, top)
    colour = "#{:02x}{:02x}{:02x}".format(*mix(LIGHT, DARK, share))
    return Text(f" {short_percent(rate)}", style=Style(bgcolor=colour, color=INK if share < INK_UNTIL else PAPER))


def _curves(gathered: Gathered) -> list[Text]:
    lines = []
    for title, matrix in (("on day n", gathered.matrix), ("on or after", gathered.or_after)):
        (total,) = matrix.totals
        rates = [cell.rate or 0.0 for n, cell in total.days.items() if n and cell]
        if rates:
            line = Text(f"{title:>14}  ") + Text(sparkline(rates), style="rgb(20,150,130)")
            lines.append(line + Text(f"  {percent(rates[0])} on D1, {percent(rates[-1])} on D{len(rates)}"))
    return lines


def _effects(gathered: Gathered) -> Table:
    effects = gathered.effects
    table = Table(
        title=f"There on day {effects.day}, by what they met in their first {effects.within_days} days",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for column in ("met early", "shoppers", "there", "others", "there", "difference, points", "95 % interval"):
        table.add_column(column, justify="left" if column in {"met early", "95 % interval"} else "right")
    shown = [one for one in effects.effects if one.took_part.size]
    reach = max((abs(end) for one in shown for end in one.interval or ()), default=0.0) or 1.0
    for one in shown:
        table.add_row(
            name_of(one.mechanic),
            f"{one.took_part.size:,}",
            percent(one.took_part.rate),
            f"{one.others.size:,}",
            percent(one.others.rate),
            points(one.difference),
            _interval(one, reach),
        )
    return table


def _interval(one: Effect, reach: float) -> Text:
    """Draw where the difference lies, around zero."""
    if one.interval is None or one.difference is None:
        return Text(NOBODY)
    half = INTERVAL_CHARACTERS // 2

    def place(value: float) -> int:
        return half + round(value / reach * half)

    low, middle, high = place(one.interval[0]), place(one.difference), place(one.interval[1])
    drawn = [" "] * INTERVAL_CHARACTERS
    drawn[half] = "│"
    drawn[low : high + 1] = ["─"] * (high + 1 - low)
    drawn[middle] = "●"
    is_apart = one.interval[0] > 0 or one.interval[1] < 0
    return Text("".join(drawn), style="rgb(20,150,130)" if is_apart else "dim")


def _funnel(funnel: Funnel, within_days: int) -> list[Text]:
    entered = funnel.total[0].count or 0
    lines = [Text(f"{funnel.funnel.capitalize()}, within {within_days} days", style="bold")]
    for step in funnel.total:
        length = round(BAR_CHARACTERS * (step.count or 0) / entered) if entered else 0
        bar = Text("█" * length, style="rgb(20,150,130)") + Text("░" * (BAR_CHARACTERS - length), style="dim")
        lines.append(Text(f"{step.step:>14}  ") + bar + Text(f"  {step.count or 0:,}  {percent(step.rate)}"))
    return lines


def _actives(gathered: Gathered) -> list[Text]:
    days = gathered.actives.days
    lines = [Text(f"Actives, {len(days)} days to {days[-1].day}", style="bold")]
    for title, values in (
        ("daily", [one.daily for one in days]),
        ("weekly", [one.weekly for one in days]),
        ("monthly", [one.monthly for one in days]),
    ):
        line = Text(f"{title:>14}  ") + Text(sparkline(values), style="rgb(20,150,130)")
        lines.append(line + Text(f"  {values[-1]:,}"))
    return lines
