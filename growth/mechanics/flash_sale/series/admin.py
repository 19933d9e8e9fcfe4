"""Operators' HTTP of series."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.mechanics.flash_sale.series.model import Series, SeriesDraft, SeriesDryRun, SeriesPage, SeriesStats
from growth.mechanics.flash_sale.series.service import SeriesService
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
    etag,
    idempotency_key,
    if_match,
    page_of,
    versioned,
)
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.operators import act_of, requires
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import Uuid

StateFilter = Annotated[
    Literal["draft", "published", "paused", "ended"] | None,
    QueryParameter(name="state", description="Only series in this state."),
]

OpensMs = Annotated[int, Meta(ge=0, le=7_258_118_400_000)]
"""An opening, milliseconds from 1970 to 2200."""


class SeriesDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """From when to look."""

    now: Instant | None = None
    """Rounds that open after this; now, if left out."""


@post("", operation_id="admin_series_create", summary="Draft a series", guards=[requires(Role.EDITOR)])
async def create_series(
    data: JSONBody[SeriesDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    series: NamedDependency[SeriesService],
) -> Response[Series]:
    """Nothing is planned before it is published. 400 if rounds would overlap each other."""
    content = fingerprint(msgspec.json.encode(data))
    made = await series.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made.answer, 201, replayed=made.replayed)


@get("", operation_id="admin_series_list", summary="List series, newest first", guards=[requires(Role.VIEWER)])
async def list_series(
    series: NamedDependency[SeriesService],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[Series]:
    """Series in any state."""
    position = decode_cursor(cursor, tuple[Uuid])
    found = await series.page(state=only, before=None if position is None else position[0], limit=limit + 1)
    return page_of(found, limit, lambda one: (one.series_id,))


@get("/{series_id:str}", operation_id="admin_series_get", summary="Get a series", guards=[requires(Role.VIEWER)])
async def get_series(series_id: PathUuid, series: NamedDependency[SeriesService]) -> Response[SeriesPage]:
    """With the sales that were skipped. The ETag is the version that PUT asks for in If-Match."""
    found = await series.find(series_id, clock.now())
    return JsonResponse(found, headers={"ETag": etag(found.version)})


@put("/{series_id:str}", operation_id="admin_series_change", summary="Edit a series", guards=[requires(Role.EDITOR)])
async def change_series(
    series_id: PathUuid,
    data: JSONBody[SeriesDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    series: NamedDependency[SeriesService],
) -> Response[Series]:
    """Replaces all fields, for rounds that open after `planned_until`.

    Rounds planned already keep what they were planned with; change or end their sales one by one.
    """
    return versioned(await series.change(act_of(request, operator), series_id, if_match(request), data))


def _step(name: Literal["publish", "pause", "resume", "end"], summary: str, told: str) -> Any:
    @post(
        f"/{{series_id:str}}/{name}",
        status_code=200,
        operation_id=f"admin_series_{name}",
        summary=summary,
        description=told,
        guards=[requires(Role.EDITOR)],
        name=f"admin_series_{name}",
    )
    async def take_step(
        series_id: PathUuid,
        request: Request[Any, Any, Any],
        operator: NamedDependency[Operator],
        series: NamedDependency[SeriesService],
    ) -> Response[Series]:
        act = act_of(request, operator)
        steps = {"publish": series.publish, "pause": series.pause, "resume": series.resume, "end": series.end}
        return versioned(await steps[name](act, series_id))

    return take_step


@post(
    "/{series_id:str}/dry-run",
    status_code=200,
    operation_id="admin_series_dry_run",
    summary="See the next rounds",
    guards=[requires(Role.VIEWER)],
)
async def dry_run(
    series_id: PathUuid, data: JSONBody[SeriesDryRunRequest], series: NamedDependency[SeriesService]
) -> SeriesDryRun:
    """The next ten rounds, UTC and on the wall; of each sale, whether it would be planned, and why not."""
    return await series.dry_run(series_id, data.now or clock.now())


@get(
    "/{series_id:str}/stats",
    operation_id="admin_series_stats",
    summary="Numbers of each round",
    guards=[requires(Role.VIEWER)],
)
async def get_stats(
    series_id: PathUuid,
    series: NamedDependency[SeriesService],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> SeriesStats:
    """Units, how many are taken and how fast they went; the latest round first, planned ones included."""
    position = decode_cursor(cursor, tuple[OpensMs])
    before = None if position is None else clock.from_milliseconds(position[0])
    return await series.stats(series_id, before, limit, clock.now())


router = Router(
    path="/admin/v1/flash-sale-series",
    route_handlers=[
        create_series,
        list_series,
        get_series,
        change_series,
        _step("publish", "Start a series", "Plans the rounds of the next `plan_ahead_days` at once."),
        _step("pause", "Pause a series", "Plans no more, and pauses the planned sales that have not opened."),
        _step("resume", "Resume a series", "Resumes the sales that pausing paused, and plans on from now."),
        _step("end", "End a series for good", "Ends the planned sales that have not opened; open ones go on."),
        dry_run,
        get_stats,
    ],
    tags=["Operators: flash sales"],
)
