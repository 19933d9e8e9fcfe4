"""The report as one HTML file to pass on: nothing is fetched, neither script nor style nor picture."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from growth.listeners.retention.report.answers import Effect, Funnel, PooledCell, RetentionCell, RetentionMatrix
from growth.report.charts import Line, curves, interval
from growth.report.gathering import Gathered
from growth.report.wording import (
    digits,
    highest,
    label_of,
    landmarks,
    name_of,
    percent,
    points,
    shade,
    ticks,
)
from growth.vocabulary.clock import rfc3339

DARK_FROM = 0.55
"""Shades from here on carry light text."""
MAX_LINES = 8
MAX_HEAT_COLUMNS = 32
TICKS = 8


def page_of(gathered: Gathered) -> str:
    """Return the whole file."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    matrix = gathered.matrix
    told = f"Shoppers first seen from {matrix.from_} to {matrix.to}, in days of {matrix.zone}."
    body = "".join(
        [
            f"<header><h1>Who comes back</h1><p>{escape(told)} Made {rfc3339(gathered.made_at)}.</p></header>",
            _cards(gathered),
            _heat_map(matrix),
            _curves(gathered),
            _effects(gathered),
            _funnels(gathered),
            _actives(gathered),
            _footer(gathered),
        ]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Who comes back</title>'
        f"<style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def _section(title: str, told: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(told)}</p>{content}</section>"


def _cards(gathered: Gathered) -> str:
    total = gathered.matrix.totals[0] if gathered.matrix.totals else None
    last = gathered.actives.days[-1]
    cards = [(f"{total.size:,}" if total else "0", "shoppers first seen in this time")]
    for day in (1, 7, 30):
        cell = total.days.get(day) if total else None
        cards.append((percent(cell.rate if cell else None), f"came back on day {day}"))
    cards += [
        (f"{last.monthly:,}", f"active in 30 days to {last.day:%d %b}"),
        (percent(last.stickiness), "of them on the last day"),
    ]
    shown = "".join(f"<div><b>{value}</b><span>{escape(told)}</span></div>" for value, told in cards)
    return f'<section class="cards">{shown}</section>'


def _heat_map(matrix: RetentionMatrix) -> str:
    told = (
        "Percent. One row a cohort, one column a day of its members' lives, 0 being the first. A cell stays empty "
        "until its day is over for every member: young shoppers never make an old day look worse."
    )
    if not matrix.cohorts:
        return _section("On day n", told, "<p>Nobody was seen in this time.</p>")
    columns, top = landmarks(max(matrix.cohorts[0].days), MAX_HEAT_COLUMNS), highest(matrix)
    head = "".join(f"<th>{n}</th>" for n in columns)
    rows = [f"<tr><th>first seen</th><th>shoppers</th>{head}</tr>"]
    for row in matrix.cohorts:
        cells = "".join(_cell(n, row.days[n], row.size, top) for n in columns)
        label = escape(label_of(row.start, matrix.cohort))
        rows.append(f"<tr><th>{label}</th><th>{row.size:,}</th>{cells}</tr>")
    (total,) = matrix.totals
    pooled = [(n, total.days[n]) for n in columns]
    cells = "".join(_cell(n, cell, cell.size if cell else 0, top) for n, cell in pooled)
    rows.append(f'<tr class="all"><th>all that are ripe</th><th>{total.size:,}</th>{cells}</tr>')
    return _section("On day n", told, f'<div class="wide"><table class="heat">{"".join(rows)}</table></div>')


def _cell(n: int, cell: RetentionCell | PooledCell | None, size: int, top: float) -> str:
    if not cell:
        return '<td class="unripe"></td>'
    rate, told = cell.rate, f"{cell.count:,} of {size:,} on day {n}"
    if n == 0:
        return f'<td class="first" title="{told}">{digits(rate)}</td>'
    share = shade(rate, top)
    colour = f"color-mix(in oklab, rgb(var(--high)) {100 * share:.0f}%, rgb(var(--low)))"
    dark = ' class="dark"' if share >= DARK_FROM else ""
    return f'<td{dark} style="background:{colour}" title="{told}">{digits(rate)}</td>'


def _curve_of(matrix: RetentionMatrix, number: int) -> Sequence[tuple[float, float]]:
    return [(n, cell.rate) for n, cell in matrix.totals[number].days.items() if n and cell and cell.rate is not None]


def _curves(gathered: Gathered) -> str:
    if not gathered.matrix.totals:
        return ""
    days = max(gathered.matrix.totals[0].days)
    named = [(float(n), f"day {n}") for n in ticks(days)]
    whole = [
        Line("on or after", _curve_of(gathered.or_after, 0), "c2", is_dashed=True),
        Line("on day n", _curve_of(gathered.matrix, 0), "c0"),
    ]
    split = [
        # A source may be called as we call something else.
        Line(
            (total.group_kind == "name" and total.group) or name_of(total.group),
            _curve_of(gathered.by_source, number),
            f"c{number}",
        )
        for number, total in enumerate(gathered.by_source.totals[:MAX_LINES])
    ]
    return _section(
        "Curves",
        "All cohorts together, each day over those for which it is over. On or after counts returns so far, for which "
        "young cohorts had less time. Below: by where shoppers came from.",
        curves(whole, ticks=named, is_share=True) + curves(split, ticks=named, is_share=True),
    )


def _effects(gathered: Gathered) -> str:
    effects = gathered.effects
    shown = [one for one in effects.effects if one.took_part.size]
    reach = max((abs(end) for one in shown for end in one.interval or ()), default=0.0) or 1.0
    rows = "".join(_effect(one, reach) for one in shown)
    told = (
        f"There on day {effects.day}: those who met a mechanic within their first {effects.within_days} days, beside "
        f"those who did not; first seen from {effects.from_} to {effects.to}. The bar is where the difference lies "
        "with 95 % confidence (Newcombe)."
    )
    table = (
        '<table class="plain"><tr><th>met early</th><th>shoppers</th><th>there</th><th>others</th><th>there</th>'
        f"<th>points</th><th></th></tr>{rows}</table>"
    )
    return _section("By what they met", told, f'{table}<p class="warning">{escape(effects.warning)}</p>')


def _effect(one: Effect, reach: float) -> str:
    drawn = ""
    if one.interval is not None and one.difference is not None:
        drawn = interval(one.interval[0], one.difference, one.interval[1], reach)
    return (
        f"<tr><td>{escape(name_of(one.mechanic))}</td><td>{one.took_part.size:,}</td>"
        f"<td>{percent(one.took_part.rate)}</td><td>{one.others.size:,}</td><td>{percent(one.others.rate)}</td>"
        f"<td>{points(one.difference)}</td><td>{drawn}</td></tr>"
    )


def _funnels(gathered: Gathered) -> str:
    drawn = "".join(_funnel(funnel) for funnel in gathered.funnels.funnels)
    told = f"In order, within {gathered.funnels.within_days} days of the first step; every shopper once."
    return _section("Funnels", told, f'<div class="funnels">{drawn}</div>')


def _funnel(funnel: Funnel) -> str:
    entered = funnel.total[0].count or 0
    steps = "".join(
        f'<div class="step"><span>{escape(step.step)}</span>'
        f'<div class="bar"><i style="width:{100 * (step.count or 0) / entered if entered else 0:.1f}%"></i></div>'
        f"<span>{step.count or 0:,} · {percent(step.rate)}</span></div>"
        for step in funnel.total
    )
    return f"<div><h3>{escape(funnel.funnel.capitalize())}</h3>{steps}</div>"


def _actives(gathered: Gathered) -> str:
    days = gathered.actives.days
    every = max(1, len(days) // TICKS)
    named = [(float(place), f"{one.day:%d %b}") for place, one in enumerate(days) if place % every == 0]
    lines = [
        Line("monthly", [(place, one.monthly) for place, one in enumerate(days)], "c2"),
        Line("weekly", [(place, one.weekly) for place, one in enumerate(days)], "c1"),
        Line("daily", [(place, one.daily) for place, one in enumerate(days)], "c0"),
    ]
    told = "Different shoppers, counted exactly: of each day, and of the 7 and 30 days that end with it."
    return _section("Actives", told, curves(lines, ticks=named, is_share=False))


def _footer(gathered: Gathered) -> str:
    return (
        "<footer>A day is one of the merchant's zone; a shopper's first day is the earliest on which anything was done "
        "in the app, in the shop or in a game. Day n is counted from each shopper's own first day, also within weeks "
        f"and months. Today, {gathered.matrix.today}, is not over and counts for no cell.</footer>"
    )
