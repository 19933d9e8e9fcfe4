"""Answers questions from the counters."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from growth.listeners.retention.model import FUNNELS, MECHANICS, NO_SOURCE, Family, day_of, from_date, segment, to_date
from growth.listeners.retention.report import model, store
from growth.listeners.retention.report.answers import (
    Actives,
    CohortUnit,
    Effects,
    Funnels,
    Metric,
    RetentionMatrix,
    Split,
)
from growth.listeners.retention.report.model import CohortCounts, Group
from growth.plumbing.field_errors import FieldError
from growth.plumbing.postgres.database import Reader
from growth.plumbing.strict_json import invalid
from growth.vocabulary.refusals import Kind, Refusal

TOO_MANY_INVITEES = Kind("retention.too_many_invitees", "One inviter's invitees are counted one by one: ask for less.")
MAX_INVITEES = 5_000

DEFAULT_COHORTS = {"day": 30, "week": 12, "month": 12}
DEFAULT_EFFECT_DAYS = 90
DEFAULT_ACTIVE_DAYS = 30
MAX_ACTIVE_DAYS = 400
MAX_FUNNEL_DAYS = 800
_NOBODYS = -1
"""A number that no source has."""


class Question(Struct, frozen=True, kw_only=True):
    """Which matrix."""

    cohort: CohortUnit = "day"
    first: date | None = None
    last: date | None = None
    metric: Metric = "on"
    days: int = 30
    """The last day of life."""
    source: str | None = None
    """`unknown` for those of whom none was told, or a name."""
    source_name: str | None = None
    """A name, whatever it is."""
    mechanic: str | None = None
    inviter: str | None = None
    """`any` for all who were invited, `none` for all others, or an inviter's id."""
    inviter_id: str | None = None
    """An inviter's id, whatever it is."""
    split: Split | None = None


