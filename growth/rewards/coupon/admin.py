"""Operators' HTTP of coupons: templates, printed codes, and coupons in the hands of shoppers."""

from functools import partial
from typing import Annotated

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.kit.campaign.admin import campaign_routes
from growth.plumbing.http.answers import (
    CSV_MEDIA_TYPE,
    REPLAYED_HEADER,
    AnyRequest,
    JsonResponse,
    Page,
    PathUuid,
    csv_bytes,
    idempotency_key,
    wants_csv,
)
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.listing import Listing
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import Instant
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.code.model import CodeBatch, CodeBatchDraft, MadeCodes
from growth.rewards.coupon.code.service import Codes
from growth.rewards.coupon.model import Coupon, CouponFilter, CouponState
from growth.rewards.coupon.service import Coupons
from growth.rewards.coupon.template.model import TEMPLATES
from growth.rewards.coupon.template.service import CouponDryRun, CouponStats, Templates
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, UUID_PATTERN, ShopperId
from growth.vocabulary.text import Reason


class CouponDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who would take one, and when."""

    user_id: ShopperId
    now: Instant | None = None
    """The moment to try; now, if left out."""


@for_operators(
    post,
    "/{template_id:str}/dry-run",
    "admin_coupon_template_dry_run",
    "See what taking a coupon would get, and why",
    Role.VIEWER,
)
async def dry_run(
    template_id: PathUuid, data: JSONBody[CouponDryRunRequest], coupon_templates: NamedDependency[Templates]
) -> CouponDryRun:
    """Changes nothing."""
    return await coupon_templates.dry_run(template_id, data.user_id, data.now or clock.now())


@for_operators(
    get,
    "/{template_id:str}/stats",
    "admin_coupon_template_stats_get",
    "Get the numbers of a coupon template",
    Role.VIEWER,
)
async def get_stats(template_id: PathUuid, coupon_templates: NamedDependency[Templates]) -> CouponStats:
    """Coupons by state, what they can still take off at most, what was paid where they were used."""
    return await coupon_templates.stats(template_id, clock.now())


class Revoking(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator makes codes worth nothing; kept in the audit."""

    reason: Reason


@for_operators(
    post,
    "/coupon-templates/{template_id:str}/code-batches",
    "admin_coupon_code_batch_create",
    "Create coupon codes",
    Role.EDITOR,
    status_code=201,
)
async def make_codes(
    template_id: PathUuid,
    data: JSONBody[CodeBatchDraft],
    request: AnyRequest,
    act: NamedDependency[Act],
    coupon_codes: NamedDependency[Codes],
) -> Response[MadeCodes]:
    """201 with the codes, as JSON or (`Accept: text/csv`) as a file: keep it, they are never shown again.

    Only hashes are stored. If the answer is lost, revoke the batch and make another. Their units are kept from the
    quota; 409 if the template has not as many left.
    """
    content = fingerprint(template_id, msgspec.json.encode(data))
    made = await coupon_codes.make(act, template_id, data, idempotency_key(request), content)
    headers = {"Cache-Control": "no-store"}
    if made.replayed:
        headers[REPLAYED_HEADER] = "true"
    if wants_csv(request):
        file = csv_bytes(["code"], [[code] for code in made.answer.codes])
        return Response(file, media_type=CSV_MEDIA_TYPE, status_code=201, headers=headers)  # type: ignore[arg-type]
    return JsonResponse(made.answer, status_code=201, headers=headers)


@for_operators(
    get,
    "/coupon-templates/{template_id:str}/code-batches",
    "admin_coupon_code_batch_list",
    "List batches of coupon codes",
    Role.VIEWER,
)
async def list_batches(
    template_id: PathUuid, listing: NamedDependency[Listing], coupon_codes: NamedDependency[Codes]
) -> Page[CodeBatch]:
    """Newest first; how many were redeemed, never the codes."""
    return await listing.paged("batch_id", partial(coupon_codes.page, template_id))


@for_operators(
    post,
    "/code-batches/{batch_id:str}/revoke",
    "admin_coupon_code_batch_revoke",
    "Revoke a batch of coupon codes",
    Role.EDITOR,
)
async def revoke_batch(
    batch_id: PathUuid, data: JSONBody[Revoking], act: NamedDependency[Act], coupon_codes: NamedDependency[Codes]
) -> CodeBatch:
    """Coupons that were redeemed already stay good; units of the other codes are free again."""
    return await coupon_codes.revoke(act.why(data.reason), batch_id)


TemplateFilter = Annotated[str | None, QueryParameter(pattern=UUID_PATTERN, description="Only of this template.")]
UserFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this shopper.")]
OrderFilter = Annotated[
    str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only what this order has, locked or used.")
]
StateFilter = Annotated[CouponState | None, QueryParameter(name="state", description="Only in this state.")]


class Voiding(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator takes a coupon back; kept in the audit."""

    reason: Reason


@for_operators(get, "/coupons", "admin_coupon_list", "List coupons", Role.VIEWER)
async def list_coupons(
    listing: NamedDependency[Listing],
    coupons: NamedDependency[Coupons],
    template_id: TemplateFilter = None,
    user_id: UserFilter = None,
    only: StateFilter = None,
    order_id: OrderFilter = None,
) -> Response[Page[Coupon]]:
    """In the order of their ids. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""
    which = CouponFilter(template_id=template_id, user_id=user_id, state=only, order_id=order_id)
    return await listing.listed(Coupon, "coupon_id", partial(coupons.page, which))


@for_operators(post, "/coupons/{coupon_id:str}/void", "admin_coupon_void", "Void a coupon", Role.EDITOR)
async def void_coupon(
    coupon_id: PathUuid, data: JSONBody[Voiding], act: NamedDependency[Act], coupons: NamedDependency[Coupons]
) -> Coupon:
    """An unused one is void at once; one that an order has, if the order gives it back. 409 for an expired one."""
    return await coupons.void(act.why(data.reason), coupon_id)


templates_router = Router(
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
router = Router(
    path="/admin/v1",
    route_handlers=[make_codes, list_batches, revoke_batch, list_coupons, void_coupon],
    tags=["Operators: coupons"],
)
