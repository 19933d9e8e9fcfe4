"""Operators' HTTP of coupon templates."""

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from growth.kit.campaign.admin import campaign_routes
from growth.plumbing.http.answers import PathUuid
from growth.plumbing.http.operators import requires
from growth.plumbing.strict_json import Instant
from growth.rewards.coupon.template.model import TEMPLATES
from growth.rewards.coupon.template.service import CouponDryRun, CouponStats, Templates
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import ShopperId


class CouponDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who would take one, and when."""

    user_id: ShopperId
    now: Instant | None = None
    """The moment to try; now, if left out."""


@post(
    "/{template_id:str}/dry-run",
    status_code=200,
    operation_id="admin_coupon_template_dry_run",
    summary="See what taking a coupon would get, and why",
    guards=[requires(Role.VIEWER)],
)
async def dry_run(
    template_id: PathUuid, data: JSONBody[CouponDryRunRequest], coupon_templates: NamedDependency[Templates]
) -> CouponDryRun:
    """Changes nothing."""
    return await coupon_templates.dry_run(template_id, data.user_id, data.now or clock.now())


@get(
    "/{template_id:str}/stats",
    operation_id="admin_coupon_template_stats_get",
    summary="Get the numbers of a coupon template",
    guards=[requires(Role.VIEWER)],
)
async def get_stats(template_id: PathUuid, coupon_templates: NamedDependency[Templates]) -> CouponStats:
    """Coupons by state, what they can still take off at most, what was paid where they were used."""
    return await coupon_templates.stats(template_id, clock.now())


router = Router(
    path="/admin/v1/coupon-templates",
    route_handlers=[
        *campaign_routes(
            TEMPLATES,
            Templates,
            "coupon_templates",
            "admin_coupon_template",
            told={
                "create": "Nobody gets coupons of a draft; publish it when it is right.",
                "change": "Replaces all fields. Once published, the promise (discount, threshold,"
                " scope, validity, refund) is fixed.",
                "publish": "Coupons can be taken and granted from now on.",
                "pause": "No new coupons, nor any that campaigns grant; what shoppers have is as good as before.",
                "resume": "Coupons can be taken and granted again.",
                "end": "No new coupons; what shoppers have is as good as before.",
            },
        ),
        dry_run,
        get_stats,
    ],
    tags=["Operators: coupons"],
)
