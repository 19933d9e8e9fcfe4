"""Operators' HTTP of referral programs."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.mechanics.referral.model import ReferralDraft, ReferralProgram, State
from growth.mechanics.referral.service import BindingDryRun, ProgramStats, ReferralPrograms
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
from growth.vocabulary.names import MAX_TYPED_CHARACTERS

StateFilter = Annotated[State | None, QueryParameter(name="state", description="Only programs in this state.")]
AcceptWarnings = Annotated[
    bool, QueryParameter(description="The warnings of the compliance check were read, and the program goes live.")
]


class BindingDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who would send which code, and when."""

    user_id: ShopperId
    code: Annotated[str, Meta(min_length=1, max_length=MAX_TYPED_CHARACTERS)]
    now: Instant | None = None
    """The moment to try; now, if left out."""


@post("", operation_id="admin_referral_programs_create", summary="Draft a program", guards=[requires(Role.EDITOR)])
async def create_program(
    data: JSONBody[ReferralDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    referral_programs: NamedDependency[ReferralPrograms],
) -> Response[ReferralProgram]:
    """Nobody sees a draft; publish it when it is right."""
    content = fingerprint(msgspec.json.encode(data))
    made = await referral_programs.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made.answer, 201, replayed=made.replayed)


@get("", operation_id="admin_referral_programs_list", summary="List programs", guards=[requires(Role.VIEWER)])
async def list_programs(
    referral_programs: NamedDependency[ReferralPrograms],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[ReferralProgram]:
    """Programs in any state, newest first."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await referral_programs.page(state=only, before=before, limit=limit + 1)
    return page_of(found, limit, lambda program: (program.program_id,))


@get("/{program_id:str}", operation_id="admin_referral_programs_get", summary="Get one", guards=[requires(Role.VIEWER)])
async def get_program(
    program_id: PathUuid, referral_programs: NamedDependency[ReferralPrograms]
) -> Response[ReferralProgram]:
    """The ETag is the version that PUT asks for in If-Match."""
    return versioned(await referral_programs.find(program_id))


@put("/{program_id:str}", operation_id="admin_referral_programs_change", summary="Edit", guards=[requires(Role.EDITOR)])
async def change_program(
    program_id: PathUuid,
    data: JSONBody[ReferralDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    referral_programs: NamedDependency[ReferralPrograms],
    accept_warnings: AcceptWarnings = False,  # noqa: FBT002 - a query parameter
) -> Response[ReferralProgram]:
    """Replaces all fields. Orders keep the terms of the moment they were paid at; relations keep their end."""
    act = act_of(request, operator)
    return versioned(
        await referral_programs.change(act, program_id, if_match(request), data, accept_warnings=accept_warnings)
    )


@post(
    "/{program_id:str}/publish",
    status_code=200,
    operation_id="admin_referral_programs_publish",
    summary="Let a draft go live",
    guards=[requires(Role.EDITOR)],
)
async def publish(
    program_id: PathUuid,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    referral_programs: NamedDependency[ReferralPrograms],
    accept_warnings: AcceptWarnings = False,  # noqa: FBT002 - a query parameter
) -> Response[ReferralProgram]:
    """409 `referral.not_compliant` with `findings`: what a platform or the law forbids, or asks to think of."""
    return versioned(
        await referral_programs.publish(act_of(request, operator), program_id, accept_warnings=accept_warnings)
    )


def _step(name: Literal["pause", "resume", "end"], told: str) -> Any:
    @post(
        f"/{{program_id:str}}/{name}",
        status_code=200,
        operation_id=f"admin_referral_programs_{name}",
        summary=told,
        guards=[requires(Role.EDITOR)],
        name=f"admin_referral_programs_{name}",
    )
    async def take_step(
        program_id: PathUuid,
        request: Request[Any, Any, Any],
        operator: NamedDependency[Operator],
        referral_programs: NamedDependency[ReferralPrograms],
    ) -> Response[ReferralProgram]:
        steps = {"pause": referral_programs.pause, "resume": referral_programs.resume, "end": referral_programs.end}
        return versioned(await steps[name](act_of(request, operator), program_id))

    return take_step


@post(
    "/{program_id:str}/dry-run",
    status_code=200,
    operation_id="admin_referral_programs_dry_run",
    summary="See what sending a code would get, and why",
    guards=[requires(Role.VIEWER)],
)
async def dry_run(
    program_id: PathUuid, data: JSONBody[BindingDryRunRequest], referral_programs: NamedDependency[ReferralPrograms]
) -> BindingDryRun:
    """Changes nothing. A draft is tried as if it were published."""
    return await referral_programs.dry_run(program_id, data.user_id, data.code, data.now or clock.now())


@get(
    "/{program_id:str}/stats",
    operation_id="admin_referral_programs_stats",
    summary="Numbers",
    guards=[requires(Role.VIEWER)],
)
async def get_stats(program_id: PathUuid, referral_programs: NamedDependency[ReferralPrograms]) -> ProgramStats:
    """Invitees by state, inviters, rewards and milestones."""
    return await referral_programs.stats(program_id, clock.now())


router = Router(
    path="/admin/v1/referral-programs",
    route_handlers=[
        create_program,
        list_programs,
        get_program,
        change_program,
        publish,
        _step("pause", "Bind nobody for now"),
        _step("resume", "Let shoppers be bound again"),
        _step("end", "End for good"),
        dry_run,
        get_stats,
    ],
    tags=["Operators: referrals"],
)
