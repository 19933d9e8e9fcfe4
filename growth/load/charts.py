"""Plots as inline SVG, by hand: five of them do not need a library. Colours and fonts come from the page's style."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from msgspec import Struct

from growth.load.formatting import milliseconds, short, unit
from growth.load.recorder import Latencies
from growth.load.report import Phase, PhaseCpu, RateStep

WIDTH = 1000
LEFT, RIGHT, BOTTOM = 70, 20, 38
PLOT_HEIGHT = 230
ROW_HEIGHT = 17
"""Of phase labels above a plot."""
CHARACTER_WIDTH = 6.6
"""Of a label at 12 px, on average."""
MAX_POINTS = 240

Scale = Callable[[float], float]


class Time(Struct, frozen=True):
    """The time axis all plots of one run share: seconds from the opening."""

    seconds: float
    opens_at: float
    phases: list[Phase]

    def x(self, seconds: float) -> float:
        """Return where a moment, in seconds from the start, is drawn."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds / self.seconds, 0.0), 1.0)


def nice_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2 or 5 times a power of ten that divides `span` into no more than `most` parts."""
    raw = max(span, 1e-9) / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)


def _linear(low: float, high: float, top: float, bottom: float) -> Scale:
    return lambda value: bottom - (value - low) / (high - low) * (bottom - top)


def _log(low: float, high: float, begin: float, end: float) -> Scale:
    width = math.log10(high) - math.log10(low)
    return lambda value: begin + (math.log10(min(max(value, low), high)) - math.log10(low)) / width * (end - begin)


def decades(values: Sequence[int]) -> tuple[float, float]:
    """Return powers of ten, in microseconds, around all latencies that are not 0."""
    real = [value for value in values if value > 0] or [1000]
    low = 10.0 ** math.floor(math.log10(min(real)))
    return low, max(10.0 ** math.ceil(math.log10(max(real) * 1.0001)), low * 10)


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">' + "".join(parts) + "</svg>"
    )


def _text(x: float, y: float, text: str, kind: str = "tick", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _path(points: Sequence[tuple[float, float]], kind: str) -> str:
    return f'<path d="M{"L".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{kind}"/>' if points else ""


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Return an HTML legend of (class, name)."""
    items = "".join(f'<li><i class="swatch {kind}"></i>{escape(name)}</li>' for kind, name in entries)
    return f'<ul class="legend">{items}</ul>'


def _label_rows(time: Time) -> tuple[int, list[tuple[int, float, str]]]:
    """Place phase labels: (row, x of the middle, text), so that none covers another."""
    ends: list[float] = []
    placed = []
    for phase in time.phases:
        half = len(phase.name) * CHARACTER_WIDTH / 2
        middle = (time.x(phase.begin) + time.x(phase.end)) / 2
        middle = min(max(middle, LEFT + half), WIDTH - RIGHT - half)
        row = next((row for row, end in enumerate(ends) if middle - half > end), len(ends))
        ends[row:] = [middle + half + 8, *ends[row + 1 :]]
        placed.append((row, middle, phase.name))
    return max(len(ends), 1), placed


