"""Operators' HTTP of check-in programs."""

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from growth.kit.campaign.admin import campaign_routes
from growth.mechanics.checkin import model
from growth.mechanics.checkin.dry_run import CheckinDryRun
from growth.mechanics.checkin.model import PROGRAMS
from growth.mechanics.checkin.service import CheckinPrograms, CheckinStats
from growth.plumbing.http.answers import PathUuid
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import Instant
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import ShopperId


class CheckinDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose check-in to try, and when."""

    user_id: ShopperId
    now: Instant | None = None
    """The moment to try; now, if left out."""
    every_day: bool = False
    """As if the shopper checked in on every day from today, or from the program's first day, until then."""


@for_operators(
    post,
    "/{program_id:str}/dry-run",
    "admin_checkin_program_dry_run",
    "See what a check-in would get, and why",
    Role.VIEWER,
)
async def dry_run(
    program_id: PathUuid, data: JSONBody[CheckinDryRunRequest], checkin_programs: NamedDependency[CheckinPrograms]
) -> CheckinDryRun:
    """Changes nothing. A draft is tried as if it had been published in time."""
    at = data.now or clock.now()
    return await checkin_programs.dry_run(program_id, data.user_id, at, every_day=data.every_day)


@for_operators(
    get,
    "/{program_id:str}/stats",
    "admin_checkin_program_stats_get",
    "Get the numbers of a check-in program",
    Role.VIEWER,
)
async def get_stats(program_id: PathUuid, checkin_programs: NamedDependency[CheckinPrograms]) -> CheckinStats:
    """Check-ins by day, streaks by length, rewards by kind."""
    return await checkin_programs.stats(program_id, clock.now())


router = Router(
    path="/admin/v1/check-in-programs",
    route_handlers=[
        *campaign_routes(
            PROGRAMS,
            CheckinPrograms,
            "checkin_programs",
            "admin_checkin_program",
            told={
                "create": "Nobody sees a draft; try it with a dry run, and publish it when it is right.",
                "change": "Replaces all fields, from the next check-in on: what days earned, and"
                " which of them broke a streak, stays.",
                "publish": "It begins on its first day.",
                "pause": "No check-ins are taken meanwhile, and no streak breaks.",
                "resume": "Check-ins are taken again.",
                "end": "Streaks stay, and go on with the next program.",
            },
            raises={"change": [model.OVERLAP], "publish": [model.OVERLAP]},
        ),
        dry_run,
        get_stats,
    ],
    tags=["Operators: check-in programs"],
)
