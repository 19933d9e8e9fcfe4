"""Figures for people."""

THOUSAND = 1000


def milliseconds(microseconds: float) -> str:
    """Return a latency in ms with three digits."""
    value = microseconds / 1000
    if value < 10:  # noqa: PLR2004
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004


def duration(seconds: float) -> str:
    """Return a short time with its unit: `38 ms`, `1.42 s`."""
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def short(value: float) -> str:
    """Return a count in few characters: `850`, `12 k`."""
    return f"{value:,.0f}" if value < 10 * THOUSAND else f"{value / THOUSAND:,.4g} k"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return `1 unit`, `2 units`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def unit(microseconds: float) -> str:
    """Return a round latency with its unit, for an axis: `0.1 ms`, `10 s`."""
    return f"{microseconds / 1e6:g} s" if microseconds >= 1e6 else f"{microseconds / 1000:g} ms"  # noqa: PLR2004
