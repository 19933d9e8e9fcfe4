"""Operators' HTTP of series."""

from typing import Annotated

from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from growth.kit.campaign.admin import campaign_routes
from growth.mechanics.flash_sale.series import model
from growth.mechanics.flash_sale.series.model import SERIES, SeriesDryRun, SeriesPage, SeriesStats
from growth.mechanics.flash_sale.series.service import SeriesService
from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, JsonResponse, Limit, PathUuid, decode_cursor, etag
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Role

OpensMs = Annotated[int, Meta(ge=0, le=7_258_118_400_000)]
"""An opening, milliseconds from 1970 to 2200."""


class SeriesDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """From when to look."""

    now: Instant | None = None
    """Rounds that open after this; now, if left out."""


@for_operators(get, "/{series_id:str}", "admin_flash_sale_series_get", "Get a flash-sale series", Role.VIEWER)
async def get_series(series_id: PathUuid, series: NamedDependency[SeriesService]) -> Response[SeriesPage]:
    """With the sales that were skipped. The ETag is the version that PUT asks for in If-Match."""
    found = await series.shown(series_id, clock.now())
    return JsonResponse(found, headers={"ETag": etag(found.version)})


@for_operators(
    post,
    "/{series_id:str}/dry-run",
    "admin_flash_sale_series_dry_run",
    "Preview the next rounds of a flash-sale series",
    Role.VIEWER,
)
async def dry_run(
    series_id: PathUuid, data: JSONBody[SeriesDryRunRequest], series: NamedDependency[SeriesService]
) -> SeriesDryRun:
    """The next ten rounds, UTC and on the wall; of each sale, whether it would be planned, and why not."""
    return await series.dry_run(series_id, data.now or clock.now())


@for_operators(
    get,
    "/{series_id:str}/stats",
    "admin_flash_sale_series_stats_get",
    "Get the numbers of each round of a flash-sale series",
    Role.VIEWER,
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
        *campaign_routes(
            SERIES,
            SeriesService,
            "series",
            "admin_flash_sale_series",
            told={
                "create": "Nothing is planned before it is published. 400 if rounds would overlap each other.",
                "change": "Replaces all fields, for rounds that open after `planned_until`. Rounds planned"
                " already keep what they were planned with; change or end their sales one by one.",
                "publish": "Plans the rounds of the next `plan_ahead_days` at once.",
                "pause": "Plans no more, and pauses the planned sales that have not opened.",
                "resume": "Resumes the sales that pausing paused, and plans on from now.",
                "end": "Ends the planned sales that have not opened; open ones go on.",
            },
            raises={"publish": [model.NO_ROUNDS_LEFT], "resume": [model.NO_ROUNDS_LEFT]},
            without=["get"],
        ),
        get_series,
        dry_run,
        get_stats,
    ],
    tags=["Operators: flash-sale series"],
)
