"""Operators' HTTP of retention. Every report is JSON, or a file for spreadsheets with `Accept: text/csv`."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from growth.listeners.retention.model import EARLY_DAYS, MAX_DAY, MAX_WITHIN_DAYS
from growth.listeners.retention.report.answers import Actives, Effects, Funnels, RetentionMatrix
from growth.listeners.retention.report.service import Question, Reports
from growth.listeners.retention.sighting import MAX_SOURCE_CHARACTERS
from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.answers import CSV_MEDIA_TYPE, AnyRequest, csv_bytes, wants_csv
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import invalid
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN

FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2100, 12, 31)
DEFAULT_MATRIX_DAYS, DEFAULT_EFFECT_DAY, DEFAULT_EARLY_DAYS, DEFAULT_WITHIN_DAYS = 30, 7, 3, 7

Unit = Annotated[
    Literal["day", "week", "month"], QueryParameter(description="What a cohort is; weeks begin on Monday.")
]
From = Annotated[date | None, QueryParameter(name="from", description="The first day, 2000-01-01 or later.")]
To = Annotated[date | None, QueryParameter(description="The last day, 2100-12-31 or earlier.")]
MetricChoice = Annotated[
    Literal["on", "on_or_after"],
    QueryParameter(description="Active on just that day of their lives, or on it or any later day so far."),
]
MatrixDays = Annotated[int, QueryParameter(ge=0, le=MAX_DAY, description="The last day of life, 0 being the first.")]
SourceFilter = Annotated[
    str | None,
    QueryParameter(
        max_length=MAX_SOURCE_CHARACTERS,
        pattern=r"^[^\x00]*$",
        description="Only who came from there; `unknown` for those of whom it was not told, see `source_name`.",
    ),
]
SourceName = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=MAX_SOURCE_CHARACTERS,
        pattern=r"^[^\x00]*$",
        description="Only who came from the source of just this name, be it `unknown`.",
    ),
]
MechanicFilter = Annotated[
    Literal["none", "flash_sale", "group_buy", "referral", "checkin", "task", "coupon"] | None,
    QueryParameter(description="Only whose first mechanic it was; `none` for those who met none so far."),
]
InviterFilter = Annotated[
    str | None,
    QueryParameter(
        pattern=FOREIGN_ID_PATTERN, description="`any` for who was invited, `none` for all others, or an inviter's id."
    ),
]
InviterId = Annotated[
    str | None,
    QueryParameter(
        pattern=FOREIGN_ID_PATTERN, description="Only whom the shopper of just this id invited, be it `any` or `none`."
    ),
]
SplitChoice = Annotated[
    Literal["source", "mechanic", "inviter"] | None, QueryParameter(description="Cohorts of each for itself.")
]
EffectDay = Annotated[int, QueryParameter(ge=1, le=MAX_DAY, description="The day of life that is looked at.")]
EarlyDays = Annotated[
    int, QueryParameter(ge=1, le=EARLY_DAYS, description="Took part: on one of the first so many days of life.")
]
WithinDays = Annotated[
    int, QueryParameter(ge=0, le=MAX_WITHIN_DAYS, description="A step counts up to so many days after the first.")
]


def _check(first: date | None, last: date | None) -> None:
    """Refuse days at the calendar's ends, and a window that ends before it begins."""
    for name, day in (("from", first), ("to", last)):
        if day is not None and not FIRST_DAY <= day <= LAST_DAY:
            raise invalid(FieldError(name, f"From {FIRST_DAY} to {LAST_DAY}"))
    if first and last and first > last:
        raise invalid(FieldError("from", "After `to`"))