def _time_frame(time: Time, height: float) -> tuple[list[str], float]:
    """Return phases shaded and labelled and the time axis, and where the plot begins from above."""
    rows, labels = _label_rows(time)
    top = rows * ROW_HEIGHT + 8
    bottom = top + height
    parts = []
    for number, phase in enumerate(time.phases):
        x, end = time.x(phase.begin), time.x(phase.end)
        kind = "phase odd" if number % 2 else "phase"
        tip = f"{phase.name}: {phase.end - phase.begin:.2f} s"
        parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{end - x:.1f}" height="{height:.1f}" class="{kind}">'
            f"<title>{escape(tip)}</title></rect>"
        )
        if number:
            row, middle, _ = labels[number]
            parts.append(_line(x, top, x, bottom, "boundary"))
            if abs(middle - (x + end) / 2) > 1 or row:
                parts.append(_line(x, row * ROW_HEIGHT + 17, x, top, "boundary"))
    parts += [_text(middle, row * ROW_HEIGHT + 13, name, "phase-name") for row, middle, name in labels]
    step = nice_step(time.seconds, 12)
    tick = math.ceil(-time.opens_at / step) * step
    while tick <= time.seconds - time.opens_at + 1e-9:
        x = time.x(tick + time.opens_at)
        parts.append(_line(x, bottom, x, bottom + 4, "axis"))
        parts.append(_text(x, bottom + 17, f"{tick:+g}" if tick else "0"))
        tick += step
    parts.append(_line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"))
    parts.append(_text(WIDTH - RIGHT, bottom + 33, "seconds from the opening", "axis-name", "end"))
    return parts, top


def _y_ticks(scale: Scale, values: Sequence[float], name: Callable[[float], str]) -> list[str]:
    parts = []
    for value in values:
        y = scale(value)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(_text(LEFT - 8, y + 4, name(value), anchor="end"))
    return parts


def _upward(highest: float) -> list[float]:
    step = nice_step(highest or 1, 5)
    return [step * number for number in range(math.ceil((highest or 1) / step) + 1)]


def rebin(values: Sequence[int], width: int) -> list[float]:
    """Return means over `width` neighbours; a shorter rest at the end is left out if there is anything else."""
    full = [values[at : at + width] for at in range(0, len(values), width)]
    full = [part for part in full if len(part) == width] or full
    return [sum(part) / len(part) for part in full]


def bin_width(slots: int) -> int:
    """Return how many slots are drawn as one."""
    return max(1, math.ceil(slots / MAX_POINTS))


def rates(time: Time, slot_seconds: float, offered: Sequence[int], answered: Sequence[int]) -> str:
    """Plot requests due and requests answered, a second."""
    width = bin_width(len(offered))
    due = [value / slot_seconds for value in rebin(offered, width)]
    came = [value / slot_seconds for value in rebin(answered, width)]
    parts, top = _time_frame(time, PLOT_HEIGHT)
    ticks = _upward(max(due + came))
    y = _linear(0, ticks[-1], top, top + PLOT_HEIGHT)
    parts += _y_ticks(y, ticks, short)
    xs = [time.x((number + 0.5) * width * slot_seconds) for number in range(len(due))]
    area = [(xs[0], y(0)), *zip(xs, map(y, came), strict=True), (xs[-1], y(0))]
    parts.append(_path(area, "area answered"))
    parts.append(_path(list(zip(xs, map(y, came), strict=True)), "curve answered"))
    parts.append(_path(list(zip(xs, map(y, due), strict=True)), "curve offered"))
    return _svg(top + PLOT_HEIGHT + BOTTOM, parts, "requests due and answered a second, over time")


def stacked(time: Time, slot_seconds: float, outcomes: Mapping[str, Sequence[int]]) -> str:
    """Plot answers a second by outcome, one on top of the other."""
    slots = max((len(values) for values in outcomes.values()), default=1)
    width = bin_width(slots)
    curves = {name: [v / slot_seconds for v in rebin(values, width)] for name, values in outcomes.items()}
    count = max((len(curve) for curve in curves.values()), default=0)
    floor = [0.0] * count
    layers = []
    for name, curve in curves.items():
        ceiling = [below + value for below, value in zip(floor, curve, strict=True)]
        layers.append((name, floor, ceiling))
        floor = ceiling
    parts, top = _time_frame(time, PLOT_HEIGHT)
    ticks = _upward(max(floor, default=1))
    y = _linear(0, ticks[-1], top, top + PLOT_HEIGHT)
    parts += _y_ticks(y, ticks, short)
    xs = [time.x((number + 0.5) * width * slot_seconds) for number in range(count)]
    for name, low, high in layers:
        around = [*zip(xs, map(y, high), strict=True), *reversed(list(zip(xs, map(y, low), strict=True)))]
        parts.append(_path(around, f"layer {name}"))
    return _svg(top + PLOT_HEIGHT + BOTTOM, parts, "answers a second by outcome, over time")


def latency_over_time(time: Time, slot_seconds: float, p50_us: Sequence[int], p99_us: Sequence[int]) -> str:
    """Plot the median and the 99th percentile of what was due at each moment, on a log axis."""
    parts, top = _time_frame(time, PLOT_HEIGHT)
    low, high = decades([*p50_us, *p99_us])
    y = _log(low, high, top + PLOT_HEIGHT, top)
    count = round(math.log10(high / low))
    parts += _y_ticks(y, [low * 10**n for n in range(count + 1)], unit)
    # Far more slots than pixels happen only in long runs; there the worst of each bin is what one wants to see.
    width = bin_width(len(p99_us))
    for kind, values in (("p99", p99_us), ("p50", p50_us)):
        points: list[tuple[float, float]] = []
        for number in range(0, len(values), width):
            worst = max(values[number : number + width])
            if worst:
                points.append((time.x((number + width / 2) * slot_seconds), y(worst)))
            else:
                parts.append(_path(points, f"curve {kind}"))
                points = []
        parts.append(_path(points, f"curve {kind}"))
    return _svg(top + PLOT_HEIGHT + BOTTOM, parts, "median and 99th percentile of latency over time")


def latency_by_outcome(outcomes: Mapping[str, Latencies]) -> str:
    """Plot the percentiles of each outcome as points on a line, on a log axis."""
    row, left, top = 34, 120, 24
    every = [v for o in outcomes.values() for v in (o.p50_us, o.max_us)]
    low, high = decades(every)
    x = _log(low, high, left, WIDTH - RIGHT - 60)
    bottom = top + row * len(outcomes)
    parts = []
    for n in range(round(math.log10(high / low)) + 1):
        at = x(low * 10**n)
        parts.append(_line(at, top - 6, at, bottom, "grid"))
        parts.append(_text(at, bottom + 17, unit(low * 10**n)))
    for number, (name, found) in enumerate(outcomes.items()):
        y = top + row * (number + 0.5)
        parts.append(_text(left - 12, y + 4, name.replace("_", " "), "row-name", "end"))
        parts.append(_line(x(found.p50_us), y, x(found.max_us), y, f"span {name}"))
        marks = (
            ("p50", found.p50_us, 7),
            ("p90", found.p90_us, 5.5),
            ("p99", found.p99_us, 4.5),
            ("p99.9", found.p999_us, 3.5),
        )
        for percentile, value, radius in marks:
            parts.append(
                f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="{radius}" class="dot {name}">'
                f"<title>{escape(name)} {percentile}: {milliseconds(value)} ms</title></circle>"
            )
        parts.append(_line(x(found.max_us), y - 6, x(found.max_us), y + 6, f"span {name}"))
        parts.append(_text(x(found.max_us) + 8, y + 4, f"max {milliseconds(found.max_us)} ms", "note", "start"))
    return _svg(bottom + 26, parts, "latency percentiles by outcome")


def cpu_bars(costs: Sequence[PhaseCpu]) -> str:
    """Plot CPU for 1,000 requests as one bar a phase, made of processes."""
    row, left, top = 34, 120, 6
    totals = [sum(cost.milliseconds.values()) for cost in costs]
    ticks = _upward(max(totals, default=1))
    scale = (WIDTH - RIGHT - 90 - left) / ticks[-1]
    bottom = top + row * len(costs)
    parts = []
    for tick in ticks:
        parts.append(_line(left + tick * scale, top, left + tick * scale, bottom, "grid"))
        parts.append(_text(left + tick * scale, bottom + 17, f"{tick:g} ms"))
    for number, (cost, total) in enumerate(zip(costs, totals, strict=True)):
        y, x = top + row * number + 5, float(left)
        parts.append(_text(left - 12, y + 16, cost.phase, "row-name", "end"))
        for name, value in cost.milliseconds.items():
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{value * scale:.1f}" height="{row - 10}" class="bar {escape(name)}">'
                f"<title>{escape(name)}: {value:.1f} ms</title></rect>"
            )
            if value * scale > 40:  # noqa: PLR2004 - room for its figure
                parts.append(_text(x + value * scale / 2, y + 16, f"{value:.1f}", "in-bar"))
            x += value * scale
        parts.append(_text(x + 8, y + 16, f"{total:.1f} ms", "note", "start"))
    return _svg(bottom + 26, parts, "CPU milliseconds for 1,000 requests, by process and phase")


