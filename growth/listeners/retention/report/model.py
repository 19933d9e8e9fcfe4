"""Cohorts, segments, and the sums behind what reports say. No I/O.

Days are numbers here, as in the room's model.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from math import sqrt

from msgspec import Struct

from growth.listeners.retention.model import EARLY_DAYS, MAX_GAP_DAYS, MECHANICS, Family, segment, to_date
from growth.listeners.retention.report.answers import (
    ActiveShoppers,
    CohortUnit,
    Effect,
    EffectGroup,
    Funnel,
    FunnelCohort,
    FunnelStep,
    GroupKind,
    Metric,
    PooledCell,
    RetentionCell,
    RetentionCohort,
    RetentionTotal,
)

NO_MECHANIC = "none"
UNKNOWN_SOURCE = "unknown"
OTHER_SOURCES = "(others)"
INVITED, NOT_INVITED = "any", "none"
MAX_GROUPS = 10
"""Sources shown each for itself, the largest; the others are shown together."""

MAX_CELLS = 60_000
"""Counters read for one matrix: cohort days, times days of life, times segments."""
WEEK_DAYS, MONTH_DAYS = 7, 30

CONFIDENCE = 0.95
_Z = 1.959963984540054
"""The standard normal's 0.975 quantile."""

WARNING = (
    "This is not an experiment. Whoever took part chose to, and those who choose to take part are often those who "
    "would have come back anyway. The difference shows how the two groups differ, not what the mechanic did; to learn "
    "that, keep it from a random part of new shoppers, and compare."
)
MECHANIC_WARNING = (
    "A shopper's first mechanic may have been met days after the first visit; whoever came back for it had come back "
    "already. Compare these groups with care, or ask for /admin/v1/retention/effects."
)


class Group(Struct, frozen=True, order=True):
    """Of whom a row tells. A source may be called what we call those without one, so the kind is part of it."""

    name: str
    kind: GroupKind = "name"


NOT_TOLD = Group(UNKNOWN_SOURCE, "not_told")
OTHERS = Group(OTHER_SOURCES, "others")


class CohortCounts(Struct):
    """The counters of one cohort, by day of life from 0 on."""

    group: Group | None
    start: date
    active: list[int]
    returned: list[int]

    def add(self, days: Iterable[int], active: Iterable[int], returned: Iterable[int], sign: int = 1) -> None:
        """Add counters of some days, or take them away."""
        for n, plus, again in zip(days, active, returned, strict=True):
            self.active[n] += sign * plus
            self.returned[n] += sign * again


# --- cohorts --------------------------------------------------------------------------------------------------------