def _answer(
    request: AnyRequest, report: Any, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> Response[Any]:
    if wants_csv(request):
        return Response(csv_bytes(columns, ([_text(cell) for cell in row] for row in rows)), media_type=CSV_MEDIA_TYPE)
    # There are days in it and no times, so it needs none of the care that times do.
    return Response(msgspec.json.encode(report), media_type="application/json")


def _text(cell: object) -> object:
    return cell.isoformat() if isinstance(cell, date) else cell


@for_operators(get, "", "admin_retention_cohorts_get", "Get retention by cohort", Role.VIEWER)
async def get_retention(
    request: AnyRequest,
    reports: NamedDependency[Reports],
    cohort: Unit = "day",
    since: From = None,
    to: To = None,
    metric: MetricChoice = "on",
    days: MatrixDays = DEFAULT_MATRIX_DAYS,
    source: SourceFilter = None,
    source_name: SourceName = None,
    mechanic: MechanicFilter = None,
    inviter: InviterFilter = None,
    inviter_id: InviterId = None,
    split: SplitChoice = None,
) -> Response[RetentionMatrix]:
    """Cells that are not ripe are null, never low: day n counts once it is over for every member of the cohort.

    With `Accept: text/csv` one row a cell.
    """
    _check(since, to)
    for one, other in ((source, "source_name"), (inviter, "inviter_id")):
        if one is not None and {"source_name": source_name, "inviter_id": inviter_id}[other] is not None:
            raise invalid(FieldError(other, f"Beside `{other.partition('_')[0]}` it says nothing: send one of them"))
    question = Question(
        cohort=cohort,
        first=since,
        last=to,
        metric=metric,
        days=days,
        source=source,
        source_name=source_name,
        mechanic=mechanic,
        inviter=inviter,
        inviter_id=inviter_id,
        split=split,
    )
    report = await reports.matrix(question, clock.now())
    rows = (
        (row.group, row.start, row.end, row.size, n, cell and cell.count, cell and cell.rate, row.group_kind)
        for row in report.cohorts
        for n, cell in row.days.items()
    )
    return _answer(request, report, ("group", "start", "end", "size", "day", "count", "rate", "group_kind"), rows)


@for_operators(get, "/effects", "admin_retention_effects_get", "Get the effect of a mechanic", Role.VIEWER)
async def get_effects(
    request: AnyRequest,
    reports: NamedDependency[Reports],
    since: From = None,
    to: To = None,
    metric: MetricChoice = "on",
    day: EffectDay = DEFAULT_EFFECT_DAY,
    within: EarlyDays = DEFAULT_EARLY_DAYS,
) -> Response[Effects]:
    """Of those first seen from `from` to `to`; with sizes, an interval, and a warning to be read."""
    _check(since, to)
    report = await reports.effects(metric=metric, day=day, within_days=within, first=since, last=to, now=clock.now())
    rows = (
        (
            one.mechanic,
            one.took_part.size,
            one.took_part.retained,
            one.took_part.rate,
            one.others.size,
            one.others.retained,
            one.others.rate,
            one.difference,
            one.interval and one.interval[0],
            one.interval and one.interval[1],
            report.warning,
        )
        for one in report.effects
    )
    columns = ("mechanic", "size", "retained", "rate", "others_size", "others_retained", "others_rate", "difference")
    return _answer(request, report, (*columns, "interval_low", "interval_high", "warning"), rows)


@for_operators(get, "/funnels", "admin_retention_funnels_get", "Get funnels by step", Role.VIEWER)
async def get_funnels(
    request: AnyRequest,
    reports: NamedDependency[Reports],
    cohort: Unit = "week",
    since: From = None,
    to: To = None,
    within: WithinDays = DEFAULT_WITHIN_DAYS,
) -> Response[Funnels]:
    """Viewed → claimed → paid, and invited → bound → bought: in order, within `within` days, each shopper once."""
    _check(since, to)
    report = await reports.funnels(cohort=cohort, within_days=within, first=since, last=to, now=clock.now())
    rows = (
        (funnel.funnel, row.start, row.end, step.step, step.count, step.rate)
        for funnel in report.funnels
        for row in funnel.cohorts
        for step in row.steps
    )
    return _answer(request, report, ("funnel", "start", "end", "step", "count", "rate"), rows)


@for_operators(
    get, "/actives", "admin_retention_actives_get", "Get active shoppers by day, week and month", Role.VIEWER
)
async def get_actives(
    request: AnyRequest, reports: NamedDependency[Reports], since: From = None, to: To = None
) -> Response[Actives]:
    """Distinct shoppers, exactly: of each day, and of the 7 and 30 days that end with it."""
    _check(since, to)
    report = await reports.actives(first=since, last=to, now=clock.now())
    columns = ("day", "daily", "weekly", "monthly", "new", "stickiness", "is_complete")
    return _answer(request, report, columns, ([getattr(one, name) for name in columns] for one in report.days))


router = Router(
    path="/admin/v1/retention",
    route_handlers=[get_retention, get_effects, get_funnels, get_actives],
    tags=["Operators: retention"],
)
