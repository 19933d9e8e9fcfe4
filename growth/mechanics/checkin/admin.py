"""Operators' HTTP of check-in programs."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.checkin.dry_run import CheckinDryRun
from growth.mechanics.checkin.model import CheckinDraft, CheckinProgram
from growth.mechanics.checkin.service import CheckinPrograms, CheckinStats
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
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
from growth.vocabulary.ids import ShopperId, Uuid

StateFilter = Annotated[
    Literal["draft", "published", "paused", "ended"] | None,
    QueryParameter(name="state", description="Only programs in this state."),
]


class CheckinDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose check-in to try, and when."""

    user_id: ShopperId
    now: Instant | None = None
    """The moment to try; now, if left out."""
    every_day: bool = False
    """As if the shopper checked in on every day from today, or from the program's first day, until then."""


@post("", operation_id="admin_checkin_programs_create", summary="Draft a program", guards=[requires(Role.EDITOR)])
async def create_program(
    data: JSONBody[CheckinDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    checkin_programs: NamedDependency[CheckinPrograms],
) -> Response[CheckinProgram]:
    """Nobody sees a draft; try it with a dry run, and publish it when it is right."""
    content = fingerprint(msgspec.json.encode(data))
    made = await checkin_programs.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made.answer, 201, replayed=made.replayed)


@get("", operation_id="admin_checkin_programs_list", summary="List programs", guards=[requires(Role.VIEWER)])
async def list_programs(
    checkin_programs: NamedDependency[CheckinPrograms],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[CheckinProgram]:
    """Programs in any state, newest first."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await checkin_programs.page(state=only, before=before, limit=limit + 1)
    return page_of(found, limit, lambda program: (program.program_id,))


@get("/{program_id:str}", operation_id="admin_checkin_programs_get", summary="Get one", guards=[requires(Role.VIEWER)])
async def get_program(
    program_id: PathUuid, checkin_programs: NamedDependency[CheckinPrograms]
) -> Response[CheckinProgram]:
    """The ETag is the version that PUT asks for in If-Match."""
    return versioned(await checkin_programs.find(program_id))


@put("/{program_id:str}", operation_id="admin_checkin_programs_change", summary="Edit", guards=[requires(Role.EDITOR)])
async def change_program(
    program_id: PathUuid,
    data: JSONBody[CheckinDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    checkin_programs: NamedDependency[CheckinPrograms],
) -> Response[CheckinProgram]:
    """Replaces all fields, from the next check-in on: what days earned, and which of them broke a streak, stays."""
    return versioned(await checkin_programs.change(act_of(request, operator), program_id, if_match(request), data))


def _step(name: Literal["publish", "pause", "resume", "end"], told: str) -> Any:
    @post(
        f"/{{program_id:str}}/{name}",
        status_code=200,
        operation_id=f"admin_checkin_programs_{name}",
        summary=told,
        guards=[requires(Role.EDITOR)],
        name=f"admin_checkin_programs_{name}",
    )
    async def take_step(
        program_id: PathUuid,
        request: Request[Any, Any, Any],
        operator: NamedDependency[Operator],
        checkin_programs: NamedDependency[CheckinPrograms],
    ) -> Response[CheckinProgram]:
        steps = {
            "publish": checkin_programs.publish,
            "pause": checkin_programs.pause,
            "resume": checkin_programs.resume,
            "end": checkin_programs.end,
        }
        return versioned(await steps[name](act_of(request, operator), program_id))

    return take_step


@post(
    "/{program_id:str}/dry-run",
    status_code=200,
    operation_id="admin_checkin_programs_dry_run",
    summary="See what a check-in would get, and why",
    guards=[requires(Role.VIEWER)],
)
async def dry_run(
    program_id: PathUuid, data: JSONBody[CheckinDryRunRequest], checkin_programs: NamedDependency[CheckinPrograms]
) -> CheckinDryRun:
    """Changes nothing. A draft is tried as if it had been published in time."""
    at = data.now or clock.now()
    return await checkin_programs.dry_run(program_id, data.user_id, at, every_day=data.every_day)


@get(
    "/{program_id:str}/stats",
    operation_id="admin_checkin_programs_stats",
    summary="Numbers",
    guards=[requires(Role.VIEWER)],
)
async def get_stats(program_id: PathUuid, checkin_programs: NamedDependency[CheckinPrograms]) -> CheckinStats:
    """Check-ins by day, streaks by length, rewards by kind."""
    return await checkin_programs.stats(program_id, clock.now())


router = Router(
    path="/admin/v1/check-in-programs",
    route_handlers=[
        create_program,
        list_programs,
        get_program,
        change_program,
        _step("publish", "Let a program begin on its first day"),
        _step("pause", "Stop check-ins for now; no streak breaks"),
        _step("resume", "Let check-ins go on"),
        _step("end", "End for good"),
        dry_run,
        get_stats,
    ],
    tags=["Operators: check-in programs"],
)
