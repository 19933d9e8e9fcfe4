"""Operators' HTTP of referral programs."""

from typing import Annotated

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from growth.kit.campaign.admin import campaign_routes
from growth.mechanics.referral import model
from growth.mechanics.referral.model import PROGRAMS
from growth.mechanics.referral.service import BindingDryRun, ProgramStats, ReferralPrograms
from growth.plumbing.http.answers import PathUuid
from growth.plumbing.http.operators import requires
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import ShopperId
from growth.vocabulary.names import MAX_TYPED_CHARACTERS


class BindingDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who would send which code, and when."""

    user_id: ShopperId
    code: Annotated[str, Meta(min_length=1, max_length=MAX_TYPED_CHARACTERS)]
    now: Instant | None = None
    """The moment to try; now, if left out."""


@post(
    "/{program_id:str}/dry-run",
    status_code=200,
    operation_id="admin_referral_program_dry_run",
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
    operation_id="admin_referral_program_stats_get",
    summary="Get the numbers of a referral program",
    guards=[requires(Role.VIEWER)],
)
async def get_stats(program_id: PathUuid, referral_programs: NamedDependency[ReferralPrograms]) -> ProgramStats:
    """Invitees by state, inviters, rewards and milestones."""
    return await referral_programs.stats(program_id, clock.now())


router = Router(
    path="/admin/v1/referral-programs",
    route_handlers=[
        *campaign_routes(
            PROGRAMS,
            ReferralPrograms,
            "referral_programs",
            "admin_referral_program",
            told={
                "create": "Nobody sees a draft; publish it when it is right.",
                "change": "Replaces all fields. Orders keep the terms of the moment they were paid at; relations keep"
                " their end.",
                "publish": "From now on it is the one that binds and pays.",
                "pause": "Binds nobody meanwhile. Relations there are go on earning.",
                "resume": "Shoppers are bound again.",
                "end": "Orders paid from now on earn nothing; what was earned takes its course.",
            },
            raises={"publish": [model.OTHER_IS_LIVE]},
        ),
        dry_run,
        get_stats,
    ],
    tags=["Operators: referrals"],
)
