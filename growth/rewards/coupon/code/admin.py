"""Operators' HTTP of printed codes."""

from typing import Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from growth.plumbing.http.answers import (
    CSV_MEDIA_TYPE,
    DEFAULT_PAGE,
    REPLAYED_HEADER,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUuid,
    csv_bytes,
    decode_cursor,
    idempotency_key,
    page_of,
    wants_csv,
)
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.operators import act_of, requires
from growth.rewards.coupon.code.model import CodeBatch, CodeBatchDraft, MadeCodes
from growth.rewards.coupon.code.service import Codes
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import Uuid
from growth.vocabulary.text import Reason


class Revoking(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator makes codes worth nothing; kept in the audit."""

    reason: Reason


@post(
    "/coupon-templates/{template_id:str}/code-batches",
    operation_id="admin_coupon_code_batch_create",
    summary="Create coupon codes",
    guards=[requires(Role.EDITOR)],
)
async def make_codes(
    template_id: PathUuid,
    data: JSONBody[CodeBatchDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    coupon_codes: NamedDependency[Codes],
) -> Response[MadeCodes]:
    """201 with the codes, as JSON or (`Accept: text/csv`) as a file: keep it, they are never shown again.

    Only hashes are stored. If the answer is lost, revoke the batch and make another. Their units are kept from the
    quota; 409 if the template has not as many left.
    """
    content = fingerprint(template_id, msgspec.json.encode(data))
    made = await coupon_codes.make(act_of(request, operator), template_id, data, idempotency_key(request), content)
    headers = {"Cache-Control": "no-store"}
    if made.replayed:
        headers[REPLAYED_HEADER] = "true"
    if wants_csv(request):
        file = csv_bytes(["code"], [[code] for code in made.answer.codes])
        return Response(file, media_type=CSV_MEDIA_TYPE, status_code=201, headers=headers)  # type: ignore[arg-type]
    return JsonResponse(made.answer, status_code=201, headers=headers)


@get(
    "/coupon-templates/{template_id:str}/code-batches",
    operation_id="admin_coupon_code_batch_list",
    summary="List batches of coupon codes",
    guards=[requires(Role.VIEWER)],
)
async def list_batches(
    template_id: PathUuid,
    coupon_codes: NamedDependency[Codes],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[CodeBatch]:
    """Newest first; how many were redeemed, never the codes."""
    position = decode_cursor(cursor, tuple[Uuid])
    found = await coupon_codes.page(template_id, None if position is None else position[0], limit + 1)
    return page_of(found, limit, lambda batch: (batch.batch_id,))


@post(
    "/code-batches/{batch_id:str}/revoke",
    status_code=200,
    operation_id="admin_coupon_code_batch_revoke",
    summary="Revoke a batch of coupon codes",
    guards=[requires(Role.EDITOR)],
)
async def revoke_batch(
    batch_id: PathUuid,
    data: JSONBody[Revoking],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    coupon_codes: NamedDependency[Codes],
) -> CodeBatch:
    """Coupons that were redeemed already stay good; units of the other codes are free again."""
    return await coupon_codes.revoke(act_of(request, operator, data.reason), batch_id)


router = Router(path="/admin/v1", route_handlers=[make_codes, list_batches, revoke_batch], tags=["Operators: coupons"])