def start_of(day: date, unit: CohortUnit) -> date:
    """Return the first day of the cohort that `day` is in; weeks begin on Monday."""
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def end_of(start: date, unit: CohortUnit) -> date:
    """Return the last day of the cohort that begins with `start`."""
    if unit == "week":
        return start + timedelta(days=WEEK_DAYS - 1)
    if unit == "month":
        return (start + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return start


def is_ripe(end: date, n: int, today: date) -> bool:
    """Say whether day n is over for all members of a cohort that ends with `end`."""
    return end + timedelta(days=n) < today


# --- segments -------------------------------------------------------------------------------------------------------


def segments_of(sources: Sequence[int] | None, mechanics: Sequence[int] | None, invited: bool | None) -> list[int]:  # noqa: FBT001 - a dimension as the others
    """Return the segments that together have those of some sources, first mechanics and ways, each shopper once."""
    ways = (0, 1) if invited is None else (int(invited),)
    if mechanics is None and invited is None:
        if sources is None:
            return [segment(Family.ALL)]
        return [segment(Family.SOURCE, source=source) for source in sources]
    met = range(len(MECHANICS)) if mechanics is None else mechanics
    if sources is None:
        return [segment(Family.MECHANIC, mechanic=one, tail=way) for one in met for way in ways]
    return [
        segment(Family.CUBE, source=source, mechanic=one, tail=way) for source in sources for one in met for way in ways
    ]


def early_segments(mechanic: int, within_days: int) -> list[int]:
    """Return the segments of those who first took part on one of the first days."""
    assert within_days <= EARLY_DAYS
    return [segment(Family.EARLY, mechanic=mechanic, tail=day) for day in range(within_days)]


# --- sums -----------------------------------------------------------------------------------------------------------


def rate(count: int, size: int) -> float | None:
    """Return a share with four digits; None of nobody."""
    return round(count / size, 4) if size else None


def cohort_rows(
    counted: Iterable[CohortCounts], unit: CohortUnit, metric: Metric, today: date
) -> list[RetentionCohort]:
    """Put counters together to rows, oldest first."""
    rows = []
    for one in sorted(counted, key=lambda one: (one.start, one.group or Group(""))):
        size = one.active[0]
        if size:
            end, counts = end_of(one.start, unit), one.active if metric == "on" else _on_or_after(one)
            ripe = max(0, (today - end).days)
            shown: dict[int, RetentionCell | None] = {
                n: RetentionCell(count, round(count / size, 4)) for n, count in enumerate(counts[:ripe])
            }
            shown.update(dict.fromkeys(range(len(shown), len(counts))))
            name, kind = (one.group.name, one.group.kind) if one.group else (None, None)
            rows.append(RetentionCohort(one.start, end, name, kind, size, shown))
    return rows


def _on_or_after(one: CohortCounts) -> list[int]:
    # Whoever was never seen again after an earlier day is not there on this day or after.
    left, counts = one.active[0], []
    for active, returned in zip(one.active, one.returned, strict=True):
        counts.append(left)
        left -= active - returned
    return counts


def totals_of(rows: Sequence[RetentionCohort], days: int) -> list[RetentionTotal]:
    """Sum up over cohorts, for each group; on each day over those that are ripe."""
    groups: dict[tuple[str | None, GroupKind | None], list[RetentionCohort]] = {}
    for row in rows:
        groups.setdefault((row.group, row.group_kind), []).append(row)
    totals = []
    for (group, kind), members in groups.items():
        shown: dict[int, PooledCell | None] = {}
        for n in range(days + 1):
            ripe = [(cell.count, row.size) for row in members if (cell := row.days[n]) is not None]
            count, size = sum(count for count, _ in ripe), sum(size for _, size in ripe)
            shown[n] = PooledCell(count, size, rate(count, size)) if ripe else None
        totals.append(RetentionTotal(group, kind, sum(row.size for row in members), shown))
    return sorted(totals, key=lambda total: -total.size)


def others(base: Iterable[CohortCounts], parts: Iterable[CohortCounts]) -> list[CohortCounts]:
    """Return what is left of `base` without `parts`, as a group of its own."""
    left = {one.start: CohortCounts(OTHERS, one.start, list(one.active), list(one.returned)) for one in base}
    for one in parts:
        left[one.start].add(range(len(one.active)), one.active, one.returned, -1)
    return list(left.values())


def effect_of(mechanic: str, took_part: tuple[int, int], everybody: tuple[int, int]) -> Effect:
    """Compare; both as size and retained."""
    size, retained = took_part
    rest, rest_retained = everybody[0] - size, everybody[1] - retained
    interval = newcombe(retained, size, rest_retained, rest) if size and rest else None
    return Effect(
        mechanic=mechanic,
        took_part=EffectGroup(size, retained, rate(retained, size)),
        others=EffectGroup(rest, rest_retained, rate(rest_retained, rest)),
        difference=round(retained / size - rest_retained / rest, 4) if size and rest else None,
        interval=interval and (round(interval[0], 4), round(interval[1], 4)),
    )


def wilson(count: int, size: int) -> tuple[float, float]:
    """Return Wilson's score interval of a share (E. B. Wilson, JASA 22, 1927)."""
    share, z2 = count / size, _Z * _Z
    middle = share + z2 / (2 * size)
    reach = _Z * sqrt(share * (1 - share) / size + z2 / (4 * size * size))
    return (middle - reach) / (1 + z2 / size), (middle + reach) / (1 + z2 / size)


def newcombe(count: int, size: int, other_count: int, other_size: int) -> tuple[float, float]:
    """Return the interval of the difference of two shares (R. G. Newcombe, Stat. Med. 17, 1998, 873-890, method 10)."""
    share, other = count / size, other_count / other_size
    low, high = wilson(count, size)
    other_low, other_high = wilson(other_count, other_size)
    return (
        share - other - sqrt((share - low) ** 2 + (other_high - other) ** 2),
        share - other + sqrt((high - share) ** 2 + (other - other_low) ** 2),
    )


def funnel_of(
    funnel: str,
    steps: Sequence[str],
    taken: Mapping[date, Mapping[int, int]],
    unit: CohortUnit,
    within_days: int,
    today: date,
) -> Funnel:
    """Put counters (by start of the cohort, then step) together."""
    cohorts = []
    total = [0] * len(steps)
    for start, counts in sorted(taken.items()):
        end = end_of(start, unit)
        entered, ripe = counts.get(0, 0), is_ripe(end, within_days, today)
        if not entered:
            continue
        shown = [FunnelStep(steps[0], entered, rate(entered, entered))]
        for number, step in enumerate(steps[1:], start=1):
            count = counts.get(number, 0)
            shown.append(FunnelStep(step, count, rate(count, entered)) if ripe else FunnelStep(step, None, None))
        cohorts.append(FunnelCohort(start, end, shown))
        if ripe:
            total = [sum_ + counts.get(number, 0) for number, sum_ in enumerate(total)]
    return Funnel(
        funnel,
        cohorts,
        [FunnelStep(step, count, rate(count, total[0])) for step, count in zip(steps, total, strict=True)],
    )


def actives_of(
    returns: Mapping[int, Mapping[int, int]], new: Mapping[int, int], first: int, last: int, today: int
) -> list[ActiveShoppers]:
    """Return actives from counters by day and gap, from `first` to `last`.

    Of the shoppers active in a window each is counted on the first of its days in it: that is where the gap to the day
    before reaches out of the window.
    """
    reach: dict[int, list[int]] = {}
    for day in range(first - MAX_GAP_DAYS + 1, last + 1):
        left, longer, of_day = 0, [0] * MAX_GAP_DAYS, returns.get(day, {})
        for gap in range(MAX_GAP_DAYS, 0, -1) if of_day else ():
            left += of_day.get(gap, 0)
            longer[gap - 1] = left
        reach[day] = longer  # longer[k]: whose gap is longer than k days
    shown = []
    for day in range(first, last + 1):
        daily, weekly, monthly = (
            sum(reach[day - window + 1 + k][k] for k in range(window)) for window in (1, WEEK_DAYS, MONTH_DAYS)
        )
        shown.append(
            ActiveShoppers(
                to_date(day), daily, weekly, monthly, new.get(day, 0), rate(daily, monthly), is_complete=day < today
            )
        )
    return shown
