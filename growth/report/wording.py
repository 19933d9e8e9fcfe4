"""Numbers, shades and columns, the same in the terminal and on the page."""

from collections.abc import Iterable, Sequence
from datetime import date

from growth.listeners.retention.report.answers import CohortUnit, RetentionMatrix

LANDMARKS = (0, 1, 2, 3, 4, 5, 6, 7, 14, 21, 30, 45, 60, 90, 120, 180, 270, 365)
"""Days of life shown where there is no room for all."""
SHADE_POWER = 0.75
"""Below 1: the low rates, where most cells are, differ more."""

NOBODY = "\N{EN DASH}"
"""In place of a rate of nobody."""

NAMES = {
    "flash_sale": "flash sale",
    "group_buy": "group buy",
    "checkin": "check-in",
    "": "nowhere known",
    "unknown": "source not told",
}


def percent(rate: float | None) -> str:
    """Return `31.4 %`; a dash for nobody."""
    return NOBODY if rate is None else f"{100 * rate:.1f} %"


def digits(rate: float | None) -> str:
    """Return `31`, `3.2`: percent, where there is no room to say so."""
    return short_percent(rate).removesuffix("%")


def short_percent(rate: float | None) -> str:
    """Return `31%`, `3.2%`."""
    if rate is None:
        return NOBODY
    return f"{100 * rate:.0f}%" if rate >= 0.0995 or rate == 0 else f"{100 * rate:.1f}%"  # noqa: PLR2004 - three digits


def points(difference: float | None) -> str:
    """Return `+4.2`, of percentage points."""
    return NOBODY if difference is None else f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def name_of(word: str | None) -> str:
    """Return a word as people say it."""
    return NAMES.get(word or "", (word or "").replace("_", " "))


def label_of(start: date, unit: CohortUnit) -> str:
    """Return what a cohort is called."""
    return {"day": f"{start:%d %b}", "week": f"week of {start:%d %b}", "month": f"{start:%b %Y}"}[unit]


def landmarks(days: int, room: int) -> list[int]:
    """Return the days to be shown where there is room for so many columns: all of them, if they fit."""
    if days < room:
        return list(range(days + 1))
    wanted = [day for day in LANDMARKS if day <= days]
    while len(wanted) > max(room, 1):
        # Late days are further apart than early ones; 1 and 7 are what people ask for first.
        droppable = [day for day in wanted if day not in {0, 1, 7, wanted[-1]}] or wanted[1:]
        wanted.remove(droppable[len(droppable) // 2])
    return wanted


def ticks(days: int) -> list[int]:
    """Return the days of life that an axis names."""
    return [day for day in LANDMARKS if day <= days and (day == 1 or (day >= 7 and day >= days / 10))]  # noqa: PLR2004 - a week


def highest(matrix: RetentionMatrix) -> float:
    """Return the rate that gets the darkest shade: the highest after the first day."""
    rates = [
        cell.rate for row in matrix.cohorts for n, cell in row.days.items() if n and cell and cell.rate is not None
    ]
    return max(rates, default=0.0) or 1.0


def shade(rate: float | None, top: float) -> float:
    """Return 0 to 1."""
    return 0.0 if not rate else float(min(1.0, rate / top) ** SHADE_POWER)


def mix(light: Sequence[int], dark: Sequence[int], share: float) -> tuple[int, int, int]:
    """Return the colour between two."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(light, dark, strict=True))
    return red, green, blue


def sparkline(values: Iterable[float]) -> str:
    """Return a line of bars, from nothing up to the highest."""
    shown = list(values)
    top = max(shown, default=0) or 1
    return "".join(" ▁▂▃▄▅▆▇█"[round(8 * value / top)] for value in shown)