def staircase(steps: Sequence[RateStep]) -> str:
    """Plot median and 99th percentile against the rate offered; hollow where the service did not keep up."""
    top = 14.0
    low, high = decades([value for step in steps for value in (step.all.p50_us, step.all.p99_us)])
    y = _log(low, high, top + PLOT_HEIGHT, top)
    count = round(math.log10(high / low))
    parts = _y_ticks(y, [low * 10**n for n in range(count + 1)], unit)
    xs = [LEFT + (WIDTH - LEFT - RIGHT) * (number + 0.5) / len(steps) for number in range(len(steps))]
    bottom = top + PLOT_HEIGHT
    parts.append(_line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"))
    for x, step in zip(xs, steps, strict=True):
        parts.append(_text(x, bottom + 17, f"{step.share_of_knee:.0%}"))
        parts.append(_text(x, bottom + 33, f"{short(step.offered_per_second)}/s", "note"))
    for kind in ("p99", "p50"):
        values = [step.all.p99_us if kind == "p99" else step.all.p50_us for step in steps]
        parts.append(_path([(x, y(value)) for x, value in zip(xs, values, strict=True)], f"curve {kind}"))
        for x, value, step in zip(xs, values, steps, strict=True):
            hollow = "" if step.kept_up else " hollow"
            parts.append(f'<circle cx="{x:.1f}" cy="{y(value):.1f}" r="5" class="dot {kind}{hollow}"/>')
            parts.append(_text(x + 10, y(value) - 8, milliseconds(value), "note", "start"))
    return _svg(bottom + BOTTOM, parts, "latency against the rate offered")