class Reports:
    """What operators ask. `reader` may be a replica's."""

    def __init__(self, reader: Reader, zone: str) -> None:
        self._reader = reader
        self._zone = zone
        self._is_zone_known = False

    async def _today(self, now: datetime) -> date:
        if not self._is_zone_known:
            name = await store.zone(self._reader)
            self._is_zone_known = name is not None
            self._zone = name or self._zone
        return to_date(day_of(now, ZoneInfo(self._zone)))

    async def matrix(self, question: Question, now: datetime) -> RetentionMatrix:
        """Return cohorts by rows, days of life by columns. Raises `Refusal` 400 for more than fits a page."""
        today = await self._today(now)
        unit, days = question.cohort, question.days
        first, last = _whole_cohorts(question.first, question.last, unit, today, DEFAULT_COHORTS[unit])
        one = question.inviter_id
        if one is None and question.inviter not in {None, model.INVITED, model.NOT_INVITED}:
            one = question.inviter
        counted = await (self._of_inviter(one, question, first, last) if one else self._counted(question, first, last))
        rows = model.cohort_rows(counted, unit, question.metric, today)
        by_mechanic = question.mechanic is not None or question.split == "mechanic"
        return RetentionMatrix(
            cohort=unit,
            metric=question.metric,
            zone=self._zone,
            today=today,
            from_=first,
            to=last,
            split=question.split,
            warning=model.MECHANIC_WARNING if by_mechanic else None,
            cohorts=rows,
            totals=model.totals_of(rows, days),
        )

    async def _counted(self, question: Question, first: date, last: date) -> list[CohortCounts]:
        known = await store.sources(self._reader)
        groups = {number: Group(name) for name, number in known.items()} | {NO_SOURCE: model.NOT_TOLD}
        sources = _sources(question, known)
        mechanics = None if question.mechanic is None else [_mechanic(question.mechanic)]
        invited = None if question.inviter is None else question.inviter == model.INVITED
        whole = model.segments_of(sources, mechanics, invited)
        parts: dict[Group | None, list[int]] = {None: whole}
        if question.split == "mechanic":
            parts = {
                Group(name or model.NO_MECHANIC): model.segments_of(sources, [number], invited)
                for number, name in enumerate(MECHANICS)
                if mechanics is None or number in mechanics
            }
        elif question.split == "inviter":
            parts = {
                Group("invited" if way else "not invited"): model.segments_of(sources, mechanics, way)
                for way in (True, False)
                if invited is None or way == invited
            }
        elif question.split == "source":
            of_source = {number: model.segments_of([number], mechanics, invited) for number in sources or groups}
            largest = await self._largest(of_source, first, last)
            parts = {groups[number]: of_source[number] for number in largest if number in groups}
        counted = await self._read(parts, question, first, last)
        if question.split == "source" and sources is None:
            everybody = await self._read({None: whole}, question, first, last)
            counted += model.others(everybody, counted)
        return counted

    async def _largest(self, of_source: dict[int, list[int]], first: date, last: date) -> list[int]:
        sizes = await store.sizes(self._reader, [one for parts in of_source.values() for one in parts], first, last)
        total = {number: sum(sizes.get(one, 0) for one in parts) for number, parts in of_source.items()}
        return sorted((number for number in total if total[number]), key=lambda one: -total[one])[: model.MAX_GROUPS]

    async def _read(
        self, parts: dict[Group | None, list[int]], question: Question, first: date, last: date
    ) -> list[CohortCounts]:
        group_of = {one: group for group, segments in parts.items() for one in segments}
        days, segments = range(question.days + 1), list(group_of)
        if ((last - first).days + 1) * len(days) * len(segments) > model.MAX_CELLS:
            raise invalid(FieldError("from", f"More than {model.MAX_CELLS} counters to read: take less time, or days"))
        if question.cohort == "day":
            rows = await store.cells_by_day(self._reader, segments, first, last, days)
        else:
            rows = await store.cells_by_period(self._reader, segments, first, last, days, question.cohort)
        found: dict[tuple[Group | None, date], CohortCounts] = {}
        for row in rows:
            group, start = group_of[row["segment"]], row["start"]
            counted = found.get((group, start))
            if counted is None:
                counted = found[group, start] = CohortCounts(group, start, [0] * len(days), [0] * len(days))
            counted.add(row["days"], row["active"], row["returned"])
        return list(found.values())

    async def _of_inviter(self, inviter: str, question: Question, first: date, last: date) -> list[CohortCounts]:
        if question.source or question.source_name or question.mechanic or question.split:
            field = "inviter_id" if question.inviter_id else "inviter"
            raise invalid(FieldError(field, "One inviter's invitees are few: ask for them without another filter"))
        if await store.invitees(self._reader, inviter, first, last, MAX_INVITEES + 1) > MAX_INVITEES:
            raise Refusal(TOO_MANY_INVITEES, max_invitees=MAX_INVITEES)
        rows = await store.cells_of_invitees(
            self._reader, inviter, first, last, question.days, question.cohort, MAX_INVITEES
        )
        found = [CohortCounts(None, row["start"], [0] * (question.days + 1), [0] * (question.days + 1)) for row in rows]
        for counted, row in zip(found, rows, strict=True):
            counted.add(row["days"], row["active"], row["returned"])
        return found

    async def effects(
        self, *, metric: Metric, day: int, within_days: int, first: date | None, last: date | None, now: datetime
    ) -> Effects:
        """Compare, for each mechanic, who took part within the first days of life with who did not."""
        if day < within_days:
            raise invalid(FieldError("day", "Whether somebody took part is known only after `within` days"))
        today = await self._today(now)
        newest = today - timedelta(days=day + 1)
        last = min(last or newest, newest)
        first = min(first or last - timedelta(days=DEFAULT_EFFECT_DAYS - 1), last)
        early = {number: model.early_segments(number, within_days) for number in range(1, len(MECHANICS))}
        everybody = segment(Family.ALL)
        days = [0, day] if metric == "on" else range(day)
        rows = await store.sums(
            self._reader, [everybody, *(one for parts in early.values() for one in parts)], first, last, days
        )
        size: dict[int, int] = {}
        kept: dict[int, int] = {}
        for one, n, active, returned in rows:
            if n == 0:
                size[one] = active
            # On or after: all but those who did not return after an earlier day.
            kept[one] = kept.get(one, 0) + ((active if n == day else 0) if metric == "on" else returned - active)

        def group(segments: Sequence[int]) -> tuple[int, int]:
            whole = sum(size.get(one, 0) for one in segments)
            found = sum(kept.get(one, 0) for one in segments)
            return whole, found if metric == "on" else whole + found

        return Effects(
            warning=model.WARNING,
            metric=metric,
            day=day,
            within_days=within_days,
            confidence=model.CONFIDENCE,
            zone=self._zone,
            today=today,
            from_=first,
            to=last,
            effects=[
                model.effect_of(MECHANICS[number], group(parts), group([everybody])) for number, parts in early.items()
            ],
        )

    async def funnels(
        self, *, cohort: CohortUnit, within_days: int, first: date | None, last: date | None, now: datetime
    ) -> Funnels:
        """Return how far shoppers came, by when they entered."""
        today = await self._today(now)
        first, last = _whole_cohorts(first, last, cohort, today, DEFAULT_COHORTS[cohort])
        if (last - first).days > MAX_FUNNEL_DAYS:
            raise invalid(FieldError("from", f"More than {MAX_FUNNEL_DAYS} days"))
        taken: dict[int, dict[date, dict[int, int]]] = {}
        for funnel, start, step, shoppers in await store.funnel_steps(self._reader, first, last, within_days, cohort):
            taken.setdefault(funnel, {}).setdefault(start, {})[step] = shoppers
        return Funnels(
            cohort=cohort,
            within_days=within_days,
            zone=self._zone,
            today=today,
            from_=first,
            to=last,
            funnels=[
                model.funnel_of(name, steps, taken.get(number, {}), cohort, within_days, today)
                for number, (name, steps) in enumerate(FUNNELS.items())
            ],
        )

    async def actives(self, *, first: date | None, last: date | None, now: datetime) -> Actives:
        """Return who was active, day by day."""
        today = await self._today(now)
        last = min(last or today - timedelta(days=1), today)
        first = min(first or last - timedelta(days=DEFAULT_ACTIVE_DAYS - 1), last)
        if (last - first).days >= MAX_ACTIVE_DAYS:
            raise invalid(FieldError("from", f"More than {MAX_ACTIVE_DAYS} days"))
        returns = await store.returns(self._reader, first, last)
        new = await store.newcomers(self._reader, segment(Family.ALL), first, last)
        return Actives(
            zone=self._zone,
            today=today,
            from_=first,
            to=last,
            days=model.actives_of(returns, new, from_date(first), from_date(last), from_date(today)),
        )


def _sources(question: Question, known: Mapping[str, int]) -> list[int] | None:
    """Return the number of the source that is asked for, one that none has if there is no such source."""
    if question.source_name is not None:
        return [known.get(question.source_name, _NOBODYS)]
    if question.source is None:
        return None
    return [NO_SOURCE if question.source == model.UNKNOWN_SOURCE else known.get(question.source, _NOBODYS)]


def _mechanic(name: str) -> int:
    return 0 if name == model.NO_MECHANIC else MECHANICS.index(name)


def _whole_cohorts(
    first: date | None, last: date | None, unit: CohortUnit, today: date, cohorts: int
) -> tuple[date, date]:
    """Return the first day of the first cohort and the last of the last one; the last `cohorts` if not told."""
    end = model.end_of(model.start_of(last or today, unit), unit)
    if first is not None:
        return min(model.start_of(first, unit), end), end
    start = model.start_of(end, unit)
    for _ in range(cohorts - 1):
        start = model.start_of(start - timedelta(days=1), unit)
    return start, end
