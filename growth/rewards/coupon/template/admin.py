"""Operators' HTTP of coupon templates."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

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
from growth.rewards.coupon.template.model import CouponDraft, CouponTemplate
from growth.rewards.coupon.template.service import CouponDryRun, CouponStats, Templates
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import ShopperId, Uuid

StateFilter = Annotated[
    Literal["draft", "published", "paused", "ended"] | None,
    QueryParameter(name="state", description="Only templates in this state."),
]


class CouponDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who would take one, and when."""

    user_id: ShopperId
    now: Instant | None = None
    """The moment to try; now, if left out."""


@post("", operation_id="admin_coupon_templates_create", summary="Draft a template", guards=[requires(Role.EDITOR)])
async def create_template(
    data: JSONBody[CouponDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    coupon_templates: NamedDependency[Templates],
) -> Response[CouponTemplate]:
    """Nobody gets coupons of a draft; publish it when it is right."""
    content = fingerprint(msgspec.json.encode(data))
    made = await coupon_templates.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made.answer, 201, replayed=made.replayed)


@get("", operation_id="admin_coupon_templates_list", summary="List templates", guards=[requires(Role.VIEWER)])
async def list_templates(
    coupon_templates: NamedDependency[Templates],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[CouponTemplate]:
    """Templates in any state, newest first."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await coupon_templates.page(state=only, before=before, limit=limit + 1)
    return page_of(found, limit, lambda template: (template.template_id,))


@get("/{template_id:str}", operation_id="admin_coupon_templates_get", summary="Get one", guards=[requires(Role.VIEWER)])
async def get_template(template_id: PathUuid, coupon_templates: NamedDependency[Templates]) -> Response[CouponTemplate]:
    """The ETag is the version that PUT asks for in If-Match."""
    return versioned(await coupon_templates.find(template_id))


@put("/{template_id:str}", operation_id="admin_coupon_templates_change", summary="Edit", guards=[requires(Role.EDITOR)])
async def change_template(
    template_id: PathUuid,
    data: JSONBody[CouponDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    coupon_templates: NamedDependency[Templates],
) -> Response[CouponTemplate]:
    """Replaces all fields. Once published, the promise (discount, threshold, scope, validity, refund) is fixed."""
    return versioned(await coupon_templates.change(act_of(request, operator), template_id, if_match(request), data))


def _step(name: Literal["publish", "pause", "resume", "end"], told: str) -> Any:
    @post(
        f"/{{template_id:str}}/{name}",
        status_code=200,
        operation_id=f"admin_coupon_templates_{name}",
        summary=told,
        guards=[requires(Role.EDITOR)],
        name=f"admin_coupon_templates_{name}",
    )
    async def take_step(
        template_id: PathUuid,
        request: Request[Any, Any, Any],
        operator: NamedDependency[Operator],
        coupon_templates: NamedDependency[Templates],
    ) -> Response[CouponTemplate]:
        steps = {
            "publish": coupon_templates.publish,
            "pause": coupon_templates.pause,
            "resume": coupon_templates.resume,
            "end": coupon_templates.end,
        }
        return versioned(await steps[name](act_of(request, operator), template_id))

    return take_step


@post(
    "/{template_id:str}/dry-run",
    status_code=200,
    operation_id="admin_coupon_templates_dry_run",
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
    operation_id="admin_coupon_templates_stats",
    summary="Numbers",
    guards=[requires(Role.VIEWER)],
)
async def get_stats(template_id: PathUuid, coupon_templates: NamedDependency[Templates]) -> CouponStats:
    """Coupons by state, what they can still take off at most, what was paid where they were used."""
    return await coupon_templates.stats(template_id, clock.now())


router = Router(
    path="/admin/v1/coupon-templates",
    route_handlers=[
        create_template,
        list_templates,
        get_template,
        change_template,
        _step("publish", "Let coupons be given"),
        _step("pause", "Stop new coupons for now"),
        _step("resume", "Let coupons be given again"),
        _step("end", "End for good"),
        dry_run,
        get_stats,
    ],
    tags=["Operators: coupons"],
)
