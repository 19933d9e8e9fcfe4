"""Operators' HTTP of relations."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.mechanics.referral.correction.model import ReferralRelation, RelationFilter
from growth.mechanics.referral.correction.service import Corrections
from growth.mechanics.referral.relation.model import RelationState
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    REPLAYED_HEADER,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUuid,
    idempotency_key,
)
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.listing import listed
from growth.plumbing.http.operators import act_of, requires
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, UUID_PATTERN, ForeignId

InviterFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this inviter.")]
InviteeFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this invitee.")]
ProgramFilter = Annotated[str | None, QueryParameter(pattern=UUID_PATTERN, description="Only bound under this one.")]
RelationStateFilter = Annotated[RelationState | None, QueryParameter(name="state", description="Only in this state.")]
SuspectedFilter = Annotated[bool | None, QueryParameter(description="Only with signs of one person's two accounts.")]
Reason = Literal["fraud", "mistake", "shopper_request", "other"]


class RelationEnding(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator ends a relation."""

    reason: Reason


class Rebinding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is bound to whom, and why by hand."""

    invitee_id: ForeignId
    inviter_id: ForeignId
    reason: Reason


@get(
    "/referral-relations",
    operation_id="admin_referral_relation_list",
    summary="List referral relations",
    guards=[requires(Role.VIEWER)],
)
async def list_relations(
    request: Request[Any, Any, Any],
    referral_corrections: NamedDependency[Corrections],
    inviter_id: InviterFilter = None,
    invitee_id: InviteeFilter = None,
    program_id: ProgramFilter = None,
    only: RelationStateFilter = None,
    suspected: SuspectedFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[ReferralRelation]]:
    """Newest first. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""
    filters = RelationFilter(
        inviter_id=inviter_id, invitee_id=invitee_id, program_id=program_id, state=only, is_suspected=suspected
    )

    async def read(after: str | None, most: int) -> Sequence[ReferralRelation]:
        return await referral_corrections.page(filters, after, most)

    return await listed(request, cursor, limit, ReferralRelation, "relation_id", read)


@post(
    "/referral-relations/{relation_id:str}/end",
    status_code=200,
    operation_id="admin_referral_relation_end",
    summary="End a referral relation",
    guards=[requires(Role.EDITOR)],
)
async def end_relation(
    relation_id: PathUuid,
    data: JSONBody[RelationEnding],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    referral_corrections: NamedDependency[Corrections],
) -> ReferralRelation:
    """Orders paid from now on earn its inviter nothing; what was earned stays."""
    return await referral_corrections.end(act_of(request, operator, data.reason), relation_id, data.reason)


@post(
    "/referral-relations",
    operation_id="admin_referral_relation_rebind",
    summary="Bind a shopper to an inviter",
    guards=[requires(Role.EDITOR)],
)
async def rebind(
    data: JSONBody[Rebinding],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    referral_corrections: NamedDependency[Corrections],
) -> Response[ReferralRelation]:
    """Also who is no newcomer: then without a first order. A relation that is there ends for the same reason.

    Takes an admin where the program gives money: it says who earns.
    """
    made = await referral_corrections.rebind(
        act_of(request, operator, data.reason),
        data.invitee_id,
        data.inviter_id,
        data.reason,
        idempotency_key(request),
        fingerprint(msgspec.json.encode(data)),
    )
    headers = {REPLAYED_HEADER: "true"} if made.replayed else {}
    return JsonResponse(made.answer, status_code=201, headers=headers)


router = Router(path="/admin/v1", route_handlers=[list_relations, end_relation, rebind], tags=["Operators: referrals"])
