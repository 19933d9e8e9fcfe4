"""Inline SVG: curves, intervals, bars. Colours are the page's, by class."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from msgspec import Struct

from growth.report.wording import percent

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 150, 14, 30
LABEL_GAP = 15
"""Between two names at the ends of lines."""
TICKS = 4
INTERVAL_ROW, INTERVAL_WIDTH = 26, 420


class Line(Struct, frozen=True):
    """One curve."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    """A class of the page's."""
    is_dashed: bool = False


def curves(lines: Sequence[Line], *, ticks: Sequence[tuple[float, str]], is_share: bool) -> str:
    """Return lines over one pair of axes, each named at its end."""
    lines = [line for line in lines if line.points]
    if not lines:
        return "<p>Nothing is ripe yet.</p>"
    top = _round_up(max(y for line in lines for _, y in line.points))
    left = min(x for line in lines for x, _ in line.points)
    right = max(left + 1, *(x for line in lines for x, _ in line.points))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM),
        )

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for number in range(TICKS + 1):
        value = top * number / TICKS
        _, y = at(left, value)
        told = f"{round(100 * value, 1):g} %" if is_share else f"{value:,.0f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{told}</text>')
    for value, told in ticks:
        x, _ = at(value, 0)
        parts.append(f'<text class="soft" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(told)}</text>')
    ends = _spread([at(*line.points[-1])[1] for line in lines])
    for line, end in zip(lines, ends, strict=True):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line.points))
        dash = ' stroke-dasharray="5 4"' if line.is_dashed else ""
        parts.append(f'<polyline class="curve {line.style}" points="{path}"{dash}/>')
        x, y = at(*line.points[-1])
        parts.append(f'<circle class="dot {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        parts.append(f'<text class="name {line.style}" x="{x + 9:.1f}" y="{end + 4:.1f}">{escape(line.name)}</text>')
    return "".join([*parts, "</svg>"])


def interval(low: float, middle: float, high: float, reach: float) -> str:
    """Return one interval around zero, for a cell of a table."""
    half, y = INTERVAL_WIDTH / 2, INTERVAL_ROW / 2

    def at(value: float) -> float:
        return half + value / reach * (half - 6)

    style = "apart" if low > 0 or high < 0 else "unsure"
    told = f"{percent(middle)}, from {percent(low)} to {percent(high)}"
    return (
        f'<svg class="interval" viewBox="0 0 {INTERVAL_WIDTH} {INTERVAL_ROW}" role="img"><title>{told}</title>'
        f'<line class="zero" x1="{half}" x2="{half}" y1="0" y2="{INTERVAL_ROW}"/>'
        f'<line class="reach {style}" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot {style}" cx="{at(middle):.1f}" cy="{y}" r="5"/></svg>'
    )


def _round_up(value: float) -> float:
    """Return a round number that is no lower."""
    step = 1.0
    while step > value > 0:
        step /= 10
    while step * 10 <= value:
        step *= 10
    return next((step * times for times in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8) if step * times >= value), step * 10)


def _spread(heights: Sequence[float]) -> list[float]:
    """Move names apart that would lie on each other."""
    order = sorted(range(len(heights)), key=lambda number: heights[number])
    placed = list(heights)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + LABEL_GAP)
    over = max(placed) - (HEIGHT - BOTTOM)
    if over > 0:
        ceiling = HEIGHT - BOTTOM + 0.0
        for number in reversed(order):
            placed[number] = min(placed[number], ceiling)
            ceiling = placed[number] - LABEL_GAP
    return placed
